"""Looking an answer up in the training documents without holding up anything else: in a process, one at a time."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from crawl2chat.chat.trace import Wanted
from crawl2chat.serve.errors import failed, log

Result = TypeVar("Result")

SECONDS = 600.0  # for one look-up, after which it is given up
WAIT_SECONDS = 1.0  # between events while another look-up runs
LINE_BYTES = 16 << 20  # of what the process finds


class Tracer:
    """Runs `crawl2chat.chat.trace`."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._turn = asyncio.Semaphore(1)

    async def events(self, wanted: Wanted) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what the process writes, line by line; end it when nobody listens any more, or when its time is up."""
        while self._turn.locked():
            yield {"waiting": True}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._turn.acquire()
                    self._turn.release()
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "crawl2chat.chat.trace", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES, env={**os.environ, "PYTHONPATH": _path()},
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            until = asyncio.get_running_loop().time() + self.seconds
            try:
                process.stdin.write(json.dumps(wanted).encode())
                process.stdin.close()
                while line := await _within(until, process.stdout.readline()):
                    yield json.loads(line)
                if await _within(until, process.wait()):
                    log.error("looking an answer up ended with status %d", process.returncode)
                    yield dict(failed().body())
            except TimeoutError:
                message = f"gave up after {self.seconds:.0f} seconds: there is too much text to look through"
                yield {"error": {"message": message}}
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


class Events(StreamingResponse):
    """Server-sent events; the iterator behind them is closed however the response ends."""

    def __init__(self, events: AsyncGenerator[dict[str, Any], None]) -> None:
        self._source = events
        super().__init__(_frames(events), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


async def _frames(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for event in events:
        yield b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


async def _within(until: float, work: Awaitable[Result]) -> Result:
    async with asyncio.timeout_at(until):
        return await work


def _path() -> str:
    """So that the process finds this package however this one found it."""
    return os.pathsep.join(path for path in sys.path if path)
