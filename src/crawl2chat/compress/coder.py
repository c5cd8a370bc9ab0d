"""Tokens to bytes and back, by a model's predictions and a range coder, both the same to the last bit at any time.

The range coder takes symbols of known probabilities, in whole numbers, so exactly. A message is an interval within
[0, 1): each symbol takes a part of it that is as wide as the symbol is probable (G. N. N. Martin, "Range encoding: an
algorithm for removing redundancy from a digitised message", 1979). A message takes Σ −log2 p bits, and at most two
bytes more: the interval's width is kept to 48 bits or more, and a total of 2^TOTAL_BITS cuts off less than 2^−18 of it
per symbol. A symbol is given by two cumulative frequencies out of 2^TOTAL_BITS: of all symbols before it, and those
with its own.

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

from crawl2chat.model import CachedTransformer
from crawl2chat.stages.files import StageError

TOTAL_BITS = 30
TOTAL = 1 << TOTAL_BITS
STATE_BITS = 64
STATE = 1 << STATE_BITS
NARROWEST = 1 << (STATE_BITS - 16)  # below, the interval is widened by a byte

Cumulative = NDArray[np.int64]  # (V + 1,): of all tokens before each one, and then TOTAL
Code = Callable[[Cumulative, int], int]


class Encoder:
    def __init__(self) -> None:
        self.low, self.range = 0, STATE - 1
        self.written = bytearray()

    def encode(self, start: int, end: int) -> None:
        """Take a symbol with the cumulative frequencies 0 ≤ start < end ≤ TOTAL."""
        unit = self.range >> TOTAL_BITS
        self.low += unit * start
        self.range = unit * (end - start)
        self._carry()
        while self.range < NARROWEST:
            self.written.append(self.low >> (STATE_BITS - 8))
            self.low = (self.low << 8) % STATE
            self.range <<= 8

    def finish(self) -> bytes:
        """The whole message: the interval's number with the fewest bytes. Zeros at its end are left out."""
        for shift in range(STATE_BITS - 8, -1, -8):
            number = -(-self.low >> shift) << shift
            if number < self.low + self.range:
                break
        self.low = number
        self._carry()
        self.written += self.low.to_bytes(STATE_BITS // 8, "big")
        return bytes(self.written).rstrip(b"\0")

    def _carry(self) -> None:
        """Add what has grown beyond the state to the bytes that are written."""
        if self.low >= STATE:
            self.low -= STATE
            place = len(self.written) - 1
            while self.written[place] == 0xFF:
                self.written[place] = 0
                place -= 1
            self.written[place] += 1


class Decoder:
    def __init__(self, message: bytes) -> None:
        self.message, self.place = message, STATE_BITS // 8
        self.number = int.from_bytes(message[: self.place].ljust(self.place, b"\0"), "big")  # above the interval's low
        self.range = STATE - 1

    def target(self) -> int:
        """A number below TOTAL that lies within the next symbol: start ≤ target < end."""
        return min(self.number // (self.range >> TOTAL_BITS), TOTAL - 1)

    def take(self, start: int, end: int) -> None:
        """Go on after the symbol that was found, with the cumulative frequencies that it was encoded with."""
        unit = self.range >> TOTAL_BITS
        self.number -= unit * start
        self.range = unit * (end - start)
        while self.range < NARROWEST:
            following = self.message[self.place] if self.place < len(self.message) else 0
            self.number = (self.number << 8) % STATE | following
            self.place += 1
            self.range <<= 8


def code_block(
    cached: CachedTransformer, n_tokens: int, n_streams: int, first_id: int, code: Code, advance: Callable[[int], None]
) -> None:
    """Go through the streams of a block in lockstep, with the model's predictions.

    code(cumulative, i) takes the frequencies of all tokens at place i of the block and returns the token that stands
    there: the encoder looks it up, the decoder decodes it. It is called in the same order either way.
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
    Raises StageError for NaN or infinite logits.
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
