"""Which blocks of a page are its main text: two small networks that weigh the features of its blocks.

The first network scores each block by itself, the second one corrects the scores by those around it.
The weights were learnt from pages with hand-made gold by scripts/train_extractor.py; the file main_content.json
holds them, one line per feature.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl2chat.refine.text.block_features import (
    CONTEXT_FEATURES,
    FEATURES,
    HEADINGS,
    Floats,
    features_and_marks,
    features_in_context,
)
from crawl2chat.refine.text.html_tags import Block, find_rows

SHARE_OF_BEST = 0.5
HEADING_SHARE = 0.3  # costs 0.0005 of F1 on the training part (4 folds) and keeps more headings
TITLE_SHARE = 0.15  # for a page's only <h1>, which gold and teachers mostly leave out but readers miss
WEIGHTS = "main_content.json"
UNTHREADED = 4 * 65_536  # multiplications


def main_blocks(blocks: Sequence[Block]) -> list[Block]:
    """The blocks of the main text, in their order."""
    return choose_blocks(blocks, score_blocks(blocks))


def choose_blocks(blocks: Sequence[Block], scores: Floats) -> list[Block]:
    """The blocks that are at least half as likely as the page's likeliest.

    The cells of a row stay or go together, and a heading stays with what follows it unless it is most unlikely.
    """
    scores = scores.copy()
    rows: dict[int, list[int]] = {}
    for i, row in find_rows(blocks).items():
        rows.setdefault(id(row), []).append(i)
    for cells in rows.values():
        scores[cells] = scores[cells].mean()
    best = scores.max(initial=0)
    chosen = scores >= SHARE_OF_BEST * best
    headings = [i for i, block in enumerate(blocks) if block.element.name in HEADINGS and not chosen[i]]
    titles = [i for i, block in enumerate(blocks) if block.element.name == "h1"]
    for i in reversed(headings):  # a heading may be above another
        share = TITLE_SHARE if titles == [i] else HEADING_SHARE
        chosen[i] = scores[i] >= share * best and chosen[i + 1 : i + 3].any()
    return [blocks[i] for i in np.flatnonzero(chosen).tolist()]


def score_blocks(blocks: Sequence[Block]) -> Floats:
    """(blocks,) How likely each block belongs to the main text of the page, from 0 to 1."""
    if not blocks:
        return np.zeros(0, np.float32)
    first, second = _networks()
    features, marks, marks_of = features_and_marks(blocks)
    return second(features_in_context(blocks, features, first(features, marks, marks_of)))


@dataclass(frozen=True)
class Network:
    """Features → hidden (ReLU) → one logit."""

    inner: Floats  # (features, hidden)
    inner_bias: Floats  # (hidden,)
    outer: Floats  # (hidden,)
    outer_bias: float

    def __call__(
        self, features: Floats, marks: Floats | None = None, marks_of: npt.NDArray[np.intp] | None = None
    ) -> Floats:
        """(blocks, features) → (blocks,) probabilities.

        With marks, the last features of a block are the row of marks (distinct, features) that marks_of (blocks,) says.
        """
        hidden = _product(features, self.inner[: features.shape[1]]) + self.inner_bias
        if marks is not None:
            hidden += _product(marks, self.inner[features.shape[1] :])[marks_of]
        hidden = np.maximum(hidden, 0)
        logits = np.einsum("ij,j->i", hidden, self.outer) + self.outer_bias
        logits = np.clip(logits, -80, 80)  # e^89 is more than 32 bits hold
        probabilities: Floats = 1 / (1 + np.exp(-logits))
        return probabilities


def _product(features: Floats, weights: Floats) -> Floats:
    """The matrix product, a few rows at a time.

    Products of up to 4 × 65,536 multiplications OpenBLAS leaves to the thread that asks (`interface/gemm.c`); for
    larger ones it wakes others, which costs twice the time that a page takes.
    """
    few = max(UNTHREADED // weights.size, 1)
    if len(features) <= few:
        return features @ weights
    return np.concatenate([features[i : i + few] @ weights for i in range(0, len(features), few)])


@lru_cache(maxsize=1)
def _networks() -> tuple[Network, Network]:
    """The networks for a block by itself and for a block among the scores of its page."""
    file = json.loads(resources.files("crawl2chat.refine.text").joinpath(WEIGHTS).read_text(encoding="utf-8"))
    return _network(file["block"], FEATURES), _network(file["context"], CONTEXT_FEATURES)


def _network(weights: dict[str, Any], features: Sequence[str]) -> Network:
    inner = np.array([weights["inner"][name] for name in features], np.float32)
    biases = np.array(weights["inner_bias"], np.float32)
    return Network(inner, biases, np.array(weights["outer"], np.float32), float(weights["outer_bias"]))
