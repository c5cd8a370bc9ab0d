"""What of a pass goes to the page: reduced here, so that it is small on its way and quick to draw."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.evals.base.heads import repeats_in, score_layer
from crawl2chat.model.inside import Inside
from crawl2chat.tokenizer import Tokenizer

Array = np.ndarray[Any, np.dtype[Any]]

LENS_TOKENS = 8  # of each layer and position
COMPARED = 10  # most probable tokens before and after changes
PROMOTED = 5  # tokens that a part's output speaks for, and against
THUMBNAIL, MAP = 48, 192  # rows and columns of attention, at most
MOST_NUMBERS = 120_000  # of an array of float32: 0.5 MB
LENS_PIECE = 2**22  # logits computed at a time


def token(tokenizer: Tokenizer, id: int) -> dict[str, Any]:
    """Its text, or none where its bytes are only a part of a character, and its bytes in hexadecimal."""
    content = tokenizer.decode_bytes([id])
    try:
        text: str | None = content.decode()
    except UnicodeDecodeError:
        text = None
    return {"id": id, "text": text, "bytes": content.hex(), "control": id in tokenizer.controls.values()}


@dataclass
class Overview:
    """Everything of a pass that the page shows before anybody clicks."""

    lens_ids: Array  # (L + 1, T, k)
    lens_probabilities: Array
    maps: Array  # (L, H, S, S) attention as `small_map` makes it
    scores: Array  # (3, L, H) induction, previous and first on this text
    pairs: int  # that come again
    stream_norms: Array  # (2·L + 1, T) lengths of the stream's vectors: at first, after each attention and each MLP
    head_norms: Array  # (L, H, T) lengths of what heads write
    mlp_norms: Array  # (L, T)


def overview(inside: Inside) -> Generator[None, None, Overview]:
    """A generator that yields between pieces of work, and returns the result."""
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
    return Overview(
        array(torch.stack([ids for ids, _ in lenses]).int()),
        array(torch.stack([probabilities for _, probabilities in lenses])),
        np.stack(maps),
        array(torch.stack(scores, dim=1)),
        int(repeats.followed_tt.any(1).sum()),
        array(torch.stack([x_tc.norm(dim=-1) for x_tc in steps_of_stream(inside)])),
        array(torch.stack(head_norms)),
        array(torch.stack(mlp_norms)),
    )


def steps_of_stream(inside: Inside) -> list[Tensor]:
    """The stream at first, and after each attention and each MLP: 2·L + 1 tensors (T, C)."""
    after = [x_tc for pair in zip(inside.between, inside.stream[1:], strict=True) for x_tc in pair]
    return [inside.stream[0], *after]


def small_map(attention_htt: Tensor, most: int) -> Array:
    """Attention as bytes, 255·√share, whose small shares can still be seen; (H, S, S).

    For more than `most` tokens a byte is the greatest share among its neighbours.
    """
    factor = -(-attention_htt.shape[-1] // most)
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
    n = min(M, max(1, MOST_NUMBERS // T))
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
            {**token(tokenizer, id), "before": p[id].item(), "after": q[id].item()}
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

    def told(top: Any) -> list[dict[str, Any]]:
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return [{**token(tokenizer, id), "logit": value} for id, value in pairs]

    return {"raised": told(logits_v.topk(n)), "lowered": told(logits_v.topk(n, largest=False))}


def array(tensor: Tensor) -> Array:
    found: Array = tensor.cpu().numpy()
    return found
