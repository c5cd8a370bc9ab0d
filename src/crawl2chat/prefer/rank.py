"""Rankings of answers in one SQLite file, given by a person in the terminal or by a simulated annotator."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.disks import storage_error
from crawl2chat.evals.knowledge import question_prompt
from crawl2chat.generate import Engine, Sampling
from crawl2chat.interrupts import Terminated
from crawl2chat.run import AnyPath, StageError, replacing

ANSWER_TOKENS = 128
MOST_ANSWERS = 9  # each has a digit

_SCHEMA = """
CREATE TABLE IF NOT EXISTS prompts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY, prompt INTEGER NOT NULL REFERENCES prompts,
    text TEXT NOT NULL, ended INTEGER NOT NULL, author TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS rankings (
    id INTEGER PRIMARY KEY, prompt INTEGER NOT NULL REFERENCES prompts,
    annotator TEXT NOT NULL, best_first TEXT NOT NULL, time TEXT
);
"""
_TABLES = {"prompts", "answers", "rankings"}


@dataclass(frozen=True)
class Answer:
    """What somebody is shown: a text, whether it came to its own end, and who wrote it."""

    text: str
    ended: bool
    author: str


@dataclass(frozen=True)
class Ranking:
    """One judgement: a prompt's answers as they were shown, and their places there, best first."""

    prompt: str
    answers: tuple[Answer, ...]
    best_first: tuple[int, ...]
    annotator: str

    @property
    def ordered(self) -> list[Answer]:
        """The answers, best first."""
        return [self.answers[place] for place in self.best_first]


