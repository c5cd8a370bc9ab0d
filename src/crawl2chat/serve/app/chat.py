"""The page Chat: presets, tools, what fits the context, tokens, sources of an answer, files."""

import asyncio
import codecs
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.conversations import read_conversations, write_conversations
from crawl2chat.chat.presets import presets
from crawl2chat.chat.tools import AnyTool, carry_out
from crawl2chat.chat.trace import Wanted, conversation_files
from crawl2chat.honesty.search import SearchIndex, find_index
from crawl2chat.serve.api.prompts import fit_chat
from crawl2chat.serve.api.requests import MAX_MESSAGES, ChatMessage, ChatRequest, Strict, ToolDefinition
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.errors import ApiError, bad_request, internal_error, log
from crawl2chat.serve.http import EventStream, get, post
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Message, ToolCall

MAX_TEXT = 100_000  # characters of a text that is looked up
MAX_QUESTION = 10_000
MAX_CONVERSATIONS = 1000  # in a file that is made
MAX_ARGUMENTS = 20
TRACE_SECONDS = 600.0  # for one look-up, after which it is given up
WAIT_SECONDS = 1.0  # between events while another look-up runs
MAX_LINE = 16 << 20  # bytes of what the process of a look-up finds
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Works out sums, products and quotients exactly.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds the best paragraph of the training documents for a query, or for the question itself.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}

Result = TypeVar("Result")


class ToolRequest(Strict):
    name: Annotated[str, Field(max_length=MAX_QUESTION)]
    arguments: Annotated[dict[str, Any], Field(max_length=MAX_ARGUMENTS)]
    asked: Annotated[str, Field(max_length=MAX_QUESTION)]  # what the user wanted to know


class TraceRequest(Strict):
    model: str | None = None
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    min_words: Annotated[int, Field(ge=2, le=50)] = 5


class ImportRequest(Strict):
    name: Annotated[str, Field(max_length=1000)]  # of the file, for what is said about it
    content: str


class ExportedConversation(Strict):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    tools: list[ToolDefinition] | None = None


class ExportRequest(Strict):
    conversations: Annotated[list[ExportedConversation], Field(min_length=1, max_length=MAX_CONVERSATIONS)]


class ChatPage:
    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.index = find_index(context.folder)
        self._tracing = asyncio.Semaphore(1)

    @get("/app/chat/setup")
    def setup(self, request: Request) -> dict[str, Any]:
        """What can be asked, with which tools, and whether there are documents to look answers up in."""
        stages = [model.stage or model.name for model in self.context.pool.models]
        crawl = self.context.run / "crawl" if self.context.run else None
        return {
            "presets": [asdict(preset) for preset in presets(stages, crawl)],
            "tools": [CALCULATOR, *([SEARCH] if self.index else [])],
            "documents": self._documents() is not None,
        }

    @post("/app/chat/fit", ChatRequest)
    async def fit(self, request: Request, body: ChatRequest) -> dict[str, int]:
        """Of a body for /v1/chat/completions: what the model reads of it."""
        model = (await self.context.pool.load(body.model)).model
        return await asyncio.to_thread(fit_chat, model, body)  # it may cut the same text often

    @post("/app/chat/tool", ToolRequest)
    def tool(self, request: Request, body: ToolRequest) -> dict[str, Any]:
        """The tool's text as the model is to read it, and the address of the page that it quotes."""
        tools: dict[str, AnyTool] = {"calculator": calculate}
        index = SearchIndex(self.index) if self.index else None  # a new one: SQLite's connections stay in their thread
        if index:
            tools["search"] = index.search
        try:
            called = ToolCall(type="function", function={"name": body.name, "arguments": body.arguments})
            result = carry_out(called, tools, body.asked)
            page = re.match(r"Page (\d+):", result) if index and body.name == "search" else None
            address = index.address(int(page[1])) if index and page else None
        finally:
            if index:
                index.database.close()
        return {"result": result, "page": int(page[1]) if page else None, "address": address}

    @post("/app/chat/trace", TraceRequest)
    async def trace(self, request: Request, body: TraceRequest) -> Response:
        """Where parts of a text are in the training documents, as events."""
        model, place = self.context.pool.find(body.model), self._documents()
        if place is None:
            raise ApiError(
                404, f"{self.context.folder.resolve().name} has no training documents (in its folder refine) to look "
                "in", code="no_documents",
            )  # fmt: skip
        conversations = [str(file) for file in conversation_files(place, model.stage)]
        return EventStream(self._trace({
            "text": body.text, "min_words": body.min_words, "place": str(place), "conversations": conversations,
        }))  # fmt: skip

    @post("/app/chat/import", ImportRequest)
    def import_(self, request: Request, body: ImportRequest) -> dict[str, Any]:
        """The conversations of a file, as `sft` reads it."""
        name = Path(body.name.replace("\\", "/")).name[:200] or "the file"
        remarks: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"conversations.{'csv' if name.lower().endswith(('.csv', '.tsv')) else 'jsonl'}"
            file.write_bytes(body.content.encode("utf-8", "surrogatepass").removeprefix(codecs.BOM_UTF8))
            try:
                conversations = read_conversations(file, remarks.append)
            except StageError as error:
                raise bad_request(str(error).replace(str(file), name), "content") from error
        return {"conversations": conversations, "remarks": [remark.replace(str(file), name) for remark in remarks]}

    @post("/app/chat/export", ExportRequest)
    def export(self, request: Request, body: ExportRequest) -> dict[str, str]:
        """JSON lines that `sft` reads; read once by its reader, so that what is wrong is reported here."""
        conversations: list[list[Message]] = []
        for given in body.conversations:
            messages: list[Message] = given.messages
            if given.tools:
                begins = messages[0]["role"] == "system"
                first = messages[0] if begins else Message(role="system", content="")
                messages = [{**first, "tools": given.tools}, *messages[begins:]]
            conversations.append(messages)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "conversations.jsonl"
            write_conversations(conversations, file)
            try:
                read_conversations(file)
            except StageError as error:
                raise bad_request(str(error).replace(str(file), "the conversations"), "conversations") from error
            return {"content": file.read_text(encoding="utf-8")}

    def _documents(self) -> Path | None:
        """The run, if it still has the documents that its models learned from."""
        run = self.context.run
        return run if run and (run / "refine").is_dir() else None

    async def _trace(self, wanted: Wanted) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Yield what `crawl2chat.chat.trace` writes, line by line. It holds up nothing: it is a process, one at a time.

        The process ends when its client has gone, or when its time is up.
        """
        while self._tracing.locked():
            yield [{"waiting": True}]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS), self._tracing:
                    pass
        async with self._tracing:
            paths = os.pathsep.join(path for path in sys.path if path)  # it finds this package however we found it
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "crawl2chat.chat.trace", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, limit=MAX_LINE, env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            deadline = asyncio.get_running_loop().time() + TRACE_SECONDS
            try:
                process.stdin.write(json.dumps(wanted).encode())
                process.stdin.close()
                while line := await _before(deadline, process.stdout.readline()):
                    yield [json.loads(line)]
                if await _before(deadline, process.wait()):
                    log.error("looking an answer up ended with status %d", process.returncode)
                    raise internal_error()
            except TimeoutError:
                raise ApiError(
                    504, f"gave up after {TRACE_SECONDS:.0f} seconds: there is too much text to look through"
                ) from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def _before(deadline: float, work: Awaitable[Result]) -> Result:
    async with asyncio.timeout_at(deadline):
        return await work
