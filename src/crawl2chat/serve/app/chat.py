"""Endpoints of the page Chat: presets, tools, what fits the context, tokens, sources of an answer, files."""

import asyncio
import codecs
import re
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import FailFast, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.conversations import read_conversations, write_conversations
from crawl2chat.chat.presets import presets
from crawl2chat.chat.tools import Tool, carry_out
from crawl2chat.chat.trace import conversation_files
from crawl2chat.honesty.search import SearchIndex, find_index
from crawl2chat.serve.api import aside
from crawl2chat.serve.app.house import House
from crawl2chat.serve.app.tracing import Events, Tracer
from crawl2chat.serve.errors import ApiError, refused
from crawl2chat.serve.prompts import check_vocabulary, fit_chat
from crawl2chat.serve.requests import MOST_MESSAGES, ChatMessage, ChatRequest, OfferedTool, Strict, parse
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Message, Tokenizer, ToolCall

LONGEST_TEXT = 100_000  # characters of a text that is looked up
LONGEST_QUESTION = 10_000
MOST_TOKENS = 1 << 17  # that are shown at a time
MOST_CONVERSATIONS = 1000  # in a file that is made
MOST_ARGUMENTS = 20
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


class ToolRequest(Strict):
    """POST /app/chat/tool"""

    name: Annotated[str, Field(max_length=LONGEST_QUESTION)]
    arguments: Annotated[dict[str, Any], Field(max_length=MOST_ARGUMENTS)]
    asked: Annotated[str, Field(max_length=LONGEST_QUESTION)]  # what the user wanted to know


class TraceRequest(Strict):
    """POST /app/chat/trace"""

    model: str | None = None
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
    min_words: Annotated[int, Field(ge=2, le=50)] = 5


class PiecesRequest(Strict):
    """POST /app/chat/pieces"""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], FailFast(), Field(max_length=MOST_TOKENS)]


class ImportRequest(Strict):
    """POST /app/chat/import"""

    name: Annotated[str, Field(max_length=1000)]  # of the file, for what is said about it
    content: str


class Exported(Strict):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    tools: list[OfferedTool] | None = None


class ExportRequest(Strict):
    """POST /app/chat/export"""

    conversations: Annotated[list[Exported], Field(min_length=1, max_length=MOST_CONVERSATIONS)]


def routes(house: House) -> list[Route]:
    """The endpoints of the page Chat."""
    tracer = Tracer()
    index = find_index(house.folder)

    async def setup(request: Request) -> Response:
        """What can be asked, with which tools, and whether there are documents to look answers up in."""
        stages = [offer.stage or offer.name for offer in house.shelf.offers]
        crawl = house.run / "crawl" if house.run else None
        found = await asyncio.to_thread(presets, stages, crawl)
        return JSONResponse(
            {
                "presets": [asdict(preset) for preset in found],
                "tools": [CALCULATOR, *([SEARCH] if index else [])],
                "documents": _documents(house) is not None,
            }
        )

    async def fit(request: Request) -> Response:
        """Of a body for /v1/chat/completions: what the model reads of it."""
        body = await request.body()
        asked = await aside(body, lambda: parse(ChatRequest, body))
        model = (await house.shelf.open(asked.model)).model
        return JSONResponse(asdict(await asyncio.to_thread(fit_chat, model, asked)))  # it may cut the same text often

    async def tool(request: Request) -> Response:
        asked = parse(ToolRequest, await request.body())
        return JSONResponse(await asyncio.to_thread(_carry_out, asked, index))

    async def trace(request: Request) -> Response:
        body = await request.body()
        asked = await aside(body, lambda: parse(TraceRequest, body))
        offer, place = house.shelf.offer(asked.model), _documents(house)
        if place is None:
            raise ApiError(
                404, f"{house.folder.resolve().name} has no training documents (in its folder refine) to look in",
                code="no_documents",
            )  # fmt: skip
        files = conversation_files(place, offer.stage)
        return Events(
            tracer.events(
                {"text": asked.text, "min_words": asked.min_words, "place": str(place),
                 "conversations": list(map(str, files))}
            )
        )  # fmt: skip

    async def pieces(request: Request) -> Response:
        """Each token's text, or its bytes where those are not whole characters, and whether it is a control token."""
        body = await request.body()
        asked = await aside(body, lambda: parse(PiecesRequest, body))
        model = (await house.shelf.open(asked.model)).model
        check_vocabulary(model, asked.tokens, "tokens")
        return JSONResponse(await aside(body, lambda: _pieces(model.tokenizer, asked.tokens)))

    async def read(request: Request) -> Response:
        body = await request.body()
        asked = await aside(body, lambda: parse(ImportRequest, body))
        return JSONResponse(await asyncio.to_thread(_read, asked))

    async def write(request: Request) -> Response:
        body = await request.body()
        asked = await aside(body, lambda: parse(ExportRequest, body))
        return JSONResponse({"content": await asyncio.to_thread(_write, asked)})

    return [
        Route("/app/chat/setup", setup),
        Route("/app/chat/fit", fit, methods=["POST"]),
        Route("/app/chat/tool", tool, methods=["POST"]),
        Route("/app/chat/trace", trace, methods=["POST"]),
        Route("/app/chat/pieces", pieces, methods=["POST"]),
        Route("/app/chat/import", read, methods=["POST"]),
        Route("/app/chat/export", write, methods=["POST"]),
    ]


