"""The page Inside. Each request names a pass by its text and changes; one that was made lately is at hand."""

from collections.abc import Generator
from typing import Annotated, Any

import torch
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.evals.base.heads import ablation_effects, repeats_in
from crawl2chat.model import Transformer
from crawl2chat.model.inside import Inside, flop_per_token
from crawl2chat.serve.api.prompts import check_vocabulary
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.app.inside_passes import (
    LENS_PIECE,
    MAP,
    Number,
    Passes,
    PassRequest,
    array,
    compared,
    encode_text,
    in_pieces,
    max_tokens,
    overview,
    promoted,
    small_map,
    steps_of_stream,
    strongest_neurons,
    triangle,
)
from crawl2chat.serve.errors import bad_request
from crawl2chat.serve.http import describe_token, describe_tokens, post, tensors
from crawl2chat.serve.model_pool import LoadedModel

MAX_PINS = 8
MAX_EFFECTS_FLOP = 5e11  # of leaving out every part in turn


class PositionRequest(PassRequest):
    at: Number  # a position


class LayerRequest(PassRequest):
    layer: Number


class BlockRequest(LayerRequest):
    at: Number


class HeadRequest(LayerRequest):
    head: Number
    raw: bool = False  # queries and keys as they are before their norm and the rotation


class WritesRequest(BlockRequest):
    head: Number | None = None  # None: the MLP


class PinsRequest(PassRequest):
    ids: Annotated[list[Number], Field(min_length=1, max_length=MAX_PINS)]


class EffectsRequest(PositionRequest):
    id: Number | None = None  # the token whose probability is watched; None: the most probable one


