"""The routes of the page Inside. Each names a pass by its text and changes; one that was made lately is at hand."""

from collections.abc import Generator
from typing import Any, TypeVar

import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawl2chat.evals.base.heads import ablation_effects
from crawl2chat.model import Transformer
from crawl2chat.model.inside import Inside, flop_per_token
from crawl2chat.serve.app.house import House
from crawl2chat.serve.app.inside import shown
from crawl2chat.serve.app.inside.asked import (
    AtAsked,
    BlockAsked,
    EffectsAsked,
    HeadAsked,
    MlpAsked,
    PassAsked,
    PinsAsked,
    WritesAsked,
)
from crawl2chat.serve.app.inside.passes import Passes, in_pieces, most_tokens, read_text
from crawl2chat.serve.app.tensors import tensors
from crawl2chat.serve.errors import refused
from crawl2chat.serve.requests import parse
from crawl2chat.serve.shelf import Seat

MOST_EFFECTS_FLOP = 5e11  # of leaving out every part in turn

Asked = TypeVar("Asked", bound=PassAsked)


def routes(house: House) -> list[Route]:
    desk = _Inside(house)
    return [
        Route(f"/app/inside/{name}", handler, methods=["POST"])
        for name, handler in {
            "pass": desk.whole, "block": desk.block, "head": desk.head, "mlp": desk.mlp, "stream": desk.stream,
            "writes": desk.writes, "pins": desk.pins, "compare": desk.compare, "effects": desk.effects,
        }.items()
    ]  # fmt: skip


