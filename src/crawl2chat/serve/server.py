"""Listening and stopping: the port, the signals, and uvicorn between them."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from crawl2chat.serve.api import Api, tell, tell_failure, tell_http
from crawl2chat.serve.app import House, page_routes
from crawl2chat.serve.desk import Desk
from crawl2chat.serve.errors import ApiError
from crawl2chat.serve.guards import Guard, Protocol, is_loopback, read_origin
from crawl2chat.serve.shelf import Shelf
from crawl2chat.stages.files import StageError

CONNECTIONS_BEYOND = 256  # connections beyond those whose answers fit, which may ask for other things
LAST_WORDS_SECONDS = 2  # for the last bytes to reach clients at the end


def bind(host: str, port: int) -> socket.socket:
    """A socket at that place, not yet listening. Raises StageError when the place can't be had."""
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
    """Raises StageError for a server that other machines reach and that anybody may use, unless that was said."""
    if not is_loopback(host) and key is None and not no_key:
        raise StageError(
            f"serve --host {host}: other machines reach that address; "
            "give --key-variable NAME, or say --no-key if anybody may use it"
        )


class Server(uvicorn.Server):
    """Uvicorn that first lets running requests end, while it answers new ones that it is closing."""

    def __init__(
        self, app: ASGIApp, shelf: Shelf, *, grace: float, connections: int, listening: Callable[[], object]
    ) -> None:
        """grace: seconds that running requests have after a signal to end. listening: called when it listens."""
        super().__init__(
            uvicorn.Config(
                app, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
                proxy_headers=False, limit_concurrency=connections, timeout_graceful_shutdown=LAST_WORDS_SECONDS,
            )
        )  # fmt: skip
        self.shelf, self.grace, self.listening = shelf, grace, listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    @property
    def desk(self) -> Desk:
        """Of the default model."""
        return self.shelf.default.desk

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.shelf.start(self._loop)
        await super().startup(sockets)
        self.listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks for an end, the second one ends: nothing of ours on disk could be left half written."""
        if self.shelf.closed or self._loop is None:
            os._exit(128 + sig)
        self.shelf.close()
        self._loop.call_soon_threadsafe(self.close)

    def close(self) -> None:
        """Begin the end; call it in the event loop."""
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        left = await self.shelf.drain(self.grace)
        if left:
            logging.getLogger("crawl2chat.serve").warning("%d answers were cut off after %g s", left, self.grace)
        self.should_exit = True


def make_server(
    shelf: Shelf,
    *,
    house: House | None = None,
    hosts: Sequence[str] = (),
    key: str | None = None,
    origins: Sequence[str] = (),
    grace: float = 10.0,
    ping_seconds: float = 15.0,
    listening: Callable[[], object] = lambda: None,
) -> Server:
    """A server of the models on the shelf, and with `house` of the pages on which they can be touched."""
    routes = [*Api(shelf, ping_seconds).routes(), *(page_routes(house) if house else [])]
    handlers: dict[Any, Any] = {ApiError: tell, HTTPException: tell_http, Exception: tell_failure}
    app = Starlette(routes=routes, exception_handlers=handlers)
    guarded = Guard(app, shelf.metrics, hosts=hosts, key=key, origins=origins)
    connections = shelf.default.desk.room + CONNECTIONS_BEYOND
    return Server(guarded, shelf, grace=grace, connections=connections, listening=listening)


def run(server: Server, place: socket.socket) -> None:
    """Serve until a signal comes."""
    try:
        server.run(sockets=[place])
    finally:
        server.shelf.stop()


def set_up_logging() -> None:
    """To standard error, one line a request: where from, what, status, outcome, time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