class InsidePage:
    """The endpoints, and the passes that they share."""

    def __init__(self, context: AppContext) -> None:
        self.pool, self.passes = context.pool, Passes()

    async def _pass(self, request: Request, body: PassRequest) -> tuple[LoadedModel, Inside]:
        loaded = await self.pool.load(body.model)
        inside = await self.passes.of(loaded, body, request)
        _check(body, inside)
        return loaded, inside

    @post("/app/inside/pass", PassRequest)
    async def whole(self, request: Request, body: PassRequest) -> Response:
        loaded, inside = await self._pass(request, body)
        arrays = await in_pieces(loaded, overview(inside), request)
        random_scores = await self.passes.random_scores_of(loaded, request)
        model, tokenizer = loaded.engine.model, loaded.model.tokenizer
        others = encode_text(loaded.model, body.other, body.form)[: max_tokens(loaded.model)] if body.other else []
        listed = sorted(set(arrays["lens_ids"].ravel().tolist()))
        header = {
            "model": loaded.model.name,
            "tokens": describe_tokens(tokenizer, inside.ids),
            "other": describe_tokens(tokenizer, others),
            "vocabulary": describe_tokens(tokenizer, listed),  # that the lens names
            "n_all": len(encode_text(loaded.model, body.text, body.form)),
            "most_tokens": max_tokens(loaded.model),
            "pairs": int(repeats_in(inside.ids).followed_tt.any(1).sum()),  # that come again
            "parts": parts(model),
            "effects": _effects_flop(inside) <= MAX_EFFECTS_FLOP,
        }
        return tensors(header, {**arrays, "random_scores": array(random_scores)})

    @post("/app/inside/block", BlockRequest)
    async def block(self, request: Request, body: BlockRequest) -> Response:
        """The vectors of one position on their way through a block, and its heads' attention."""
        loaded, inside = await self._pass(request, body)

        def work(_: Any) -> dict[str, Any]:
            found = inside.layer(body.layer)
            heads = {"q": found.q_htd, "k": found.k_gtd, "v": found.v_gtd, "mixed": found.mixed_htd}
            vectors = {
                "entering": found.entering_tc, "normed": found.normed_tc, "attended": found.attended_tc,
                "between": found.between_tc, "mlp_normed": found.mlp_normed_tc, "gate": found.gate_tm,
                "up": found.up_tm, "active": found.active_tm, "written": found.written_tc, "leaving": found.leaving_tc,
            }  # fmt: skip
            return {
                **{name: array(vector[body.at]) for name, vector in vectors.items()},
                **{name: array(rows_htd[:, body.at].flatten()) for name, rows_htd in heads.items()},
                "maps": small_map(found.attention_htt, MAP),
            }

        return tensors({"layer": body.layer, "at": body.at}, await loaded.compute(work))

    @post("/app/inside/head", HeadRequest)
    async def head(self, request: Request, body: HeadRequest) -> Response:
        """Queries, keys and values (T, D), and scores and attention as packed triangles."""
        loaded, inside = await self._pass(request, body)
        group = inside.config.num_attention_heads // inside.config.num_key_value_heads
        shared = body.head // group

        def work(_: Any) -> dict[str, Any]:
            found = inside.layer(body.layer)
            q_htd, k_gtd = (found.q_raw_htd, found.k_raw_gtd) if body.raw else (found.q_htd, found.k_gtd)
            rows = {"q": q_htd[body.head], "k": k_gtd[shared], "v": found.v_gtd[shared]}
            rows["mixed"] = found.mixed_htd[body.head]
            squares = {"scores": found.scores_htt[body.head], "attention": found.attention_htt[body.head]}
            arrays = {name: array(row_td) for name, row_td in rows.items()}
            return arrays | {name: triangle(square) for name, square in squares.items()}

        return tensors({"key_head": shared, "group": group}, await loaded.compute(work))

    @post("/app/inside/mlp", LayerRequest)
    async def mlp(self, request: Request, body: LayerRequest) -> Response:
        """Activations (T, N) of the MLP's neurons, and which ones these are."""
        loaded, inside = await self._pass(request, body)
        active, chosen = await loaded.compute(lambda _: strongest_neurons(inside.layer(body.layer).active_tm))
        return tensors({"n_all": inside.config.intermediate_size}, {"active": active, "neurons": chosen})

    @post("/app/inside/stream", PositionRequest)
    async def stream(self, request: Request, body: PositionRequest) -> Response:
        """The residual stream at one position: (2·L + 1, C)."""
        loaded, inside = await self._pass(request, body)
        steps = await loaded.compute(lambda _: torch.stack([x_tc[body.at] for x_tc in steps_of_stream(inside)]))
        return tensors({"at": body.at}, {"stream": array(steps)})

    @post("/app/inside/writes", WritesRequest)
    async def writes(self, request: Request, body: WritesRequest) -> dict[str, Any]:
        """What a head or an MLP adds to the stream at a position, read through the lens: tokens for and against."""
        loaded, inside = await self._pass(request, body)

        def work(_: Any) -> dict[str, Any]:
            found = inside.layer(body.layer)
            written_tc = found.written_tc if body.head is None else inside.head_writes(body.layer, found, body.head)
            return promoted(loaded.model.tokenizer, inside, written_tc[body.at], body.at)

        return await loaded.compute(work)

    @post("/app/inside/pins", PinsRequest)
    async def pins(self, request: Request, body: PinsRequest) -> Response:
        """Probabilities of a few tokens at every layer and position, (L + 1, T, n)."""
        loaded, inside = await self._pass(request, body)
        check_vocabulary(loaded.model, body.ids, "ids")
        size = inside.config.vocab_size

        def work() -> Generator[None, None, torch.Tensor]:
            layers = []
            for layer in range(inside.config.num_hidden_layers + 1):
                logits_tn, pieces = inside.logits_of(layer, body.ids), []
                step = max(1, LENS_PIECE // size)
                for begin in range(0, len(inside), step):
                    pieces.append(inside.lens(layer, 1, slice(begin, begin + step)).log_total_t)
                    yield
                layers.append((logits_tn - torch.cat(pieces)[:, None]).exp())
            return torch.stack(layers)

        found = await in_pieces(loaded, work(), request)
        return tensors({"tokens": describe_tokens(loaded.model.tokenizer, body.ids)}, {"probabilities": array(found)})

    @post("/app/inside/compare", PositionRequest)
    async def compare(self, request: Request, body: PositionRequest) -> dict[str, Any]:
        """The next-token distribution at a position without and with the changes."""
        loaded, inside = await self._pass(request, body)
        plain = await self.passes.of(loaded, body, request, changed=False)
        tokenizer = loaded.model.tokenizer
        return await loaded.compute(lambda _: compared(tokenizer, plain, inside, body.at))

    @post("/app/inside/effects", EffectsRequest)
    async def effects(self, request: Request, body: EffectsRequest) -> Response:
        """The probability of a token at a position without each part, (L, H + 1), and with all of them."""
        loaded, inside = await self._pass(request, body)
        if _effects_flop(inside) > MAX_EFFECTS_FLOP:
            raise bad_request("leaving out every part in turn takes too long for this model; try a shorter text")
        L = inside.config.num_hidden_layers
        check_vocabulary(loaded.model, [] if body.id is None else [body.id], "id")
        p_v = await loaded.compute(lambda _: inside.logits(L, slice(body.at, body.at + 1))[0].softmax(dim=-1))
        id = int(p_v.argmax()) if body.id is None else body.id
        found = await in_pieces(loaded, ablation_effects(inside, body.at, id), request)
        header = {"token": describe_token(loaded.model.tokenizer, id), "probability": p_v[id].item()}
        return tensors(header, {"without": array(found)})


def parts(model: Transformer) -> dict[str, Any]:
    """The matrices' rows and columns (output × input), and how many parameters each kind of part has."""
    block = model.model.layers[0]
    return {
        "embedding": list(model.model.embed_tokens.weight.shape),
        "block": {
            name.removesuffix(".weight").rpartition(".")[2]: list(p.shape) for name, p in block.named_parameters()
        },
        "block_parameters": sum(p.numel() for p in block.parameters()),
        "norm": list(model.model.norm.weight.shape),
        "tied": model.config.tie_word_embeddings,
        "total": model.n_parameters(),
    }


def _effects_flop(inside: Inside) -> float:
    config = inside.config
    parts_left_out = config.num_hidden_layers * (config.num_attention_heads + 1)
    lenses = 2 * (config.num_hidden_layers + 1) * config.hidden_size * config.vocab_size
    return parts_left_out * len(inside) * (flop_per_token(inside.model) - lenses)


def _check(body: PassRequest, inside: Inside) -> None:
    """Raise ApiError for a position, layer or head that the pass does not have."""
    config = inside.config
    limits = {"at": len(inside), "layer": config.num_hidden_layers, "head": config.num_attention_heads}
    for name, limit in limits.items():
        value = getattr(body, name, None)
        if value is not None and value >= limit:
            raise bad_request(f"{name} = {value}: expected 0 to {limit - 1}", name)
