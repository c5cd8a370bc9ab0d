"""What the endpoints of the API and of the pages share: routes, bodies, event streams, tensors, tokens."""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from crawl2chat.serve.api.requests import Strict, parse
from crawl2chat.serve.errors import ApiError, internal_error, log_failure
from crawl2chat.tokenizer import Tokenizer

LONG_BODY = 1 << 16  # bytes beyond which a body is read outside the event loop
ALIGNMENT = 8  # bytes, so that a browser can look at each array where it lies
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")  # that JavaScript has arrays of

Result = TypeVar("Result")
Handler = TypeVar("Handler", bound=Callable[..., Any])


def get(path: str) -> Callable[[Handler], Handler]:
    """Mark a method `(self, request)` as the endpoint at this address; see `routes_of`."""
    return _mark("GET", path, None)


def post(path: str, kind: type[Strict]) -> Callable[[Handler], Handler]:
    """Mark a method `(self, request, body)` as the endpoint at this address, for bodies of this kind."""
    return _mark("POST", path, kind)


def _mark(method: str, path: str, kind: type[Strict] | None) -> Callable[[Handler], Handler]:
    def mark(handler: Handler) -> Handler:
        handler.endpoint = method, path, kind  # type: ignore[attr-defined]
        return handler

    return mark


def routes_of(page: object) -> list[Route]:
    """Routes to the methods of an object that `get` and `post` have marked.

    Each returns a response, or an object that is sent as JSON. As in Starlette, one that is not `async` runs in a
    thread, so that the event loop goes on meanwhile.
    """
    return [
        _route(getattr(page, name), *function.endpoint)
        for name, function in vars(type(page)).items()
        if hasattr(function, "endpoint")
    ]


def _route(handler: Callable[..., Any], method: str, path: str, kind: type[Strict] | None) -> Route:
    async def endpoint(request: Request) -> Response:
        arguments: list[Any] = [request]
        if kind is not None:
            content = await request.body()
            arguments.append(await run_in_thread_if_long(request, lambda: parse(kind, content)))
        is_async = inspect.iscoroutinefunction(handler)
        answer = await handler(*arguments) if is_async else await asyncio.to_thread(handler, *arguments)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Route(path, endpoint, methods=[method])


async def run_in_thread_if_long(request: Request, work: Callable[[], Result]) -> Result:
    """The result of work on a request's body; of a long one it is done in a thread, so that the event loop goes on."""
    return await asyncio.to_thread(work) if len(await request.body()) > LONG_BODY else work()


async def cancel_on_disconnect(request: Request, work: Awaitable[Response]) -> Response:
    """The result, or none as soon as the client has hung up."""
    answer = asyncio.ensure_future(work)
    hung_up = asyncio.ensure_future(_disconnect(request.receive))
    try:
        await asyncio.wait({answer, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        request.scope["outcome"] = "gone"
        return Response(status_code=499)  # which nobody reads
    finally:
        answer.cancel()
        hung_up.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def client_address(request: Request) -> str | None:
    """Whom a request counts for where clients take turns: an address, as all clients have the same key."""
    return request.client.host if request.client else None


class EventStream(StreamingResponse):
    """Server-sent events in JSON; the last one is `[DONE]`, or an error where something failed.

    events: yields those that are ready together, or none as a sign of life while a client waits.
    close: called however the stream ends, with its last event or with its client.
    """

    def __init__(
        self, events: AsyncGenerator[Sequence[Mapping[str, Any]], None], close: Callable[[], None] = lambda: None
    ) -> None:
        self._events, self._close = events, close
        self._scope: Scope = {}
        super().__init__(self._frames(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        try:
            async for events in self._events:
                yield b"".join(map(event_frame, events)) or b": ping\n\n"
            yield b"data: [DONE]\n\n"
        except ApiError as error:
            self._scope["outcome"] = "failed"
            yield event_frame(error.body())
        except Exception as error:
            self._scope["outcome"] = "failed"
            log_failure("a stream failed", error)
            yield event_frame(internal_error().body())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, ended = scope, False

        async def watched(message: Message) -> None:
            nonlocal ended
            await send(message)
            ended = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await super().__call__(scope, receive, watched)
        finally:
            if not ended:
                scope["outcome"] = "gone"
            self._close()
            await self._events.aclose()


def event_frame(content: Mapping[str, Any]) -> bytes:
    """One event: a line of JSON, whatever the text in it holds."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


def tensors(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Response:
    """Numbers as one binary body: what a page draws in a moment would take seconds as nested lists of JSON.

    Four bytes (little-endian: the length of the header), a header in JSON, and the arrays. The header gains `arrays`:
    name, dtype, shape of each, and offset from the beginning of the first one; `web/common/tensors.js` reads it.
    float16 becomes float32, which JavaScript knows. Raises TypeError for other dtypes that it does not know.
    """
    sent = [
        (name, np.ascontiguousarray(array.astype(np.float32) if array.dtype == np.float16 else array))
        for name, array in arrays.items()
    ]
    layout, offset = [], 0
    for name, array in sent:
        if array.dtype.name not in DTYPES:
            raise TypeError(f"{name} has dtype {array.dtype}; expected one of {', '.join(DTYPES)}")
        layout.append({"name": name, "dtype": array.dtype.name, "shape": array.shape, "offset": offset})
        offset += array.nbytes + -array.nbytes % ALIGNMENT
    head = json.dumps({**header, "arrays": layout}, ensure_ascii=False, allow_nan=False).encode()
    head += b" " * (-(4 + len(head)) % ALIGNMENT)
    body = bytearray(len(head).to_bytes(4, "little") + head)
    for _, array in sent:
        body += array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        body += b"\0" * (-array.nbytes % ALIGNMENT)
    return Response(bytes(body), media_type="application/octet-stream")


def describe_token(tokenizer: Tokenizer, id: int) -> dict[str, Any]:
    """A token's text, None where its bytes are only a part of a character, and its bytes in hexadecimal."""
    content = tokenizer.decode_bytes([id])
    try:
        text: str | None = content.decode()
    except UnicodeDecodeError:
        text = None
    return {"id": id, "text": text, "bytes": content.hex(), "control": id in tokenizer.controls.values()}


def describe_tokens(tokenizer: Tokenizer, ids: Iterable[int]) -> list[dict[str, Any]]:
    return [describe_token(tokenizer, id) for id in ids]
