"""The page Tokens: texts as several encodings cut them, the merges, the chat template, the vocabulary."""

import asyncio
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import FailFast, Field
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.serve.api.prompts import check_vocabulary
from crawl2chat.serve.api.requests import ChatMessage, Strict
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.errors import ApiError, bad_request
from crawl2chat.serve.http import describe_tokens, get, post, tensors
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.inspection import Cut, around, cut, cut_ids, find, replay
from crawl2chat.tokenizer.public import PUBLIC, open_encoding

RUN = "run"  # what the models' own encoding is called here
MAX_TEXT = 200_000  # characters, some 50,000 tokens
MAX_REPLAY = 20_000
MAX_MESSAGES = 64
MAX_ENCODINGS = 4
MAX_FOUND = 200
MAX_IDS = 1 << 17

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=100)]


class EncodeRequest(Strict):
    text: Text
    encodings: Annotated[list[Name], Field(min_length=1, max_length=MAX_ENCODINGS)]


class MergesRequest(Strict):
    text: Annotated[str, Field(max_length=MAX_REPLAY)]
    encoding: Name


class ConversationRequest(Strict):
    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES)]
    add_generation_prompt: bool = False


class TextsRequest(Strict):
    model: str | None = None
    ids: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], FailFast(), Field(max_length=MAX_IDS)]


class SearchRequest(Strict):
    encoding: Name
    query: Annotated[str, Field(max_length=200)]
    by: Literal["text", "id"] = "text"
    ignore_case: bool = False
    offset: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_FOUND)] = 50


class TokensPage:
    """The endpoints. None of them runs a model, and whatever takes time is done in a thread."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.own = context.pool.default.model.tokenizer

    @get("/app/tokens/encodings")
    async def encodings(self, request: Request) -> dict[str, Any]:
        run = {"name": RUN, "title": self.context.folder.resolve().name, "vocabulary": self.own.vocab_size}
        public = [
            {"name": name, "title": public.title, "vocabulary": public.vocab_size} for name, public in PUBLIC.items()
        ]
        others = [{"name": name, "title": name, "vocabulary": None} for name in self.context.tokenizers]
        return {"encodings": [run, *public, *others], "longest_replay": MAX_REPLAY}

    @post("/app/tokens/encode", EncodeRequest)
    def encode(self, request: Request, body: EncodeRequest) -> Response:
        cuts = [cut(self.open(name), body.text) for name in body.encodings]
        header = {
            # only where the encoding changed it, by composing characters
            "texts": [None if (text := seen.content.decode()) == body.text else text for seen in cuts],
            "names": body.encodings,
        }
        return tensors(header, {k: v for i, seen in enumerate(cuts) for k, v in _arrays(seen, i).items()})

    @post("/app/tokens/merges", MergesRequest)
    def merges(self, request: Request, body: MergesRequest) -> Response:
        encoding = self.open(body.encoding)
        seen = cut(encoding, body.text)
        steps = [
            (merge.begin, merge.begin if merge.middle is None else merge.middle, merge.end, merge.rank)
            for merge in replay(encoding, seen)
        ]
        table = np.array(steps, np.uint32).reshape(-1, 4)
        return tensors({"text": seen.content.decode()}, {"steps": table, **_arrays(seen, 0)})

    @post("/app/tokens/chat", ConversationRequest)
    def chat(self, request: Request, body: ConversationRequest) -> Response:
        try:
            ids, mask = self.own.encode_chat(body.messages, add_generation_prompt=body.add_generation_prompt)
        except ValueError as error:
            raise bad_request(f"messages: {error}", "messages") from error
        seen = cut_ids(self.own, ids, self.own.decode(ids))
        control = np.isin(seen.ids, list(self.own.controls.values()))
        arrays = {**_arrays(seen, 0), "mask": np.array(mask, np.uint8), "control": control.astype(np.uint8)}
        return tensors({"text": seen.content.decode()}, arrays)

    @post("/app/tokens/texts", TextsRequest)
    async def texts(self, request: Request, body: TextsRequest) -> dict[str, Any]:
        """Each token's text, or its bytes where those are not whole characters, and whether it is a control token."""
        model = (await self.context.pool.load(body.model)).model
        check_vocabulary(model, body.ids, "ids")
        return {"tokens": await asyncio.to_thread(describe_tokens, model.tokenizer, body.ids)}

    @post("/app/tokens/search", SearchRequest)
    def search(self, request: Request, body: SearchRequest) -> dict[str, Any]:
        if body.by == "id" and not (body.query.isascii() and body.query.isdigit() and len(body.query) < 10):
            raise bad_request(f"query = {body.query[:20]!r}: expected a token id, a whole number", "query")
        encoding = self.open(body.encoding)
        if body.by == "id":
            total, found = around(encoding, int(body.query), body.limit)
        else:
            total, found = find(
                encoding, body.query, ignore_case=body.ignore_case, offset=body.offset, limit=body.limit
            )
        tokens = [
            {
                "id": entry.id, "bytes": entry.content.hex(), "control": entry.control,
                "parts": [{"id": id, "bytes": part.hex()} for id, part in entry.parts or ()] or None,
            }
            for entry in found
        ]  # fmt: skip
        return {"total": total, "tokens": tokens}

    def open(self, name: str) -> Encoding:
        """Raises ApiError where none has that name, or its file can no longer be read."""
        if name == RUN:
            return self.own
        if name in PUBLIC:
            return open_encoding(name)
        if name not in self.context.tokenizers:
            names = ", ".join([RUN, *PUBLIC, *self.context.tokenizers])
            raise ApiError(404, f"there is no encoding {name[:100]!r} here; this server has {names}", param="encodings")
        try:
            return open_encoding(self.context.tokenizers[name])
        except StageError as error:
            raise ApiError(503, str(error)) from error


def _arrays(seen: Cut, i: int) -> dict[str, np.ndarray]:
    return {
        f"ids{i}": seen.ids.astype(np.uint32), f"ends{i}": seen.ends.astype(np.uint32),
        f"groups{i}": seen.group_ends.astype(np.uint32),
    }  # fmt: skip
