"""The controls of `sampling`, fast: for many sequences at once, each with settings of its own.

Each control takes a column of values, (B, 1), so that a sequence gets what it would get alone; penalties and bias come
as N triples: row, id, value. Where a few candidates are enough, the whole vocabulary is not sorted.
Tests compare all this with the one-sequence functions of `sampling`, and these with transformers.

Shapes: B sequences, K candidates, V vocabulary, N triples.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.generate.sampling import Written
from crawl2chat.generate.settings import SHORT_LIST, Sampling

MAX_VOCABULARY = 2**31
CANDIDATES = 256  # most nuclei are smaller; only the rows of larger ones are sorted whole
BLOCK = 64  # tokens that are summed up before the draw looks within one block


def _add(logits_bv: Tensor, rows_n: Tensor, ids_n: Tensor, bias_n: Tensor) -> Tensor:
    """Bias, and penalties on the answer's tokens."""
    return logits_bv.index_put((rows_n, ids_n), bias_n, accumulate=True)


def _divide(logits_bv: Tensor, rows_n: Tensor, ids_n: Tensor, penalty_n: Tensor) -> Tensor:
    """Divide positive logits by the penalty and multiply negative ones, so that both fall; each (row, id) once."""
    logits_n = logits_bv[rows_n, ids_n]
    return logits_bv.index_put((rows_n, ids_n), torch.where(logits_n < 0, logits_n * penalty_n, logits_n / penalty_n))


def cut_top_k(logits_bv: Tensor, k: int | Tensor) -> Tensor:
    """Leave out all but the k most probable tokens (ties with the last one stay); 0 keeps all."""
    V = logits_bv.shape[-1]
    k_b1 = torch.as_tensor(k, device=logits_bv.device).expand(len(logits_bv), 1)
    limited = k_b1[(k_b1 > 0) & (k_b1 < V)]
    if not len(limited):
        return logits_bv
    most_probable = logits_bv.topk(int(limited.max()), dim=-1).values
    smallest_kept = most_probable.gather(-1, (k_b1 - 1).clamp(0, most_probable.shape[-1] - 1))
    return logits_bv.masked_fill((logits_bv < smallest_kept) & (k_b1 > 0) & (k_b1 < V), -torch.inf)


