"""Passes through a model for the page Inside: made in pieces between the steps of answers, the last few of them kept,
and reduced here, so that what goes to the page is small on its way and quick to draw.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Generator, Hashable
from typing import Annotated, Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from starlette.requests import Request
from torch import Tensor

from crawl2chat.chat.talk import Talk
from crawl2chat.evals.base.heads import random_twice, repeats_in, score_heads, score_layer
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model.inside import Change, Inside, flop_per_token
from crawl2chat.serve.api.requests import Strict
from crawl2chat.serve.errors import ApiError, bad_request
from crawl2chat.serve.http import describe_token
from crawl2chat.serve.model_pool import LoadedModel, ServedModel
from crawl2chat.tokenizer import Tokenizer

MAX_TEXT = 20_000  # characters
MAX_CHANGES = 32
MEMORY = 64_000_000  # bytes of the passes that are kept, of each loaded model
PIECE_SECONDS = 0.03  # of work, for which answers that are being written wait
MAX_TOKENS = 512
MIN_TOKENS = 16
MAX_FLOP = 2e11  # of a pass with its lenses; some seconds on a laptop
LENS_TOKENS = 8  # of each layer and position
COMPARED = 10  # most probable tokens before and after changes
PROMOTED = 5  # tokens that a part's output speaks for, and against
THUMBNAIL, MAP = 48, 192  # rows and columns of attention, at most
MAX_NUMBERS = 120_000  # of an array of float32: 0.5 MB
LENS_PIECE = 2**22  # logits computed at a time

Array = np.ndarray[Any, np.dtype[Any]]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Number = Annotated[int, Field(ge=0, lt=1 << 31)]
Form = Literal["document", "chat", "bare"]
Result = TypeVar("Result")


class ChangeField(Strict):
    """A `Change` of `model.inside`, which checks it."""

    part: Literal["head", "attention", "mlp", "block", "residual"]
    layer: Number
    head: Number | None = None
    at: Number | None = None
    patched: bool = False
    source: Number | None = None

    def change(self) -> Change:
        return Change(self.part, self.layer, self.head, self.at, self.patched, self.source)


class PassRequest(Strict):
    """A pass over a text.

    form: document (the text begins one, as in training), chat (it is a user's message), or bare (nothing is added).
    other: the text that patched activations come from, read in the same form.
    """

    model: str | None = None
    text: Text
    form: Form = "document"
    changes: Annotated[tuple[ChangeField, ...], Field(max_length=MAX_CHANGES, strict=False)] = ()
    other: Text | None = None


def max_tokens(model: ServedModel) -> int:
    """How many tokens of a text are looked at, by the model's context and by what a pass costs."""
    affordable = int(MAX_FLOP / flop_per_token(model.engine.model))
    return min(model.engine.context, MAX_TOKENS, max(MIN_TOKENS, affordable))


def encode_text(model: ServedModel, text: str, form: Form) -> list[int]:
    """All ids of a text; a pass takes the first `max_tokens`."""
    tokenizer = model.tokenizer
    if form == "chat":
        ids = Talk(model.engine, Sampling(), base=model.base).prompt([{"role": "user", "content": text}])
    else:
        ids = [*([tokenizer.bos_id] if form == "document" else []), *tokenizer.encode(text)]
    if not ids:
        raise bad_request("text: holds no token; expected at least one", "text")
    return ids


async def in_pieces(loaded: LoadedModel, work: Generator[None, None, Result], request: Request) -> Result:
    """The result of work that yields now and then, done in the engine's thread in pieces of PIECE_SECONDS.

    Raises ApiError as soon as the client has hung up, as a page does when its user types on.
    """

    def piece(_: Engine) -> tuple[bool, Result | None]:
        end = time.perf_counter() + PIECE_SECONDS
        while time.perf_counter() < end:
            try:
                next(work)
            except StopIteration as stop:
                return True, stop.value
        return False, None

    with loaded.in_use():
        while True:
            ended, result = await loaded.compute(piece)
            if ended:
                return result  # type: ignore[return-value]
            if await request.is_disconnected():
                work.close()
                request.scope["outcome"] = "gone"
                raise ApiError(499, "the client has hung up")


class Passes:
    """Finds a pass among the last ones, or makes it."""

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        # held weakly by the loaded model, or the weights of unloaded ones would stay;
        # of each model's passes the one that was used last is at the end
        self.kept: WeakKeyDictionary[LoadedModel, OrderedDict[Hashable, Inside]] = WeakKeyDictionary()
        self.random_scores: WeakKeyDictionary[LoadedModel, torch.Tensor] = WeakKeyDictionary()
        self._making = asyncio.Lock()

    async def of(self, loaded: LoadedModel, body: PassRequest, request: Request, *, changed: bool = True) -> Inside:
        """The pass that is meant, or with `changed` False the same one without its changes.

        Raises ApiError for changes that it can't have.
        """
        other = None
        if changed and body.other is not None and any(change.patched for change in body.changes):
            other = await self._pass(loaded, encode_text(loaded.model, body.other, body.form), request)
        ids = encode_text(loaded.model, body.text, body.form)
        changes = tuple(change.change() for change in body.changes) if changed else ()
        return await self._pass(loaded, ids, request, changes, other)

    async def random_scores_of(self, loaded: LoadedModel, request: Request) -> torch.Tensor:
        """Induction and previous-token scores of all heads on random tokens that come twice, (2, L, H)."""
        if loaded not in self.random_scores:
            model, tokenizer = loaded.engine.model, loaded.model.tokenizer
            vocabulary = min(model.config.vocab_size, tokenizer.vocab_size)
            room = min(loaded.engine.context, max_tokens(loaded.model))
            inside = Inside(model, random_twice([tokenizer.bos_id], vocabulary, room))

            def score() -> Generator[None, None, torch.Tensor]:
                while inside.advance():
                    yield
                scores = score_heads(inside)
                return torch.stack([scores.induction_lh, scores.previous_lh])

            self.random_scores[loaded] = await in_pieces(loaded, score(), request)
        return self.random_scores[loaded]

    async def _pass(
        self,
        loaded: LoadedModel,
        text_ids: list[int],
        request: Request,
        changes: tuple[Change, ...] = (),
        other: Inside | None = None,
    ) -> Inside:
        ids = tuple(text_ids[: max_tokens(loaded.model)])
        key = ids, changes, tuple(other.ids) if other else None
        async with self._making:  # requests for the same one at the same time wait for it
            kept = self.kept.setdefault(loaded, OrderedDict())
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
            try:
                inside = Inside(loaded.engine.model, ids, changes, other)
            except ValueError as error:
                raise bad_request(f"changes: {error}", "changes") from error
            await in_pieces(loaded, _advance(inside), request)
            kept[key] = inside
            while len(kept) > 1 and sum(one.n_bytes for one in kept.values()) > self.memory:
                kept.popitem(last=False)
            return inside


def _advance(inside: Inside) -> Generator[None, None, None]:
    while inside.advance():
        yield


def overview(inside: Inside) -> Generator[None, None, dict[str, Array]]:
    """All that the page shows of a pass before anybody clicks; yields between pieces of work."""
    config, T = inside.config, len(inside)
    size = max(1, LENS_PIECE // config.vocab_size)
    lenses = []
    for layer in range(config.num_hidden_layers + 1):
        pieces = []
        for begin in range(0, T, size):
            pieces.append(inside.lens(layer, LENS_TOKENS, slice(begin, begin + size)))
            yield
        lenses.append([torch.cat([getattr(p, name) for p in pieces]) for name in ("ids_tk", "probabilities_tk")])
    repeats = repeats_in(inside.ids)
    maps, scores, head_norms, mlp_norms = [], [], [], []
    for layer in range(config.num_hidden_layers):
        found = inside.layer(layer)
        maps.append(small_map(found.attention_htt, THUMBNAIL))
        scores.append(score_layer(found.attention_htt, repeats))
        heads = range(config.num_attention_heads)
        head_norms.append(torch.stack([inside.head_writes(layer, found, head).norm(dim=-1) for head in heads]))
        mlp_norms.append(found.written_tc.norm(dim=-1))
        yield
    return {
        "lens_ids": array(torch.stack([ids for ids, _ in lenses]).int()),  # (L + 1, T, k)
        "lens_probabilities": array(torch.stack([probabilities for _, probabilities in lenses])),
        "maps": np.stack(maps),  # (L, H, S, S) attention as `small_map` makes it
        "scores": array(torch.stack(scores, dim=1)),  # (3, L, H) induction, previous and first on this text
        # lengths of the stream's vectors (2·L + 1, T), of what heads write (L, H, T), and of what MLPs write (L, T)
        "stream_norms": array(torch.stack([x_tc.norm(dim=-1) for x_tc in steps_of_stream(inside)])),
        "head_norms": array(torch.stack(head_norms)),
        "mlp_norms": array(torch.stack(mlp_norms)),
    }


def steps_of_stream(inside: Inside) -> list[Tensor]:
    """The stream at first, and after each attention and each MLP: 2·L + 1 tensors (T, C)."""
    after = [x_tc for pair in zip(inside.between, inside.stream[1:], strict=True) for x_tc in pair]
    return [inside.stream[0], *after]


def small_map(attention_htt: Tensor, max_size: int) -> Array:
    """Attention as bytes, 255·√share, whose small shares can still be seen; (H, S, S).

    For more than `max_size` tokens a byte is the greatest share among its neighbours.
    """
    factor = -(-attention_htt.shape[-1] // max_size)
    if factor > 1:
        attention_htt = F.max_pool2d(attention_htt, factor, ceil_mode=True)
    return array((attention_htt.sqrt() * 255).round().to(torch.uint8))


def triangle(square_tt: Tensor) -> Array:
    """The rows of what is on and below the diagonal, one after another: what a causal mask leaves."""
    row_n, column_n = torch.tril_indices(*square_tt.shape)
    return array(square_tt[row_n, column_n])


def strongest_neurons(active_tm: Tensor) -> tuple[Array, Array]:
    """Activations (T, N) and which of the MLP's M neurons they are of: all, or those that are strongest somewhere."""
    T, M = active_tm.shape
    n = min(M, max(1, MAX_NUMBERS // T))
    chosen_n = active_tm.abs().amax(dim=0).topk(n).indices.sort().values
    return array(active_tm[:, chosen_n]), array(chosen_n.int())


def compared(tokenizer: Tokenizer, before: Inside, after: Inside, at: int) -> dict[str, Any]:
    """The most probable next tokens at a position in two passes, and how far apart the two distributions are."""
    L = before.config.num_hidden_layers
    log_p, log_q = (inside.logits(L, slice(at, at + 1))[0].log_softmax(dim=-1) for inside in (before, after))
    p, q = log_p.exp(), log_q.exp()
    n = min(COMPARED, len(p))
    ids = list(dict.fromkeys([*p.topk(n).indices.tolist(), *q.topk(n).indices.tolist()]))
    return {
        "tokens": [
            {**describe_token(tokenizer, id), "before": p[id].item(), "after": q[id].item()}
            for id in sorted(ids, key=lambda id: -max(p[id].item(), q[id].item()))
        ],
        "entropy": [float(-(p * log_p).sum()) / np.log(2), float(-(q * log_q).sum()) / np.log(2)],  # bits
        "divergence": max(0.0, float((p * (log_p - log_q)).sum()) / np.log(2)),  # KL of after from before, in bits
    }


def promoted(tokenizer: Tokenizer, inside: Inside, written_c: Tensor, at: int) -> dict[str, Any]:
    """Tokens whose logits a vector that is added to the stream raises and lowers the most by itself.

    Through the last norm with the scale that the whole stream has there, so that all parts' shares add up to the
    logits (direct logit attribution; Elhage et al., "A Mathematical Framework for Transformer Circuits", 2021).
    """
    norm = inside.model.model.norm
    with torch.no_grad():
        scale = torch.rsqrt(inside.stream[-1][at].square().mean() + norm.eps)
        logits_v = F.linear(written_c * scale * norm.weight, inside.model.lm_head.weight.float())
    n = min(PROMOTED, len(logits_v))

    def named(top: Any) -> list[dict[str, Any]]:
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return [{**describe_token(tokenizer, id), "logit": value} for id, value in pairs]

    return {"raised": named(logits_v.topk(n)), "lowered": named(logits_v.topk(n, largest=False))}


def array(tensor: Tensor) -> Array:
    found: Array = tensor.cpu().numpy()
    return found
