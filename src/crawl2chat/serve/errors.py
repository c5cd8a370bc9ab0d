"""What is said when a request is not answered, in the form in which OpenAI's clients look for it."""

import logging
import traceback

from starlette.responses import JSONResponse

log = logging.getLogger("crawl2chat.serve")


class ApiError(Exception):
    """A request that is not answered: the status, what to tell the client, and the field that it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    def body(self) -> dict[str, dict[str, str | None]]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The client's mistake."""
    return ApiError(400, message, param=param, code=code)


def failed() -> ApiError:
    """Ours. What went wrong stands in the log; the client can do nothing with it."""
    return ApiError(500, "the server failed at this request; its log says where", code="internal_error")


def log_failure(what: str, error: BaseException) -> None:
    """Where it happened and of which type it is, but not its message, which may quote a conversation.

    torch's errors (RuntimeError and its kin) speak of shapes and memory, never of text, so theirs is told.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    told = f": {error}" if type(error).__module__.startswith("torch") or type(error) is RuntimeError else ""
    log.error("%s\n%s%s%s", what, frames, type(error).__name__, told)
