"""Starting and stopping: the port, the signals, and uvicorn between them."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from crawl2chat.serve.api.endpoints import Api
from crawl2chat.serve.app import page_routes
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.errors import ApiError, api_error_response, http_error_response
from crawl2chat.serve.http import routes_of
from crawl2chat.serve.middleware import Protocol, is_loopback, middleware, read_origin
from crawl2chat.serve.model_pool import ModelPool
from crawl2chat.serve.run_tools import RunTools
from crawl2chat.stages.files import StageError

SPARE_CONNECTIONS = 256  # in addition to those whose answers fit, for other requests
SHUTDOWN_SECONDS = 2  # for the last bytes to reach clients


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to that address, not yet listening. Raises StageError when it can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StageError(f"serve --host {host}: {error.strerror}") from error
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise StageError(f"serve --port {port}: can't listen there ({error.strerror}); take another --port") from error
    return bound


def check_origins(given: Sequence[str], key: str | None, no_key: bool) -> list[str]:
    """Return the origins of `--allow-origin` as browsers send them.

    Raises StageError for what is not an origin, and for `*` without a key or --no-key: any page that somebody on this
    machine opens could then ask the server and read its answers.
    """
    origins = []
    for text in given:
        try:
            origins.append(read_origin(text))
        except ValueError as error:
            raise StageError(f"serve --allow-origin {text}: {error}") from error
    if "*" in origins and key is None and not no_key:
        raise StageError(
            "serve --allow-origin *: any page opened in a browser could then use the server; "
            "name the origins, give --key-variable NAME, or say --no-key if anybody may use it"
        )
    return origins


def check_access(host: str, key: str | None, no_key: bool) -> None:
    """Raises StageError for a server that other machines reach without a key, unless --no-key was given."""
    if not is_loopback(host) and key is None and not no_key:
        raise StageError(
            f"serve --host {host}: other machines reach that address; "
            "give --key-variable NAME, or say --no-key if anybody may use it"
        )


class Server(uvicorn.Server):
    """Uvicorn that first lets running requests end, while it refuses new ones because it is closing."""

    def __init__(
        self, app: ASGIApp, pool: ModelPool, *, grace: float, connections: int, listening: Callable[[], object]
    ) -> None:
        """grace: seconds that running requests have after a signal. listening: called when the server listens."""
        super().__init__(
            uvicorn.Config(
                app, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
                proxy_headers=False, limit_concurrency=connections, timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )  # fmt: skip
        self.pool, self.grace, self.listening = pool, grace, listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.pool.start(self._loop)
        await super().startup(sockets)
        self.listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks for an end, the second one ends: nothing of ours on disk could be left half written."""
        if self.pool.closed or self._loop is None:
            os._exit(128 + sig)
        self.pool.close()
        self._loop.call_soon_threadsafe(self.close)

    def close(self) -> None:
        """Begin the end; call it in the event loop."""
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        left = await self.pool.drain(self.grace)
        if left:
            logging.getLogger("crawl2chat.serve").warning("%d answers were cut off after %g s", left, self.grace)
        self.should_exit = True


def make_server(
    pool: ModelPool,
    *,
    context: AppContext | None = None,
    hosts: Sequence[str] = (),
    key: str | None = None,
    origins: Sequence[str] = (),
    grace: float = 10.0,
    ping_seconds: float = 15.0,
    listening: Callable[[], object] = lambda: None,
    run_tools: RunTools | None = None,
) -> Server:
    """A server of the models in the pool, and with `context` of the pages on which they can be tried.

    run_tools: tools that it runs itself.
    """
    routes = [*routes_of(Api(pool, ping_seconds, run_tools)), *(page_routes(context) if context else [])]
    app = Starlette(
        routes=routes,
        middleware=middleware(pool.metrics, hosts=hosts, key=key, origins=origins),
        exception_handlers={ApiError: api_error_response, HTTPException: http_error_response},
    )
    connections = pool.default.admission.capacity + SPARE_CONNECTIONS
    return Server(app, pool, grace=grace, connections=connections, listening=listening)


def run(server: Server, bound: socket.socket) -> None:
    """Serve until a signal comes."""
    try:
        server.run(sockets=[bound])
    finally:
        server.pool.stop()


def set_up_logging() -> None:
    """To standard error, one line per request: client, route, status, outcome, time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
