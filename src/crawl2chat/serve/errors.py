"""Errors as responses, in the form in which OpenAI's clients look for them."""

import html
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from crawl2chat.stages.files import StageError

log = logging.getLogger("crawl2chat.serve")

NOT_FOUND_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Page not found</title><link rel="stylesheet" href="/web/style.css"></head>
<body><main><h1>Page not found</h1><p>There is nothing at <code>{path}</code>.</p>
<p><a href="/">Go to the start page</a></p></main></body></html>
"""


class ApiError(Exception):
    """A request that is refused or failed: the status, a message for the client, and the field that it is about."""

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


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def internal_error() -> ApiError:
    """A fault of ours. The log has the details, with which a client can do nothing."""
    return ApiError(500, "the server failed at this request; its log says where", code="internal_error")


def shutting_down() -> ApiError:
    return ApiError(503, "the server is shutting down", code="shutting_down", headers={"Connection": "close"})


def engine_broken() -> ApiError:
    return ApiError(503, "the engine is broken; restart the server", code="engine_broken")


def model_unloaded() -> ApiError:
    return ApiError(
        503, "the model was put away to make room for another one; try again", code="model_not_loaded",
        headers={"Retry-After": "1"},
    )  # fmt: skip


@contextmanager
def file_errors() -> Iterator[None]:
    """Report what is wrong with files of the run as an ApiError: it is for people to know."""
    try:
        yield
    except StageError as error:
        raise ApiError(409, str(error), code="not_possible") from error
    except OSError as error:
        raise ApiError(409, f"{Path(error.filename or '').name}: {error.strerror}", code="not_possible") from error


async def api_error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def http_error_response(request: Request, error: Exception) -> Response:
    """Starlette's own errors, such as an address without an endpoint; a browser's address bar gets a page."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    if error.status_code == 404 and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        policy = {
            "Content-Security-Policy": "default-src 'none'; style-src 'self'",
            "X-Content-Type-Options": "nosniff",
        }
        return HTMLResponse(NOT_FOUND_PAGE.format(path=html.escape(path)), 404, policy)
    where = f"{request.method[:10]} {path}"
    message = f"{where}: no such route" if error.status_code == 404 else f"{where}: {error.detail}"
    return ApiError(error.status_code, message, headers=dict(error.headers or {})).response()


def log_failure(what: str, error: BaseException) -> None:
    """Log where an error happened and its type, but not its message, which may quote a conversation.

    Errors of torch (RuntimeError and its kin) name shapes and memory, never text, so their message is logged.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    is_torch = type(error).__module__.startswith("torch") or type(error) is RuntimeError
    log.error("%s\n%s%s%s", what, frames, type(error).__name__, f": {error}" if is_torch else "")