def _documents(house: House) -> Path | None:
    """The run, if it still has the documents that its models learned from."""
    return house.run if house.run and (house.run / "refine").is_dir() else None


def _carry_out(asked: ToolRequest, file: Path | None) -> dict[str, Any]:
    """The tool's text as the model is to read it, and the address of the page that it quotes."""
    tools: dict[str, Tool] = {"calculator": calculate}
    index = SearchIndex(file) if file else None  # one a call, as SQLite's connections stay in their thread
    if index:
        tools["search"] = index.search
    try:
        called = ToolCall(type="function", function={"name": asked.name, "arguments": asked.arguments})
        result = carry_out(called, tools, asked.asked)
        page = re.match(r"Page (\d+):", result) if index and asked.name == "search" else None
        address = index.address(int(page[1])) if index and page else None
    finally:
        if index:
            index.database.close()
    return {"result": result, "page": int(page[1]) if page else None, "address": address}


def _pieces(tokenizer: Tokenizer, ids: list[int]) -> list[dict[str, Any]]:
    controls = {id: name for name, id in tokenizer.controls.items()}
    found = []
    for id in ids:
        content = tokenizer.decode_bytes([id])
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = None
        piece = {"id": id, "text": text, "control": id in controls}
        found.append(piece if text is not None else {**piece, "bytes": list(content)})
    return found


def _read(asked: ImportRequest) -> dict[str, Any]:
    """The conversations of a file, as `sft` reads it."""
    name = Path(asked.name.replace("\\", "/")).name[:200] or "the file"
    remarks: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / (
            "conversations.csv" if name.lower().endswith((".csv", ".tsv")) else "conversations.jsonl"
        )
        file.write_bytes(asked.content.encode("utf-8", "surrogatepass").removeprefix(codecs.BOM_UTF8))
        try:
            conversations = read_conversations(file, remarks.append)
        except StageError as error:
            raise refused(str(error).replace(str(file), name), "content") from error
    return {
        "conversations": conversations,
        "remarks": [remark.replace(str(file), name) for remark in remarks],
    }


def _write(asked: ExportRequest) -> str:
    """JSON lines that `sft` reads; read once by its reader, so that what is wrong is heard of here."""
    conversations: list[list[Message]] = []
    for given in asked.conversations:
        messages: list[Message] = given.messages
        if given.tools:
            first = messages[0] if messages[0]["role"] == "system" else Message(role="system", content="")
            rest = messages[1:] if messages[0]["role"] == "system" else messages
            messages = [{**first, "tools": given.tools}, *rest]
        conversations.append(messages)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "conversations.jsonl"
        write_conversations(conversations, file)
        try:
            read_conversations(file)
        except StageError as error:
            raise refused(str(error).replace(str(file), "the conversations"), "conversations") from error
        content = file.read_text(encoding="utf-8")
    return content
