"""The stage that says what a base model is: how well it compresses, what it recites, knows, and does by its prompt."""

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch

from crawl2chat.compress.archive import SMALL
from crawl2chat.evals.base.compression import measure_compression
from crawl2chat.evals.base.continuation import measure_continuation
from crawl2chat.evals.base.facts import measure_facts
from crawl2chat.evals.base.in_context import measure_in_context
from crawl2chat.evals.base.prompting import measure_prompting
from crawl2chat.evals.base.recitation import measure_recitation
from crawl2chat.evals.base.settings import TIMES, BaseSettings
from crawl2chat.evals.base.spelling import measure_spelling
from crawl2chat.evals.base.subject import Subject
from crawl2chat.evals.base.sums import measure_sums
from crawl2chat.generate import Engine
from crawl2chat.model import load_model
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.progress import Progress
from crawl2chat.stages.stage import hash_path, read_manifest
from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments
from crawl2chat.tokenizer.tokenize import held_out_documents

HELD_OUT_TOKENS = 4_000_000  # that are measured at most, and held in memory as text, too
MEASURES: dict[str, Callable[[Subject], list[Figure]]] = {  # by part, as `report.captions.NOTES` has them
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

    documents: what it was pretrained on. Where `crawl` is a fictional web, all parts are measured; of others, what
    needs no ledger of truth.
    """
    crawl, documents, model, out = map(Path, (crawl, documents, model, out))
    subject = load_subject(crawl, documents, model, out, settings)
    figures: list[Figure] = []
    with _few_threads(subject), Progress("base", len(MEASURES), "part") as progress:
        for i, (name, measure) in enumerate(MEASURES.items()):
            progress.update(i, name)
            began = time.monotonic()
            figures += measure(subject)
            figures.append(Figure(TIMES + name, round(time.monotonic() - began, 2), "s"))
        progress.update(len(MEASURES), "")
    return figures


@contextlib.contextmanager
def _few_threads(subject: Subject) -> Iterator[None]:
    """One thread for a small model: its steps are so short that a second one gains little and, where it has to wait for
    a core, costs many times as much."""
    before = torch.get_num_threads()
    if subject.model.n_parameters() < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_subject(crawl: Path, documents: Path, model: Path, out: Path, settings: BaseSettings) -> Subject:
    """Raises StageError for a model whose stage has left no tokens, such as an imported one."""
    manifest = read_manifest(model)
    tokens = model / "tokens"
    if manifest is None or not tokens.is_dir():
        raise StageError(f"base: {model} is no finished pretrain stage's folder, so what it learned from is not known")
    pretraining = manifest.settings
    if manifest.inputs["refine"] != hash_path(documents):
        raise StageError(f"base: {documents} is not what {model} was trained on; run pretrain again")
    tokenized = TokenizedDocuments.load(tokens / "held_out")
    tokenized = tokenized.first(max(HELD_OUT_TOKENS, int(tokenized.starts[:2][-1])))
    found = held_out_documents(documents, held_out=pretraining["held_out"], seed=pretraining["seed"])
    held_out = list(islice(found, len(tokenized)))
    ledger = Ledger.load(crawl) if (crawl / "ledger").is_dir() else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    engine = Engine(load_model(model, device=device), Tokenizer.load(model))
    return Subject(engine, TokenizedDocuments.load(tokens / "training"), tokenized, held_out, ledger, settings, out)
