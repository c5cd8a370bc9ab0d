"""The stage `base`: how well a base model compresses, what it recites and knows, and what it does by its prompt."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from crawl2chat.compress.archive import SMALL_MODEL, torch_threads
from crawl2chat.evals.base.compression import measure_compression
from crawl2chat.evals.base.continuation import measure_continuation, measure_recitation
from crawl2chat.evals.base.facts import measure_facts, measure_prompting
from crawl2chat.evals.base.in_context import measure_in_context
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.base.settings import TIMES, BaseSettings
from crawl2chat.evals.base.spelling_and_sums import measure_spelling, measure_sums
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath
from crawl2chat.stages.progress import Progress

MEASURES: dict[str, Callable[[ModelUnderTest], list[Figure]]] = {  # by part, as `report.captions.NOTES` has them
    "compression": measure_compression,
    "in_context": measure_in_context,
    "prompting": measure_prompting,
    "facts": measure_facts,
    "sums": measure_sums,
    "spelling": measure_spelling,
    "continuation": measure_continuation,
    "recitation": measure_recitation,
}


def measure_base(
    crawl: AnyPath, documents: AnyPath, model: AnyPath, out: AnyPath, settings: BaseSettings
) -> list[Figure]:
    """Measure the base model of a pretrain stage's folder.

    documents: those it was pretrained on. If `crawl` is a made-up web, all parts are measured; for other crawls, those
    that need no ledger of truth. Returns the figures of each part, followed by the seconds that it took.
    """
    crawl, documents, model, out = map(Path, (crawl, documents, model, out))
    tested = ModelUnderTest.load(crawl, documents, model, out, settings)
    figures: list[Figure] = []
    # one thread for a small model: its steps are so short that a second one gains little and, waiting for a core,
    # costs many times as much
    small = tested.model.n_parameters() < SMALL_MODEL
    with torch_threads(1 if small else torch.get_num_threads()), Progress("base", len(MEASURES), "part") as progress:
        for i, (name, measure) in enumerate(MEASURES.items()):
            progress.update(i, name)
            began = time.monotonic()
            figures += measure(tested)
            figures.append(Figure(TIMES + name, round(time.monotonic() - began, 2), "s"))
        progress.update(len(MEASURES), "")
    return figures
