"""The page Tokens: texts as several encodings cut them, the merges, the chat template, the vocabulary."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawl2chat.serve.app.house import House
from crawl2chat.serve.app.tensors import tensors
from crawl2chat.serve.errors import ApiError, refused
from crawl2chat.serve.requests import ChatMessage, Strict, parse
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.inspection import Cut, Entry, around, cut, cut_ids, find, replay
from crawl2chat.tokenizer.public import PUBLIC, open_encoding

RUN = "run"  # what the models' own encoding is called here
LONGEST_TEXT = 200_000  # characters, some 50,000 tokens
LONGEST_REPLAY = 20_000
MOST_TURNS = 64
MOST_ENCODINGS = 4
MOST_FOUND = 200

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Name = Annotated[str, Field(max_length=100)]
Result = TypeVar("Result")


class EncodeRequest(Strict):
    """POST /app/tokens/encode"""

    text: Text
    encodings: Annotated[list[Name], Field(min_length=1, max_length=MOST_ENCODINGS)]


class MergesRequest(Strict):
    """POST /app/tokens/merges"""

    text: Annotated[str, Field(max_length=LONGEST_REPLAY)]
    encoding: Name


class ConversationRequest(Strict):
    """POST /app/tokens/chat"""

    messages: Annotated[list[ChatMessage], Field(max_length=MOST_TURNS)]
    add_generation_prompt: bool = False


class SearchRequest(Strict):
    """POST /app/tokens/search"""

    encoding: Name
    query: Annotated[str, Field(max_length=200)]
    by: Literal["text", "id"] = "text"
    ignore_case: bool = False
    offset: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_FOUND)] = 50


def routes(house: House) -> list[Route]:
    pages = TokenPages(house)
    return [
        Route("/app/tokens/encodings", pages.encodings),
        Route("/app/tokens/encode", pages.encode, methods=["POST"]),
        Route("/app/tokens/merges", pages.merges, methods=["POST"]),
        Route("/app/tokens/chat", pages.chat, methods=["POST"]),
        Route("/app/tokens/search", pages.search, methods=["POST"]),
    ]


class TokenPages:
    """The handlers. None of them touches a model, and whatever takes time is done in a thread."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.own = house.shelf.default.model.tokenizer

    async def encodings(self, request: HttpRequest) -> Response:
        run = {"name": RUN, "title": self.house.folder.resolve().name, "vocabulary": self.own.vocab_size}
        public = [
            {"name": name, "title": public.title, "vocabulary": public.vocab_size} for name, public in PUBLIC.items()
        ]
        others = [{"name": name, "title": name, "vocabulary": None} for name in self.house.tokenizers]
        return JSONResponse({"encodings": [run, *public, *others], "longest_replay": LONGEST_REPLAY})

    async def encode(self, request: HttpRequest) -> Response:
        asked = parse(EncodeRequest, await request.body())

        def work() -> Response:
            cuts = [cut(self.open(name), asked.text) for name in asked.encodings]
            header = {
                # only where the encoding changed it, by composing characters
                "texts": [None if (text := seen.content.decode()) == asked.text else text for seen in cuts],
                "names": asked.encodings,
            }
            return tensors(header, {k: v for i, seen in enumerate(cuts) for k, v in _arrays(seen, i).items()})

        return await _aside(work)

    async def merges(self, request: HttpRequest) -> Response:
        asked = parse(MergesRequest, await request.body())

        def work() -> Response:
            encoding = self.open(asked.encoding)
            seen = cut(encoding, asked.text)
            steps = [
                (merge.begin, merge.begin if merge.middle is None else merge.middle, merge.end, merge.rank)
                for merge in replay(encoding, seen)
            ]
            table = np.array(steps, np.uint32).reshape(-1, 4)
            return tensors({"text": seen.content.decode()}, {"steps": table, **_arrays(seen, 0)})

        return await _aside(work)

    async def chat(self, request: HttpRequest) -> Response:
        asked = parse(ConversationRequest, await request.body())

        def work() -> Response:
            ids, mask = self.own.encode_chat(asked.messages, add_generation_prompt=asked.add_generation_prompt)
            seen = cut_ids(self.own, ids, self.own.decode(ids))
            control = np.isin(seen.ids, list(self.own.controls.values()))
            arrays = {**_arrays(seen, 0), "mask": np.array(mask, np.uint8), "control": control.astype(np.uint8)}
            return tensors({"text": seen.content.decode()}, arrays)

        try:
            return await _aside(work)
        except ValueError as error:
            raise refused(f"messages: {error}", "messages") from error

    async def search(self, request: HttpRequest) -> Response:
        asked = parse(SearchRequest, await request.body())
        if asked.by == "id" and not (asked.query.isascii() and asked.query.isdigit() and len(asked.query) < 10):
            raise refused(f"query = {asked.query[:20]!r}: expected a token id, a whole number", "query")

        def work() -> dict[str, Any]:
            encoding = self.open(asked.encoding)
            if asked.by == "id":
                total, found = around(encoding, int(asked.query), asked.limit)
            else:
                total, found = find(
                    encoding, asked.query, ignore_case=asked.ignore_case, offset=asked.offset, limit=asked.limit
                )
            return {"total": total, "tokens": [_entry(entry) for entry in found]}

        return JSONResponse(await _aside(work))

    def open(self, name: str) -> Encoding:
        """Raises ApiError where none has that name, or its file can no longer be read."""
        if name == RUN:
            return self.own
        if name in PUBLIC:
            return open_encoding(name)
        if name not in self.house.tokenizers:
            names = ", ".join([RUN, *PUBLIC, *self.house.tokenizers])
            raise ApiError(404, f"there is no encoding {name[:100]!r} here; this server has {names}", param="encodings")
        try:
            return open_encoding(self.house.tokenizers[name])
        except StageError as error:
            raise ApiError(503, str(error)) from error


def _arrays(seen: Cut, i: int) -> dict[str, np.ndarray]:
    return {
        f"ids{i}": seen.ids.astype(np.uint32), f"ends{i}": seen.ends.astype(np.uint32),
        f"groups{i}": seen.group_ends.astype(np.uint32),
    }  # fmt: skip


def _entry(entry: Entry) -> dict[str, Any]:
    parts = [{"id": id, "bytes": part.hex()} for id, part in entry.parts or ()]
    return {"id": entry.id, "bytes": entry.content.hex(), "control": entry.control, "parts": parts or None}


async def _aside(work: Callable[[], Result]) -> Result:
    """In a thread, so that streams go on meanwhile: opening an encoding takes up to a second."""
    return await asyncio.to_thread(work)
