"""Middleware and protocol: who may use the server, how much and how slowly they may send, and what is logged.

Nothing of a conversation is ever logged: neither bodies nor queries nor the messages of exceptions.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

import h11
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from crawl2chat.serve.admission import Metrics
from crawl2chat.serve.errors import ApiError, internal_error, log_failure

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
BODY_BYTES = 4 << 20  # of a request; a context of 32k tokens as ids is some 0.2 MB
BODIES_BYTES = 256 << 20  # of all requests that are being read or answered
DRAINED_BYTES = 64 << 20  # that are read and thrown away so that a client hears why it is refused
BODY_SECONDS = 20.0  # for a body to arrive
HEAD_SECONDS = 10.0  # for a request's line and headers to arrive
UNREAD_SECONDS = 60.0  # that a client may leave unread what we write
ROUTES = (
    "/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize", "/detokenize", "/tokenizer_info", "/health",
    "/metrics", "/app", "/web",
)  # fmt: skip
PAGES = (
    "/", "/lecture", "/data", "/tokens", "/training", "/base", "/sampling", "/inside", "/chat", "/honesty",
    "/thinking", "/rollouts", "/ranking", "/preferences", "/runs",
)  # fmt: skip
KEYLESS = frozenset(("/health", *PAGES))  # and the pages' own files, which hold nothing but the way to ask for a key

access = logging.getLogger("crawl2chat.serve.access")


def middleware(
    metrics: Metrics, *, hosts: Iterable[str], key: str | None = None, origins: Sequence[str] = ()
) -> list[Middleware]:
    """What each request passes before the app, the outermost first.

    hosts: names that requests may have for this server, in addition to loopback. key: what clients must send.
    origins: of pages that may read answers in a browser, as `read_origin` returns them. Refusals and failures carry the
    CORS headers as well, or the page could not read why.
    """
    cors = Middleware(
        CORSMiddleware, allow_origins=origins, allow_methods=("GET", "POST"), allow_headers=("*",),
        allow_private_network=True, expose_headers=("Retry-After", "WWW-Authenticate"),
    )  # fmt: skip
    return [
        Middleware(AccessLog, metrics=metrics),
        *([cors] if origins else []),
        Middleware(FailureResponse),
        Middleware(AccessControl, hosts=hosts, key=key, origins=origins),
        Middleware(BodyLimit),
    ]


class AccessLog:
    """Counts and logs each request, by its route and by what became of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no websockets here
            return await send({"type": "websocket.close", "code": 1000})
        began, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # some clients end every address with a slash, or put a path with one behind an address with one
        scope["path"] = "/" + "/".join(filter(None, scope["path"].split("/")))
        await self.app(scope, receive, watched)
        outcome = scope.get("outcome") or _outcome(status)
        route = next((route for route in ROUTES if scope["path"].startswith(route)), "other")
        self.metrics.requests.labels(route, outcome).inc()
        client = (scope.get("client") or ["?"])[0]
        milliseconds = 1000 * (time.perf_counter() - began)
        access.info("%s %s %s %d %s %.0f ms", client, scope["method"][:10], route, status, outcome, milliseconds)


