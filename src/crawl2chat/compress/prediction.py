"""A model's predictions of each next token of a block of text, the same to the last bit whenever they are made.

An archive's reader must see the very probabilities that its writer saw, but sums of floating-point numbers depend on
how they are grouped: a token read with others and the same token read by itself differ in the last digits. So writer
and reader run the same computation, one token at a time, and a block is cut into streams that are rows of one batch,
which makes it fast. A stream whose context is full reads the last half of it again, so that from then on each token
is predicted from half a window to a whole one.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crawl2chat.compress.arithmetic_coder import TOTAL
from crawl2chat.model import CachedTransformer
from crawl2chat.stages.files import StageError

Cumulative = NDArray[np.int64]  # (V + 1,): of all tokens before each one, and then TOTAL
Code = Callable[[Cumulative, int], int]


def code_block(
    cached: CachedTransformer, n_tokens: int, n_streams: int, first_id: int, code: Code, advance: Callable[[int], None]
) -> None:
    """Go through the streams of a block in lockstep, with the model's predictions.

    code(cumulative, i) takes the frequencies of all tokens at place i of the block and returns the token that stands
    there: who writes looks it up, who reads decodes it. It is called in the same order either way.
    first_id: what every stream begins with, uncoded. advance: is told the number of tokens after each step.
    """
    window = cached.max_length
    starts = stream_starts(n_tokens, n_streams)
    tokens = [[first_id] for _ in range(n_streams)]
    position, done = 0, 0
    for place in range(starts[1]):
        n = n_streams if place < n_tokens // n_streams else n_tokens % n_streams  # the first ones may be longer by one
        if position == window:
            position = window // 2
            cached.prefill(range(n), [0] * n, [stream[-position - 1 : -1] for stream in tokens[:n]])
        logits = cached.decode([(stream[-1], position) for stream in tokens[:n]])
        for start, stream, cumulative in zip(starts, tokens, cumulative_frequencies(logits), strict=False):
            stream.append(code(cumulative, start + place))
        position += 1
        done += n
        advance(done)


def stream_starts(n_tokens: int, n_streams: int) -> list[int]:
    """Where each stream of a block begins, and the end; the first ones are a token longer if it doesn't go up."""
    shorter, longer = divmod(n_tokens, n_streams)
    return [i * shorter + min(i, longer) for i in range(n_streams + 1)]


def cumulative_frequencies(logits_nv: Tensor) -> Cumulative:
    """Each row's probabilities as cumulative frequencies (N, V + 1) from 0 to TOTAL, every token at least 1.

    It is their sums that are rounded, not the probabilities, so that no remainder has to be given to anyone.
    Raises StageError for logits that are no numbers.
    """
    N, V = logits_nv.shape
    logits = logits_nv.double().cpu().numpy()
    sums = np.cumsum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)
    if not np.isfinite(sums[:, -1]).all():
        raise StageError("the model predicts no probabilities (its logits are not finite), so it can archive nothing")
    cumulative = np.zeros((N, V + 1), dtype=np.int64)
    cumulative[:, 1:] = sums / sums[:, -1:] * (TOTAL - V)
    cumulative[:, 1:] += np.arange(1, V + 1)
    return cumulative