class RankingStore:
    """Prompts, answers in the order shown, and rankings as lists of answers' ids; each ranking is one transaction."""

    def __init__(self, file: AnyPath | None = None) -> None:
        """file: made if it does not exist; None keeps the store in memory. Raises StageError if it is no store."""
        self.file = None if file is None else Path(file)
        try:
            self.connection = sqlite3.connect(file or ":memory:")
            tables = {
                name for (name,) in self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            if tables and not tables >= _TABLES:
                raise StageError(f"{file}: is a database of something else, not a store of rankings")
            self.connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StageError(f"{file}: can't be used as a store of rankings: {error}") from error

    def add(
        self, prompt: str, answers: Sequence[Answer], best_first: Sequence[int], annotator: str, time: str | None = None
    ) -> None:
        """Add a ranking, on disk when this returns; `best_first` are places in `answers`, best first."""
        if sorted(best_first) != list(range(len(answers))):
            raise ValueError(f"best_first = {list(best_first)}: must name each of {len(answers)} answers once")
        try:
            self._insert(prompt, answers, best_first, annotator, time)
        except sqlite3.Error as error:
            raise storage_error(error, self.file or Path(":memory:")) or error from error

    def _insert(
        self, prompt: str, answers: Sequence[Answer], best_first: Sequence[int], annotator: str, time: str | None
    ) -> None:
        with self.connection as db:
            db.execute("INSERT OR IGNORE INTO prompts (text) VALUES (?)", (prompt,))
            (prompt_id,) = db.execute("SELECT id FROM prompts WHERE text = ?", (prompt,)).fetchone()
            insert = "INSERT INTO answers (prompt, text, ended, author) VALUES (?, ?, ?, ?)"
            ids = [db.execute(insert, (prompt_id, a.text, a.ended, a.author)).lastrowid for a in answers]
            ordering = json.dumps([ids[place] for place in best_first])
            insert = "INSERT INTO rankings (prompt, annotator, best_first, time) VALUES (?, ?, ?, ?)"
            db.execute(insert, (prompt_id, annotator, ordering, time))

    def rankings(self) -> Iterator[Ranking]:
        """All rankings in the order in which they were given."""
        answers = {
            id: Answer(text, bool(ended), author)
            for id, text, ended, author in self.connection.execute("SELECT id, text, ended, author FROM answers")
        }
        rows = self.connection.execute(
            "SELECT p.text, r.annotator, r.best_first FROM rankings r JOIN prompts p ON p.id = r.prompt ORDER BY r.id"
        )
        for prompt, annotator, best_first in rows:
            ids = json.loads(best_first)
            shown = sorted(ids)
            yield Ranking(prompt, tuple(answers[id] for id in shown), tuple(map(shown.index, ids)), annotator)

    def save(self, file: AnyPath) -> None:
        """Write the whole store at once; equal contents added in equal order give equal bytes."""
        with replacing(Path(file)) as temporary:
            temporary.write_bytes(self.connection.serialize())


def rank_in_terminal(
    store: RankingStore,
    engine: Engine,
    prompts: Sequence[str],
    k: int,
    annotator: str,
    *,
    read: Callable[[str], str] = input,
    seed: int = 0,
) -> int:
    """Show k sampled answers to each prompt and store the person's order; returns how many were ranked.

    Prompts that this annotator has ranked before are passed over, so the next call goes on where the last one
    ended, however it ended. `s` skips a prompt, `q` or the end of input stops.
    """
    if not 2 <= k <= MOST_ANSWERS:
        raise ValueError(f"k = {k}: must be from 2 to {MOST_ANSWERS}")
    known = {ranking.prompt for ranking in store.rankings() if ranking.annotator == annotator}
    ranked = 0
    for number, prompt in enumerate(prompts):
        if prompt in known:
            continue
        answers = sample_answers(engine, prompt, k, (seed, number))
        print(f"\n── {number + 1}/{len(prompts)}: {prompt}")
        for place, answer in enumerate(answers, 1):
            print(f"\n[{place}] {answer.text}{'' if answer.ended else ' … (cut off)'}")
        ordering = _ask_for_ordering(k, read)
        if ordering is None:
            break
        if ordering:
            store.add(prompt, answers, ordering, annotator, time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            ranked += 1
    print(f"\n{ranked} rankings stored")
    return ranked


def sample_answers(engine: Engine, prompt: str, k: int, seeds: tuple[int, int]) -> list[Answer]:
    """k answers of the model to one question, drawn at temperature 1."""
    ids = question_prompt(engine.tokenizer, prompt)
    seed, number = seeds
    drawn = engine.generate([ids] * k, Sampling(max_tokens=ANSWER_TOKENS, seed=seed), range(number * k, number * k + k))
    return [Answer(c.text, c.finish_reason == "stop", "model") for c in drawn]


def parse_ordering(line: str, k: int) -> list[int]:
    """Places (from 0), best first, of `2413`, `2>4>1>3` or `2 4 1 3`; of two answers, the better one's number.

    Raises ValueError with a word on what is wrong.
    """
    digits = [c for c in line if c not in "> ,"]
    known = [str(place) for place in range(1, k + 1)]
    strange = [c for c in digits if c not in known]
    if strange:
        raise ValueError(f"{strange[0]!r} is none of the answers 1 to {k}")
    twice = [c for c in known if digits.count(c) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named twice")
    if k == 2 and len(digits) == 1:
        digits += [c for c in known if c not in digits]
    missing = [c for c in known if c not in digits]
    if missing:
        raise ValueError(f"{', '.join(missing)} left out; name all answers, best first")
    return [int(c) - 1 for c in digits]


def _ask_for_ordering(k: int, read: Callable[[str], str]) -> list[int] | None:
    """The person's order; an empty one for a skipped prompt, None to stop."""
    example = "1 or 2" if k == 2 else "best first, such as " + "".join(map(str, range(k, 0, -1)))
    while True:
        try:
            line = read(f"\nbetter ({example}; s skips, q quits)> ").strip().lower()
        except Terminated:
            raise
        except (EOFError, KeyboardInterrupt):
            return None
        if line == "q":
            return None
        if line == "s":
            return []
        try:
            return parse_ordering(line, k)
        except ValueError as error:
            print(f"{line!r}: {error}")