class FailureResponse:
    """Answers for whatever fails behind it, and logs where."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            scope["outcome"] = "gone"
        except Exception as error:
            log_failure("a request failed", error)
            scope["outcome"] = "failed"
            if not began:
                await internal_error().response()(scope, receive, send)


class AccessControl:
    """Refuses requests by their host, origin or key."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], key: str | None, origins: Iterable[str]) -> None:
        self.app, self.origins = app, frozenset(origins)
        self.hosts = {*LOOPBACK_NAMES, *(host.lower().strip("[]") for host in hosts)}
        self.key = hashlib.sha256(key.encode()).digest() if key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await read_body(receive, lambda _: refusal)
            await refusal.response()(scope, receive, send)

    def _refusal(self, path: str, headers: dict[str, str]) -> ApiError | None:
        """Why this request is not answered, whatever it holds; None if nothing speaks against it."""
        host = _host_name(headers.get("host", ""))
        if host not in self.hosts and not _address(host):  # a page can't make an address of its own name
            return ApiError(
                403, f"this server is not to be asked as {host[:100]!r} (header Host); start it with --allowed-host "
                "to allow that", code="host_not_allowed",
            )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and not ({origin, "*"} & self.origins or _origin_host(origin) in self.hosts):
            return ApiError(
                403, f"pages of {origin[:100]} may not use this server (header Origin); start it with --allow-origin "
                "to allow that", code="origin_not_allowed",
            )  # fmt: skip
        if self.key is None or path in KEYLESS or path.startswith("/web/"):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode("latin-1")).digest()
        if kind.lower() == "bearer" and hmac.compare_digest(digest, self.key):
            return None
        return ApiError(
            401, "the key is wrong or missing; expected the header Authorization: Bearer KEY", code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip


class BodyLimit:
    """Reads the body of each request before the app sees it, within bounds of size and time."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.bytes_held = 0  # of all requests that are being read or answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()

        def accept(part: bytes) -> ApiError | None:
            if len(body) + len(part) > BODY_BYTES:
                refusal = ApiError(
                    413, f"the body has more than the {BODY_BYTES} bytes that are taken", code="too_large"
                )
            elif self.bytes_held + len(part) > BODIES_BYTES:
                refusal = ApiError(
                    429, "too many requests are being read; try again soon", code="queue_full",
                    headers={"Retry-After": "1"},
                )  # fmt: skip
            else:
                body.extend(part)
                self.bytes_held += len(part)
                return None
            self.bytes_held -= len(body)
            body.clear()
            return refusal

        try:
            if refusal := await read_body(receive, accept):
                await refusal.response()(scope, receive, send)
            else:
                await self.app(scope, _replaying(bytes(body), receive), send)
        finally:
            self.bytes_held -= len(body)


async def read_body(receive: Receive, accept: Callable[[bytes], ApiError | None]) -> ApiError | None:
    """Give the parts of a body to `accept`; returns why the request is refused, by `accept` or for taking too long.

    What is refused is still read, within bounds: a client that is answered while it writes never sees the answer.
    Raises ClientDisconnect when the client hangs up.
    """
    refusal, size = None, 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while size <= DRAINED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                size += len(part)
                refusal = refusal or accept(part)
                if not message.get("more_body"):
                    return refusal
    except TimeoutError:
        refusal = refusal or ApiError(408, f"the body did not arrive within {BODY_SECONDS:.0f} seconds")
    if refusal:
        refusal.headers["Connection"] = "close"
    return refusal


class Protocol(H11Protocol):
    """uvicorn's HTTP, with an end to clients that send their headers for ever or never read what they asked for."""

    _waits_for_head: asyncio.TimerHandle | None = None
    _waits_for_reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.access_log = False  # it would log the query; a setting of uvicorn's alone depends on other loggers' state
        self._waits_for_head = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        in_head = self.conn.their_state is h11.IDLE
        if not in_head and self._waits_for_head:
            self._waits_for_head.cancel()
            self._waits_for_head = None
        elif in_head and not self._waits_for_head:  # the next request on this connection
            self._waits_for_head = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._waits_for_head, self._waits_for_reader):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waits_for_reader = self.loop.call_later(UNREAD_SECONDS, self._hang_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._waits_for_reader:
            self._waits_for_reader.cancel()
            self._waits_for_reader = None

    def _hang_up(self) -> None:
        self.transport.abort()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether nobody from another machine can reach a server that listens there."""
    address = _address(host.strip("[]"))
    return host == "localhost" or (address is not None and address.is_loopback)


def _host_name(netloc: str) -> str:
    """The name of `name:port`, `[v6]:port` or either without a port."""
    name = netloc.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _origin_host(origin: str) -> str:
    """The name in an address such as a browser sends; empty for none, as of a file."""
    try:
        return _host_name(urlsplit(origin).netloc)
    except ValueError:  # such as http://[
        return ""


def read_origin(text: str) -> str:
    """An origin as browsers send it: scheme, name and port in small letters, no port where it is the scheme's own.

    `*` is every origin. Raises ValueError for what is not an origin, such as an address with a path.
    """
    if text == "*":
        return text
    parts = urlsplit(text.strip().lower().rstrip("/"))
    beyond = parts.path or parts.query or parts.fragment or parts.username
    if not (parts.scheme and parts.hostname) or beyond or "*" in parts.netloc:
        raise ValueError("expected an origin such as http://localhost:3000, or *")
    port = parts.port  # also a ValueError
    own = {"http": 80, "https": 443}.get(parts.scheme)
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}{f':{port}' if port not in (None, own) else ''}"


def _outcome(status: int) -> str:
    if status == 429:
        return "busy"
    return "ok" if 0 < status < 400 else "refused" if status < 500 else "failed"


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, and afterwards reports when the client hangs up."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
