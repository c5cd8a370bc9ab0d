"""Features of a block's place among the scores of its page, for a second network that corrects the first one's.

The first network scores each block by itself. Whether a doubtful block belongs to the main text also depends on the
scores of its neighbours, of its section, of the blocks that look like it, and of the page as a whole.
"""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from crawl2chat.refine.text.html_elements import Block

Floats = npt.NDArray[np.float32]

NEARBY = (-3, -2, -1, 1, 2, 3)
REPEATED = (  # features of the first network that the second one sees as well
    "log_chars",
    "link_share",
    "ends_sentence",
    "log_prose",
    "cues_per_word",
    "after_more",
    "after_comment",
    "tag_p",
    "tag_li",
    "tag_h1",
    "tag_h2",
    "tag_h3",
    "tag_div",
)
CONTEXT_FEATURES = (
    "logit",
    "share_of_best",
    "page_best",
    "page_mean",
    "page_mean_by_length",
    "kept_before",
    *(f"score_at_{k:+d}" for k in NEARBY),
    "container_mean",
    "lookalike_mean",
    "has_lookalikes",
    "section_mean",
    "section_heading",
    "log_blocks_since_heading",
    *REPEATED,
)
LEAST = 1e-4  # of a score and of what it lacks to 1, so that logits are finite


def context_features(
    blocks: Sequence[Block], scores: Floats, repeated: Floats, is_heading: npt.NDArray[np.bool_]
) -> Floats:
    """(blocks, len(CONTEXT_FEATURES)) What the second network sees of each block of a page; at least one block.

    scores: (blocks,) of the first network. repeated: (blocks, len(REPEATED)). is_heading: (blocks,).
    """
    n = len(blocks)
    chars = np.expm1(repeated[:, REPEATED.index("log_chars")])
    weights = np.sqrt(chars)  # a long paragraph says more than a short one, but not in proportion
    kept = np.cumsum(scores * chars)
    elements = [block.element for block in blocks]
    containers = [element.container for element in elements]
    container = _number(containers)
    looks = _number([(own.name, own.hints, around.hints) for own, around in zip(elements, containers, strict=True)])
    at = np.arange(n)
    heading = np.maximum.accumulate(np.where(is_heading, at, -1))  # the nearest one above or here; -1: none
    padded = np.zeros(n + 6, np.float32)
    padded[3:-3] = scores
    best = scores.max()
    weighted = scores * weights
    columns = [
        np.log((scores + LEAST) / (1 - scores + LEAST)) / 5,  # from -2 to 2, like the others in size
        scores / max(best, LEAST),
        best,
        scores.mean(),
        kept[-1] / chars.sum(),
        (kept - scores * chars) / max(kept[-1], LEAST),
        *(padded[3 + k : 3 + k + n] for k in NEARBY),
        _group_means(container, weighted, weights),
        _group_means(looks, weighted, weights),
        np.bincount(looks)[looks] > 1,
        _group_means(heading + 1, weighted, weights),
        np.where(heading >= 0, scores[heading], 0.5),
        np.log1p(at - heading) / 3,
    ]
    return np.concatenate([columns_of(n, columns), repeated], axis=1)


def columns_of(n: int, values: Sequence[npt.ArrayLike]) -> Floats:
    """Return columns (n, len(values)) of numbers and arrays (n,); faster than np.stack on arrays this short."""
    columns = np.empty((len(values), n), np.float32)
    for column, value in zip(columns, values, strict=True):
        column[:] = value
    return columns.T


def _number(things: Iterable[Hashable]) -> npt.NDArray[np.int64]:
    """Equal things get equal numbers, counted from 0."""
    numbers: dict[Hashable, int] = {}
    number_of = numbers.setdefault
    return np.array([number_of(thing, len(numbers)) for thing in things])


def _group_means(groups: npt.NDArray[np.int64], weighted: Floats, weights: Floats) -> npt.NDArray[np.float64]:
    """(blocks,) The weighted mean of the values of each block's group, from values × weights."""
    sums, totals = np.bincount(groups, weighted), np.bincount(groups, weights)
    return (sums / np.maximum(totals, LEAST))[groups]