class _Inside:
    """The handlers, and the passes that they share."""

    def __init__(self, house: House) -> None:
        self.house, self.passes = house, Passes()

    async def _read(self, request: Request, kind: type[Asked]) -> tuple[Asked, Seat, Inside]:
        asked = parse(kind, await request.body())
        seat = await self.house.shelf.open(asked.model)
        inside = await self.passes.of(seat, asked, request)
        _check(asked, inside)
        return asked, seat, inside

    async def whole(self, request: Request) -> Response:
        asked, seat, inside = await self._read(request, PassAsked)
        found = await in_pieces(seat, shown.overview(inside), request)
        random_scores = await self.passes.random_scores_of(seat, request)
        model, tokenizer = seat.engine.model, seat.model.tokenizer
        others = read_text(seat.model, asked.other, asked.form).ids if asked.other else []
        listed = sorted(set(found.lens_ids.ravel().tolist()))
        header = {
            "model": seat.model.name,
            "tokens": [shown.token(tokenizer, id) for id in inside.ids],
            "other": [shown.token(tokenizer, id) for id in others],
            "vocabulary": [shown.token(tokenizer, id) for id in listed],  # that the lens names
            "n_all": read_text(seat.model, asked.text, asked.form).n_all,
            "most_tokens": most_tokens(seat.model),
            "pairs": found.pairs,
            "parts": parts(model),
            "effects": _effects_flop(inside) <= MOST_EFFECTS_FLOP,
        }
        return tensors(
            header,
            {
                "lens_ids": found.lens_ids, "lens_probabilities": found.lens_probabilities, "maps": found.maps,
                "scores": found.scores, "random_scores": shown.array(random_scores),
                "stream_norms": found.stream_norms, "head_norms": found.head_norms, "mlp_norms": found.mlp_norms,
            },
        )  # fmt: skip

    async def block(self, request: Request) -> Response:
        """The vectors of one position on their way through a block, and its heads' attention."""
        asked, seat, inside = await self._read(request, BlockAsked)

        def work(_: Any) -> dict[str, Any]:
            found = inside.layer(asked.layer)
            rows_td = [found.q_htd, found.k_gtd, found.v_gtd, found.mixed_htd]
            q, k, v, mixed = (rows[:, asked.at].flatten() for rows in rows_td)
            attended_c = found.attended_tc[asked.at]
            vectors = {
                "entering": found.entering_tc, "normed": found.normed_tc, "between": found.between_tc,
                "mlp_normed": found.mlp_normed_tc, "gate": found.gate_tm, "up": found.up_tm,
                "active": found.active_tm, "written": found.written_tc, "leaving": found.leaving_tc,
            }  # fmt: skip
            arrays = {name: shown.array(vector[asked.at]) for name, vector in vectors.items()}
            arrays |= {"q": shown.array(q), "k": shown.array(k), "v": shown.array(v), "mixed": shown.array(mixed)}
            return arrays | {
                "attended": shown.array(attended_c), "maps": shown.small_map(found.attention_htt, shown.MAP)
            }  # fmt: skip

        return tensors({"layer": asked.layer, "at": asked.at}, await seat.compute(work))

    async def head(self, request: Request) -> Response:
        """Queries, keys and values (T, D), and scores and attention as packed triangles."""
        asked, seat, inside = await self._read(request, HeadAsked)
        group = inside.config.num_attention_heads // inside.config.num_key_value_heads
        shared = asked.head // group

        def work(_: Any) -> dict[str, Any]:
            found = inside.layer(asked.layer)
            q_htd, k_gtd = (found.q_raw_htd, found.k_raw_gtd) if asked.raw else (found.q_htd, found.k_gtd)
            rows = {"q": q_htd[asked.head], "k": k_gtd[shared], "v": found.v_gtd[shared]}
            rows["mixed"] = found.mixed_htd[asked.head]
            squares = {"scores": found.scores_htt[asked.head], "attention": found.attention_htt[asked.head]}
            arrays = {name: shown.array(row_td) for name, row_td in rows.items()}
            return arrays | {name: shown.triangle(square) for name, square in squares.items()}

        return tensors({"key_head": shared, "group": group}, await seat.compute(work))

    async def mlp(self, request: Request) -> Response:
        """Activations (T, N) of the MLP's neurons, and which ones these are."""
        asked, seat, inside = await self._read(request, MlpAsked)
        active, chosen = await seat.compute(lambda _: shown.strongest_neurons(inside.layer(asked.layer).active_tm))
        return tensors({"n_all": inside.config.intermediate_size}, {"active": active, "neurons": chosen})

    async def stream(self, request: Request) -> Response:
        """The residual stream at one position: (2·L + 1, C)."""
        asked, seat, inside = await self._read(request, AtAsked)
        steps = await seat.compute(lambda _: torch.stack([x_tc[asked.at] for x_tc in shown.steps_of_stream(inside)]))
        return tensors({"at": asked.at}, {"stream": shown.array(steps)})

    async def writes(self, request: Request) -> Response:
        """The tokens for and against which a head or an MLP speaks at a position."""
        asked, seat, inside = await self._read(request, WritesAsked)

        def work(_: Any) -> dict[str, Any]:
            found = inside.layer(asked.layer)
            written_tc = found.written_tc if asked.head is None else inside.head_writes(asked.layer, found, asked.head)
            return shown.promoted(seat.model.tokenizer, inside, written_tc[asked.at], asked.at)

        return JSONResponse(await seat.compute(work))

    async def pins(self, request: Request) -> Response:
        """Probabilities of a few tokens at every layer and position, (L + 1, T, n)."""
        asked, seat, inside = await self._read(request, PinsAsked)
        size = inside.config.vocab_size
        wrong = next((id for id in asked.ids if id >= size), None)
        if wrong is not None:
            raise refused(f"ids: has {wrong}; expected ids from 0 to {size - 1}", "ids")

        def work() -> Generator[None, None, torch.Tensor]:
            layers = []
            for layer in range(inside.config.num_hidden_layers + 1):
                logits_tn, pieces = inside.logits_of(layer, asked.ids), []
                step = max(1, shown.LENS_PIECE // size)
                for begin in range(0, len(inside), step):
                    pieces.append(inside.lens(layer, 1, slice(begin, begin + step)).log_total_t)
                    yield
                layers.append((logits_tn - torch.cat(pieces)[:, None]).exp())
            return torch.stack(layers)

        found = await in_pieces(seat, work(), request)
        told = [shown.token(seat.model.tokenizer, id) for id in asked.ids]
        return tensors({"tokens": told}, {"probabilities": shown.array(found)})

    async def compare(self, request: Request) -> Response:
        """The next-token distribution at a position without and with the changes."""
        asked, seat, inside = await self._read(request, AtAsked)
        plain = await self.passes.of(seat, asked, request, changed=False)
        tokenizer = seat.model.tokenizer
        return JSONResponse(await seat.compute(lambda _: shown.compared(tokenizer, plain, inside, asked.at)))

    async def effects(self, request: Request) -> Response:
        """The probability of a token at a position without each part, (L, H + 1), and with all of them."""
        asked, seat, inside = await self._read(request, EffectsAsked)
        if _effects_flop(inside) > MOST_EFFECTS_FLOP:
            raise refused("to leave out every part in turn takes too long for this model and text; try a shorter text")
        L, size = inside.config.num_hidden_layers, inside.config.vocab_size
        if asked.id is not None and asked.id >= size:
            raise refused(f"id = {asked.id}: expected a token's id from 0 to {size - 1}", "id")
        p_v = await seat.compute(lambda _: inside.logits(L, slice(asked.at, asked.at + 1))[0].softmax(dim=-1))
        id = int(p_v.argmax()) if asked.id is None else asked.id
        found = await in_pieces(seat, ablation_effects(inside, asked.at, id), request)
        header = {"token": shown.token(seat.model.tokenizer, id), "probability": p_v[id].item()}
        return tensors(header, {"without": shown.array(found)})


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


def _check(asked: PassAsked, inside: Inside) -> None:
    """Raise ApiError for a position, layer or head that the pass does not have."""
    config = inside.config
    limits = {"at": len(inside), "layer": config.num_hidden_layers, "head": config.num_attention_heads}
    for name, limit in limits.items():
        value = getattr(asked, name, None)
        if value is not None and value >= limit:
            raise refused(f"{name} = {value}: expected 0 to {limit - 1}", name)