def cut_top_p(logits_bv: Tensor, p: float | Tensor) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches p; 1 keeps all.

    That is each token before which, in descending order, stands less than p.
    """
    p_b1 = torch.as_tensor(p, dtype=torch.float32, device=logits_bv.device).expand(len(logits_bv), 1)
    all_kept_b1 = p_b1 >= 1
    if bool(all_kept_b1.all()):
        return logits_bv
    probabilities_bv = logits_bv.softmax(dim=-1)
    few = probabilities_bv.topk(min(CANDIDATES, logits_bv.shape[-1]), dim=-1)
    kept_bv = _nucleus(logits_bv, few.values, few.indices, p_b1)
    larger_b = (few.values.sum(dim=-1) < p_b1[:, 0]) & ~all_kept_b1[:, 0]
    if bool(larger_b.any()):
        every = probabilities_bv[larger_b].sort(dim=-1, descending=True)
        kept_bv[larger_b] = _nucleus(logits_bv[larger_b], every.values, every.indices, p_b1[larger_b])
    return torch.where(all_kept_b1, logits_bv, kept_bv)


def _nucleus(logits_bv: Tensor, probabilities_bk: Tensor, ids_bk: Tensor, p_b1: Tensor) -> Tensor:
    """Only those of the K candidates, most probable first, that stand before the mass reaches p."""
    before_bk = probabilities_bk.cumsum(dim=-1) - probabilities_bk
    kept_bk = logits_bv.gather(-1, ids_bk).masked_fill(before_bk >= p_b1, -torch.inf)
    return torch.full_like(logits_bv, -torch.inf).scatter(-1, ids_bk, kept_bk)


def cut_min_p(logits_bv: Tensor, share: float | Tensor) -> Tensor:
    """Keep tokens at least this share as probable as the most probable one; 0 keeps all."""
    share_b1 = torch.as_tensor(share, dtype=torch.float32, device=logits_bv.device)
    return logits_bv.masked_fill(logits_bv < logits_bv.amax(dim=-1, keepdim=True) + share_b1.log(), -torch.inf)


class Controls:
    """The settings of a batch's sequences as tensors, made again when the batch changes."""

    def __init__(self, samplings: Sequence[Sampling], device: torch.device | str = "cpu") -> None:
        self.samplings = samplings
        drawing = [None if s.greedy else s for s in samplings]  # what comes after temperature changes no greedy choice

        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        self.greedy_b = column([s is None for s in drawing], torch.bool)[:, 0]
        self.some_greedy, self.some_draw = None in drawing, any(drawing)
        self.penalises = any(s.penalises for s in samplings)
        self.cold = any(s.temperature != 1 for s in drawing if s)
        self.cuts = any(s.top_k or s.top_p < 1 or s.min_p for s in drawing if s)
        self.temperature_b1 = column([s.temperature if s else 1.0 for s in drawing])
        self.top_k_b1 = column([min(s.top_k, MAX_VOCABULARY) if s else 0 for s in drawing], torch.long)
        self.top_p_b1 = column([s.top_p if s else 1.0 for s in drawing])
        self.min_p_b1 = column([s.min_p if s else 0.0 for s in drawing])
        bias = _Triples()
        for row, s in enumerate(samplings):
            bias.add(row, s.logit_bias, s.logit_bias.values())
        self.bias = bias.tensors(device) if bias.rows else None

    def __call__(self, logits_bv: Tensor, written: Sequence[Written]) -> Tensor:
        """Logits (B, V) after all controls but the draw. written: of each sequence, for the penalties."""
        return self.cut(self.shift(logits_bv, written))

    def shift(self, logits_bv: Tensor, written: Sequence[Written]) -> Tensor:
        """Bias and penalties: 1 to 3."""
        if self.bias:
            logits_bv = _add(logits_bv, *self.bias)
        if self.penalises:
            logits_bv = self._penalised(logits_bv, written)
        return logits_bv

    def cut(self, logits_bv: Tensor) -> Tensor:
        """Temperature and what leaves tokens out: 4 to 7."""
        if self.cold:
            logits_bv = logits_bv / self.temperature_b1
        if self.cuts:
            logits_bv = cut_top_p(cut_top_k(logits_bv, self.top_k_b1), self.top_p_b1)
            if bool((self.min_p_b1 > 0).any()):
                logits_bv = cut_min_p(logits_bv, self.min_p_b1)
        return logits_bv

    def cut_sorted(self, logits_bk: Tensor) -> Tensor:
        """The same of the K most probable tokens, most probable first, for sequences whose top-k is at most K."""
        if self.cold:
            logits_bk = logits_bk / self.temperature_b1
        places_k = torch.arange(logits_bk.shape[-1], device=logits_bk.device)
        logits_bk = torch.where(places_k < self.top_k_b1, logits_bk, -torch.inf)
        p_bk = logits_bk.softmax(dim=-1)
        beyond_bk = (p_bk.cumsum(dim=-1) - p_bk >= self.top_p_b1) | (p_bk < p_bk[:, :1] * self.min_p_b1)
        return logits_bk.masked_fill(beyond_bk, -torch.inf)

    def drawn_from(self, shifted_bv: Tensor, *, short: bool) -> tuple[Tensor, Tensor | None]:
        """What the next tokens are drawn from, after `shift`: logits (B, K), and which ids they belong to (B, K).

        Without ids the columns are the vocabulary. short: whether all samplings are `short`; they draw among the
        SHORT_LIST most probable tokens.
        """
        if not short:
            return self.cut(shifted_bv), None
        few = shifted_bv.topk(min(SHORT_LIST, shifted_bv.shape[-1]), dim=-1)
        return self.cut_sorted(few.values), few.indices

    def draw(self, logits_bk: Tensor, generators: Sequence[np.random.Generator]) -> Tensor:
        """The place of each sequence's next token, (B,); each draws one number from its own generator."""
        if not self.some_draw:
            return most_probable_place(logits_bk)
        uniforms = [0.0 if s.greedy else g.random() for s, g in zip(self.samplings, generators, strict=True)]
        drawn_b = draw(logits_bk, torch.tensor(uniforms, dtype=torch.float64, device=logits_bk.device))
        return torch.where(self.greedy_b, most_probable_place(logits_bk), drawn_b) if self.some_greedy else drawn_b

    def _penalised(self, logits_bv: Tensor, written: Sequence[Written]) -> Tensor:
        device = logits_bv.device
        repeated, answered = _Triples(), _Triples()
        for row, (sampling, (prompt, answer)) in enumerate(zip(self.samplings, written, strict=True)):
            if sampling.repetition_penalty != 1:
                seen = {*prompt, *answer}
                repeated.add(row, seen, [sampling.repetition_penalty] * len(seen))
            if sampling.presence_penalty or sampling.frequency_penalty:
                counts = Counter(answer)
                taken = [-sampling.presence_penalty - n * sampling.frequency_penalty for n in counts.values()]
                answered.add(row, counts, taken)
        logits_bv = _divide(logits_bv, *repeated.tensors(device))
        return _add(logits_bv, *answered.tensors(device))


