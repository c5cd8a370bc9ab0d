"""How probable a model finds given tokens: many sequences at once, and what several begin with is read once.

Shapes: B rows, T tokens per row, C width, V vocabulary, N scored tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crawl2chat.generate.drawing import most_probable_place
from crawl2chat.model import Transformer
from crawl2chat.model.ragged import by_length, common_prefix, pad

BATCH_TOKENS = {"cpu": 4096, "cuda": 65_536}  # of a forward pass, padding too; a longer row is a batch of its own
LOGITS_AT_ONCE = 1 << 25  # 128 MiB of float32


@dataclass(frozen=True)
class Span:
    """Tokens of which those from `start` on are scored; the ones before are their context, at least one."""

    ids: list[int]
    start: int

    @property
    def read(self) -> list[int]:
        """What the model reads: nothing is predicted from the last token."""
        return self.ids[:-1]


@dataclass(frozen=True)
class Score:
    """Of a span's scored tokens: the sum of their −ln p, their number, and whether each was the most probable one."""

    nats: float
    tokens: int
    greedy: bool

    @property
    def mean(self) -> float:
        return self.nats / self.tokens


@dataclass
class _Row:
    """What is read in one go: a beginning, and after it what each of several spans goes on with, next to each other.

    branches: 0 for the tokens of the beginning, i for those that only the i-th span has.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the row, from which a scored token is predicted
    targets: list[int] = field(default_factory=list)  # that token
    members: list[tuple[int, int, int]] = field(default_factory=list)  # group, span in it, its number of scored tokens


@torch.inference_mode()
def score(
    model: Transformer, groups: Sequence[Sequence[Span]], advance: Callable[[int], None] = lambda spans: None
) -> list[list[Score]]:
    """Score each span. Those of a group are read as one row, if they begin alike, or each as its own.

    Rows of like length make a batch. The head, which is most of a small model with a large vocabulary, only
    computes the logits that are asked for. `advance(n)` is told after each batch that n spans more are scored.
    """
    scores: list[list[Score | None]] = [[None] * len(group) for group in groups]
    rows = [row for i, group in enumerate(groups) for row in _rows(i, group)]
    device = next(model.parameters()).device
    lengths = [len(row.ids) for row in rows]
    for places in by_length(lengths, BATCH_TOKENS[device.type], longest_first=True):
        batch = [rows[place] for place in places]
        nats, greedy = _score_rows(model, batch, device)
        at = 0
        for row in batch:
            for group, member, n in row.members:
                scores[group][member] = Score(sum(nats[at : at + n]), n, all(greedy[at : at + n]))
                at += n
        advance(sum(len(row.members) for row in batch))
    return [[found for found in group if found] for group in scores]


def _rows(group: int, spans: Sequence[Span]) -> list[_Row]:
    """One row for all spans when most of it is what they share, else one a span."""
    shared = common_prefix([span.read for span in spans])
    length = shared + sum(len(span.read) - shared for span in spans)
    if 2 * shared < length:
        return [_row(group, [(member, span)], len(span.read)) for member, span in enumerate(spans)]
    return [_row(group, list(enumerate(spans)), shared)]


def _row(group: int, spans: Sequence[tuple[int, Span]], shared: int) -> _Row:
    row = _Row(spans[0][1].read[:shared], list(range(shared)), [0] * shared)
    for branch, (member, span) in enumerate(spans, 1):
        tail = span.read[shared:]
        begin = len(row.ids)
        for place in range(span.start - 1, len(span.read)):
            row.places.append(place if place < shared else begin + place - shared)
        row.ids += tail
        row.positions += range(shared, len(span.read))
        row.branches += [branch] * len(tail)
        row.targets += span.ids[span.start :]
        row.members.append((group, member, len(span.ids) - span.start))
    return row


def _score_rows(model: Transformer, rows: Sequence[_Row], device: torch.device) -> tuple[list[float], list[bool]]:
    """−ln p of every scored token, row by row, and whether it is the most probable."""
    features_btc = _features(model, rows, device)
    T = features_btc.shape[1]
    flat = [i * T + place for i, row in enumerate(rows) for place in row.places]
    places = torch.tensor(flat, dtype=torch.long, device=device)
    targets = torch.tensor([target for row in rows for target in row.targets], dtype=torch.long, device=device)
    places, order = places.sort(stable=True)  # several tokens may be predicted from one place
    nats, greedy = torch.empty(len(places), device=device), torch.empty(len(places), dtype=torch.bool, device=device)
    distinct, index_n = torch.unique_consecutive(places, return_inverse=True)
    features_nc = features_btc.flatten(0, 1)[distinct]
    size = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    for begin in range(0, len(distinct), size):
        logits_nv = model.logits(features_nc[begin : begin + size]).float()
        asked = (index_n >= begin) & (index_n < begin + size)
        row_n, target_n = index_n[asked] - begin, targets[order[asked]]
        nats[order[asked]] = logits_nv.logsumexp(dim=-1)[row_n] - logits_nv[row_n, target_n]
        greedy[order[asked]] = most_probable_place(logits_nv)[row_n] == target_n
    return nats.tolist(), greedy.tolist()


def _features(model: Transformer, rows: Sequence[_Row], device: torch.device) -> Tensor:
    """The last norm's output (B, T, C); what comes after a row's own tokens means nothing, and none of them sees it.

    A branch's tokens see the beginning and what comes before them in their branch, at the positions that they would
    have if it stood alone.
    """

    ids_bt = pad([row.ids for row in rows], device)
    if not any(row.branches[-1] for row in rows):
        return model.features(ids_bt)
    branches_bt, positions_bt = (
        pad([getattr(row, name) for row in rows], device) for name in ("branches", "positions")
    )
    place_t = torch.arange(ids_bt.shape[1], device=device)
    same_btt = branches_bt[:, None, :] == branches_bt[:, :, None]
    mask = ((branches_bt == 0)[:, None, :] | same_btt) & (place_t[:, None] >= place_t)
    return model.features(ids_bt, positions_bt=positions_bt, mask=mask[:, None])
