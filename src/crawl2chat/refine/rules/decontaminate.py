"""Pages that hold a test's questions: trained on, they would make the test measure memory."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl2chat.refine.rules import Verdict, drop, keep
from crawl2chat.refine.settings import DecontaminateSettings
from crawl2chat.refine.text.ngram_hash import Hashes, text_ngrams, words_of
from crawl2chat.stages.files import StageError
from crawl2chat.stages.text_files import read_text

SHOWN = 80  # characters of a question in a reject's detail
FORMS = ".jsonl, .json, .parquet or .txt (.gz too, but for Parquet)"


@dataclass(frozen=True)
class Questions:
    """What to look for, in memory: 12 bytes per n-gram and one line per question.

    grams: n → sorted hashes of n-grams of words. owners: n → for each of them the first question that has it.
    names: file, row and beginning of each question. too_short: questions with too few words to look for.
    """

    grams: dict[int, Hashes] = field(repr=False)
    owners: dict[int, npt.NDArray[np.int32]] = field(repr=False)
    names: list[str] = field(repr=False)
    too_short: int


def check_contamination(text: str, settings: DecontaminateSettings) -> Verdict:
    """Drop a text that holds `ngram` words in a row of a question, or a shorter one as a whole (GPT-3, appendix C)."""
    if not settings.against:
        return keep()
    questions = load_questions(settings)
    found: set[int] = set()
    for n, grams in text_ngrams(text, questions.grams):
        wanted, grams = questions.grams[n], np.sort(grams)  # in order, so that the search stays in the cache
        places = np.minimum(np.searchsorted(wanted, grams), len(wanted) - 1)
        found.update(questions.owners[n][places[wanted[places] == grams]].tolist())
    return drop("contaminated", len(found), questions.names[min(found)]) if found else keep()


def load_questions(settings: DecontaminateSettings) -> Questions:
    """Questions of all files of `against`, read once per process. Raises StageError for a file that holds none."""
    return _load(tuple(settings.against), tuple(settings.fields), settings.ngram, settings.min_words)


@lru_cache(maxsize=2)
def _load(paths: Sequence[str], fields: Sequence[str], ngram: int, min_words: int) -> Questions:
    grams: dict[int, list[Hashes]] = {}
    owners: dict[int, list[npt.NDArray[np.int32]]] = {}
    names: list[str] = []
    too_short = 0
    for path in paths:
        for row, text in read_questions(Path(path).expanduser(), fields):
            words = len(words_of(text))
            if words < min_words:
                too_short += 1
                continue
            for n, of_question in text_ngrams(text, [min(words, ngram)]):
                grams.setdefault(n, []).append(of_question)
                owners.setdefault(n, []).append(np.full(len(of_question), len(names), np.int32))
            names.append(f"{Path(path).name}:{row}: {' '.join(text.split())[:SHOWN]}")
    unique = {n: np.unique(np.concatenate(parts), return_index=True) for n, parts in sorted(grams.items())}
    return Questions(
        {n: hashes for n, (hashes, _) in unique.items()},
        {n: np.concatenate(owners[n])[first] for n, (_, first) in unique.items()},
        names,
        too_short,
    )


def read_questions(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Row (from 1) and text of each question: a line of a .txt file, or every one of `fields` that a row has.

    A field may hold a text or a list of texts. Raises StageError for a file that can't be read, for a row
    without any of the fields, and for a file without questions.
    """
    empty = True
    for row, record in _rows(path, fields):
        texts = [record] if isinstance(record, str) else _texts_of(record, fields, f"{path}: row {row}")
        for text in texts:
            if text.strip():
                empty = False
                yield row, text
    if empty:
        raise StageError(f"refine.decontaminate.against: {path}: holds no question")


def _texts_of(record: Any, fields: Sequence[str], place: str) -> list[str]:
    known = [name for name in fields if name in record] if isinstance(record, dict) else []
    if not known:
        has = ", ".join(record) if isinstance(record, dict) else json.dumps(record)[:80]
        raise StageError(
            f"refine.decontaminate.against: {place}: has none of the fields {', '.join(fields)}, but {has}; "
            "name those that hold the questions in refine.decontaminate.fields"
        )
    texts: list[str] = []
    for name in known:
        value = record[name]
        parts = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(part, str) for part in parts):
            raise StageError(
                f"refine.decontaminate.against: {place}: {name} is {json.dumps(value, default=str)[:80]}; "
                "expected a text or a list of texts"
            )
        texts += parts
    return texts


def _rows(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Numbered rows of a file: lines of text as they are, all else as what JSON or Parquet makes of it."""
    form = Path(path.name.removesuffix(".gz")).suffix
    try:
        if form == ".parquet":
            yield from enumerate(_parquet_rows(path, fields), 1)
            return
        if form not in (".jsonl", ".json", ".txt"):
            raise StageError(f"refine.decontaminate.against: {path}: not a file of questions; expected {FORMS}")
        content = read_text(path)
        if form == ".json":
            whole = json.loads(content)
            yield from enumerate(whole if isinstance(whole, list) else [whole], 1)
            return
        for row, line in enumerate(content.split("\n"), 1):
            if line.strip():
                yield row, line if form == ".txt" else json.loads(line)
    except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: of JSON, of UTF-8, of Parquet
        raise StageError(
            f"refine.decontaminate.against: {path}: can't be read ({error}); expected questions as {FORMS}"
        ) from error


def _parquet_rows(path: Path, fields: Sequence[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path)
    names = table.schema_arrow.names
    columns = [name for name in names if name in fields] or names  # all, so that the error can name them
    for batch in table.iter_batches(1000, columns=columns):
        yield from batch.to_pylist()
