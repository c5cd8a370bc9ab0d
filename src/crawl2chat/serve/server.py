"""Listening and stopping: the port, the signals, and uvicorn between them."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from crawl2chat.run import StageError
from crawl2chat.serve.api import Api
from crawl2chat.serve.desk import Desk
from crawl2chat.serve.guards import Guard, Protocol, is_loopback, read_origin
from crawl2chat.serve.prompts import Model
from crawl2chat.serve.worker import Worker

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
        self, app: ASGIApp, desk: Desk, *, grace: float, connections: int, listening: Callable[[], object]
    ) -> None:
        """grace: seconds that running requests have after a signal to end. listening: called when it listens."""
        super().__init__(
            uvicorn.Config(
                app, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
                proxy_headers=False, limit_concurrency=connections, timeout_graceful_shutdown=LAST_WORDS_SECONDS,
            )
        )  # fmt: skip
        self.desk, self.grace, self.listening = desk, grace, listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.desk.worker.start(self._loop)
        await super().startup(sockets)
        self.listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks for an end, the second one ends: nothing of ours on disk could be left half written."""
        if self.desk.closed or self._loop is None:
            os._exit(128 + sig)
        self.desk.closed = True
        self._loop.call_soon_threadsafe(self.close)

    def close(self) -> None:
        """Begin the end; call it in the event loop."""
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        left = await self.desk.drain(self.grace)
        if left:
            logging.getLogger("crawl2chat.serve").warning("%d answers were cut off after %g s", left, self.grace)
        self.should_exit = True


def make_server(
    model: Model,
    *,
    queue: int,
    hosts: Sequence[str] = (),
    key: str | None = None,
    origins: Sequence[str] = (),
    grace: float = 10.0,
    ping_seconds: float = 15.0,
    threads: int | None = None,
    listening: Callable[[], object] = lambda: None,
) -> Server:
    """A server of the model. queue: answers that may wait beside those that the engine runs; threads: the engine's."""
    desk = Desk(Worker(model.engine, threads), model.engine.max_batch + queue)
    app = Guard(Api(model, desk, ping_seconds).app(), desk.metrics, hosts=hosts, key=key, origins=origins)
    return Server(app, desk, grace=grace, connections=desk.room + CONNECTIONS_BEYOND, listening=listening)


def run(server: Server, place: socket.socket) -> None:
    """Serve until a signal comes."""
    try:
        server.run(sockets=[place])
    finally:
        server.desk.worker.stop()


def set_up_logging() -> None:
    """To standard error, one line a request: where from, what, status, outcome, time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