class _Triples:
    """Rows, ids and values, gathered row by row."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.ids: list[int] = []
        self.values: list[float] = []

    def add(self, row: int, ids: Collection[int], values: Iterable[float]) -> None:
        self.rows += [row] * len(ids)
        self.ids += ids
        self.values += values

    def tensors(self, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
        rows, ids = (torch.tensor(numbers, dtype=torch.long, device=device) for numbers in (self.rows, self.ids))
        return rows, ids, torch.tensor(self.values, dtype=torch.float32, device=device)


def draw(logits_bv: Tensor, uniform_b: Tensor) -> Tensor:
    """Of each sequence the token at this quantile, in [0, 1), of its cumulative distribution: (B,).

    A sequence's own number is looked up in its own distribution, so what it gets does not depend on which others
    share its batch: first among sums over BLOCK tokens, then within one. uniform_b: float64.
    """
    p_bnk = _blocks(logits_bv.softmax(dim=-1), 0.0)
    block_b, rest_b = _at(p_bnk.sum(dim=-1, dtype=torch.float64), uniform_b[:, None])
    p_bk = p_bnk[torch.arange(len(p_bnk), device=p_bnk.device), block_b]
    # of a broken model's NaN, too, what comes out is a token
    return (block_b * BLOCK + _at(p_bk.double(), rest_b)[0]).clamp(max=logits_bv.shape[-1] - 1)


def _at(masses_bn: Tensor, share_b1: Tensor) -> tuple[Tensor, Tensor]:
    """The place where the cumulative mass passes this share of it, (B,), and what share of that mass is passed, (B, 1).

    Never a place without mass, whatever the rounding.
    """
    cumulative_bn = masses_bn.cumsum(dim=-1)
    total_b1 = cumulative_bn[:, -1:]
    target_b1 = torch.minimum(share_b1 * total_b1, torch.nextafter(total_b1, torch.zeros_like(total_b1)))
    place_b1 = torch.searchsorted(cumulative_bn, target_b1, right=True).clamp(max=masses_bn.shape[-1] - 1)
    mass_b1 = masses_bn.gather(-1, place_b1)
    passed_b1 = target_b1 - (cumulative_bn.gather(-1, place_b1) - mass_b1)
    return place_b1[:, 0], (passed_b1 / mass_b1).clamp(0, 1)


def most_probable_place(logits_bv: Tensor) -> Tensor:
    """argmax of each row, the first of equal ones; by blocks, since torch's own is 10 times slower than its amax."""
    logits_bnk = _blocks(logits_bv, -torch.inf)
    block_b = logits_bnk.amax(dim=-1).argmax(dim=-1)
    place_b = block_b * BLOCK + logits_bnk[torch.arange(len(block_b), device=block_b.device), block_b].argmax(dim=-1)
    return place_b.clamp(max=logits_bv.shape[-1] - 1)


def _blocks(x_bv: Tensor, padding: float) -> Tensor:
    """(B, N, BLOCK)."""
    B, V = x_bv.shape
    return F.pad(x_bv, (0, -V % BLOCK), value=padding).view(B, -1, BLOCK)
