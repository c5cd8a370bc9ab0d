"""Answers, who was shown which of them, and how they were judged: one SQLite file.

Every change is one transaction and on disk when the method returns. Several threads may share a store, and several
processes may share a file.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from crawl2chat.rl.preferences.schema import prepare
from crawl2chat.stages.disks import storage_error
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.tokenizer import Message

MAX_ANSWERS = 9  # each has a digit
BUSY_SECONDS = 30.0  # to wait for another process that writes to the same store

Verdict = Literal["ranked", "all_bad", "skipped"]
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Answer:
    """What somebody is shown: a text, whether it came to its own end, who wrote it, and in which stage that was made.

    author: a model's name, or whatever else tells one source from another. stage: of a run, such as "sft".
    """

    text: str
    ended: bool
    author: str
    stage: str | None = None


@dataclass(frozen=True)
class Prompt:
    """A question, or a conversation up to where an answer begins, whose text is then for people to read."""

    text: str
    conversation: str = ""  # its messages as JSON; empty: one message of a user, the text

    @staticmethod
    def of(messages: Sequence[Message]) -> "Prompt":
        if len(messages) == 1 and messages[0]["role"] == "user":
            return Prompt(messages[0]["content"])
        text = "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
        return Prompt(text, json.dumps(list(messages), ensure_ascii=False))

    @property
    def messages(self) -> list[Message]:
        if not self.conversation:
            return [Message(role="user", content=self.text)]
        messages: list[Message] = json.loads(self.conversation)
        return messages


@dataclass(frozen=True)
class Assignment:
    """A prompt's answers as an annotator is shown them; `repeat_of` is an earlier assignment with the same ones."""

    id: int
    asked: Prompt
    answers: tuple[Answer, ...]
    annotator: str
    repeat_of: int | None = None

    @property
    def prompt(self) -> str:
        return self.asked.text


@dataclass(frozen=True)
class Ranking(Assignment):
    """One judgement of an assignment. best_first: groups of places in `answers`; those in one group are tied.

    "all_bad" and "skipped" have no groups: none of the answers is any good; I can't or don't want to say.
    """

    best_first: Groups = ()
    verdict: Verdict = "ranked"
    seconds: float | None = None  # from when it was shown until it was judged
    time: str | None = None

    @property
    def groups(self) -> list[list[Answer]]:
        """The answers, best first, those that are as good as each other in one list."""
        return [[self.answers[place] for place in group] for group in self.best_first]

    @property
    def ordered(self) -> list[Answer]:
        """The answers, best first."""
        return list(chain.from_iterable(self.groups))


class RankingStore:
    """Prompts, answers, who was shown which of them, and judgements."""

    def __init__(self, file: AnyPath | None = None) -> None:
        """file: made if it does not exist, brought up to date if an older version made it; None keeps it in memory.

        Raises StageError if it is not a store.
        """
        self.file = None if file is None else Path(file)
        self._lock = threading.RLock()
        try:
            self.connection = _connect(file or ":memory:")
            prepare(self.connection, str(file))
        except sqlite3.Error as error:
            raise StageError(f"{file}: can't be used as a store of rankings: {error}") from error

    @staticmethod
    def read(file: AnyPath) -> "RankingStore":
        """A copy in memory, which leaves the file as it is, even one of an older version."""
        store = RankingStore.__new__(RankingStore)
        store.file, store._lock, store.connection = None, threading.RLock(), _connect(":memory:")
        try:
            # not mode=ro, which can't read a file whose last writer was killed
            source = sqlite3.connect(f"{Path(file).absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
            try:
                source.backup(store.connection)
            finally:
                source.close()
            prepare(store.connection, str(file))
        except sqlite3.Error as error:
            raise StageError(f"{file}: can't be used as a store of rankings: {error}") from error
        return store

    def close(self) -> None:
        self.connection.close()

    def add(
        self,
        prompt: str | Prompt,
        answers: Sequence[Answer],
        best_first: Sequence[int | Sequence[int]],
        annotator: str,
        time: str | None = None,
        *,
        verdict: Verdict = "ranked",
        seconds: float | None = None,
        repeat_of: int | None = None,
    ) -> int:
        """Add a judgement of answers in the order shown, and return its assignment's id.

        best_first: places in `answers`, best first, tied ones in a sequence of their own.
        """
        groups = check_groups(best_first, len(answers), verdict)
        ranking = Ranking(0, _prompt(prompt), tuple(answers), annotator, repeat_of, groups, verdict, seconds, time)
        with self._writing() as db:
            return self._insert(db, ranking)

    def add_all(self, rankings: Sequence[Ranking]) -> None:
        """Add judgements, all or none of them, with new ids; `repeat_of` is the id of an earlier one of these."""
        ids: dict[int | None, int | None] = {None: None}
        with self._writing() as db:
            for ranking in rankings:
                ids[ranking.id] = self._insert(db, replace(ranking, repeat_of=ids[ranking.repeat_of]))

    def assign(
        self, prompt: str | Prompt, answers: Sequence[Answer], annotator: str, order: Sequence[int]
    ) -> Assignment:
        """Keep what an annotator is about to be shown: the answers in this order, which are places in `answers`.

        If this annotator has been shown answers that wait for a judgement, those are what is returned. If the prompt
        has answers of the same authors already, those take the place of `answers`, so that annotators judge the same.
        """
        prompt = _prompt(prompt)
        with self._writing() as db:
            if (waiting := self.waiting(annotator)) is not None:
                return waiting
            prompt_id = self._prompt_id(db, prompt)
            ids = self._ids_by(prompt_id, _sources(answers)) or self._insert_answers(db, prompt_id, answers)
            id = self._insert_assignment(db, prompt_id, annotator, [ids[place] for place in order], None)
        return self.assignment(id)

    def assign_again(self, earlier: Assignment, order: Sequence[int]) -> Assignment:
        """Show the same answers again to the same annotator; order: places in the earlier order."""
        with self._writing() as db:
            if (waiting := self.waiting(earlier.annotator)) is not None:
                return waiting
            prompt_id, shown = db.execute(
                "SELECT prompt, shown FROM assignments WHERE id = ?", (earlier.id,)
            ).fetchone()
            ids = json.loads(shown)
            id = self._insert_assignment(db, prompt_id, earlier.annotator, [ids[i] for i in order], earlier.id)
        return self.assignment(id)

    def judge(
        self,
        assignment: int,
        best_first: Sequence[int | Sequence[int]],
        *,
        verdict: Verdict = "ranked",
        seconds: float | None = None,
        time: str | None = None,
    ) -> None:
        """Add a judgement of what was assigned. Raises ValueError where it has been judged already."""
        with self._writing() as db:
            row = db.execute("SELECT shown FROM assignments WHERE id = ?", (assignment,)).fetchone()
            if row is None:
                raise ValueError(f"assignment = {assignment}: there is none of this number")
            ids = json.loads(row[0])
            groups = check_groups(best_first, len(ids), verdict)
            standing = "SELECT 1 FROM rankings WHERE assignment = ? AND withdrawn IS NULL"
            if db.execute(standing, (assignment,)).fetchone():
                raise ValueError(f"assignment = {assignment}: has been judged already; undo that first")
            self._insert_ranking(db, assignment, ids, groups, verdict, seconds, time)

    def withdraw(self, annotator: str) -> Assignment | None:
        """Take back this annotator's last judgement, which stays in the file, marked; None if there is none.

        What it was about waits for a judgement again.
        """
        with self._writing() as db:
            row = db.execute(
                "SELECT r.id, r.assignment FROM rankings r JOIN assignments a ON a.id = r.assignment "
                "WHERE a.annotator = ? AND r.withdrawn IS NULL ORDER BY r.id DESC LIMIT 1",
                (annotator,),
            ).fetchone()
            if row is None:
                return None
            db.execute("UPDATE rankings SET withdrawn = ? WHERE id = ?", (now(), row[0]))
        return self.assignment(row[1])

    def assignment(self, id: int) -> Assignment:
        """Raises ValueError if there is none of this number."""
        found = next(self._assignments("a.id = ?", (id,)), None)
        if found is None:
            raise ValueError(f"assignment = {id}: there is none of this number")
        return found

    def waiting(self, annotator: str) -> Assignment | None:
        """What this annotator was shown first of what has not been judged."""
        unjudged = "NOT EXISTS (SELECT 1 FROM rankings r WHERE r.assignment = a.id AND r.withdrawn IS NULL)"
        return next(self._assignments(f"a.annotator = ? AND {unjudged}", (annotator,)), None)

    def answers_by(self, prompt: Prompt, sources: Sequence[tuple[str, str | None]]) -> list[Answer] | None:
        """The answers to the prompt, by these authors and stages, that somebody was shown first."""
        with self._lock:
            row = self.connection.execute(
                "SELECT id FROM prompts WHERE text = ? AND messages = ?", (prompt.text, prompt.conversation)
            ).fetchone()
            ids = self._ids_by(row[0], sorted(sources, key=str)) if row else None
            return [self._answers(ids)[id] for id in ids] if ids else None

    def judgements(self, annotator: str | None = None) -> list[Ranking]:
        """All that have not been taken back, of everybody or of one annotator, in the order given."""
        where, values = ("a.annotator = ?", (annotator,)) if annotator is not None else ("1", ())
        with self._lock:
            rows = self.connection.execute(
                "SELECT r.assignment, r.best_first, r.verdict, r.seconds, r.time, a.shown "
                f"FROM rankings r JOIN assignments a ON a.id = r.assignment WHERE r.withdrawn IS NULL AND {where} "
                "ORDER BY r.id",
                values,
            ).fetchall()
            assigned = {a.id: a for a in self._assignments(where, values)}
        judged = []
        for id, best_first, verdict, seconds, at, shown in rows:
            a, places = assigned[id], {answer: place for place, answer in enumerate(json.loads(shown))}
            groups = tuple(tuple(places[answer] for answer in group) for group in json.loads(best_first))
            judged.append(Ranking(a.id, a.asked, a.answers, a.annotator, a.repeat_of, groups, verdict, seconds, at))
        return judged

    def rankings(self) -> Iterator[Ranking]:
        """The judgements in which answers were put in order, in the order in which they were given."""
        return (ranking for ranking in self.judgements() if ranking.verdict == "ranked")

    def save(self, file: AnyPath) -> None:
        """Write the whole store at once; equal contents added in equal order give equal bytes."""
        with atomic_write(Path(file)) as temporary:
            temporary.write_bytes(self.connection.serialize())

    # rows

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which no other thread or process comes between."""
        try:
            with self._lock, self.connection as db:
                db.execute("BEGIN IMMEDIATE")
                yield db
        except sqlite3.Error as error:
            raise storage_error(error, self.file or Path(":memory:")) or error from error

    def _insert(self, db: sqlite3.Connection, ranking: Ranking) -> int:
        """Insert a judgement whose answers are not in the store; returns its assignment's id."""
        prompt_id = self._prompt_id(db, ranking.asked)
        ids = self._insert_answers(db, prompt_id, ranking.answers)
        assignment = self._insert_assignment(db, prompt_id, ranking.annotator, ids, ranking.repeat_of)
        r = ranking
        self._insert_ranking(db, assignment, ids, r.best_first, r.verdict, r.seconds, r.time)
        return assignment

    def _prompt_id(self, db: sqlite3.Connection, prompt: Prompt) -> int:
        values = (prompt.text, prompt.conversation)
        db.execute("INSERT OR IGNORE INTO prompts (text, messages) VALUES (?, ?)", values)
        (id,) = db.execute("SELECT id FROM prompts WHERE text = ? AND messages = ?", values).fetchone()
        return int(id)

    def _insert_answers(self, db: sqlite3.Connection, prompt: int, answers: Sequence[Answer]) -> list[int]:
        insert = "INSERT INTO answers (prompt, text, ended, author, stage) VALUES (?, ?, ?, ?, ?)"
        ids = [db.execute(insert, (prompt, a.text, a.ended, a.author, a.stage)).lastrowid for a in answers]
        return [id for id in ids if id is not None]

    def _insert_assignment(
        self, db: sqlite3.Connection, prompt: int, annotator: str, ids: Sequence[int], repeat_of: int | None
    ) -> int:
        insert = "INSERT INTO assignments (prompt, annotator, shown, repeat_of) VALUES (?, ?, ?, ?)"
        return db.execute(insert, (prompt, annotator, json.dumps(list(ids)), repeat_of)).lastrowid or 0

    def _insert_ranking(
        self, db: sqlite3.Connection, assignment: int, ids: Sequence[int], groups: Groups, verdict: Verdict,
        seconds: float | None, time: str | None,
    ) -> None:  # fmt: skip
        best_first = json.dumps([[ids[place] for place in group] for group in groups])
        db.execute(
            "INSERT INTO rankings (assignment, verdict, best_first, seconds, time) VALUES (?, ?, ?, ?, ?)",
            (assignment, verdict, best_first, seconds, time),
        )

    def _assignments(self, where: str, values: tuple[object, ...]) -> Iterator[Assignment]:
        with self._lock:
            rows = self.connection.execute(
                "SELECT a.id, p.text, p.messages, a.shown, a.annotator, a.repeat_of "
                f"FROM assignments a JOIN prompts p ON p.id = a.prompt WHERE {where} ORDER BY a.id",
                values,
            ).fetchall()
            answers = self._answers([id for row in rows for id in json.loads(row[3])])
        for id, text, messages, shown, annotator, repeat_of in rows:
            of_these = tuple(answers[answer] for answer in json.loads(shown))
            yield Assignment(id, Prompt(text, messages), of_these, annotator, repeat_of)

    def _answers(self, ids: Sequence[int]) -> dict[int, Answer]:
        found = {}
        for start in range(0, len(ids), 500):  # SQLite's bound on parameters was once 999
            part = ids[start : start + 500]
            marks = ", ".join("?" * len(part))
            for id, text, ended, author, stage in self.connection.execute(
                f"SELECT id, text, ended, author, stage FROM answers WHERE id IN ({marks})", tuple(part)
            ):
                found[id] = Answer(text, bool(ended), author, stage)
        return found

    def _ids_by(self, prompt: int, sources: Sequence[tuple[str, str | None]]) -> list[int] | None:
        """Ids of the first answers to a prompt, by these sources, that anybody was shown, in the order made."""
        for (shown,) in self.connection.execute(
            "SELECT shown FROM assignments WHERE prompt = ? AND repeat_of IS NULL ORDER BY id", (prompt,)
        ).fetchall():
            ids = sorted(json.loads(shown))
            if _sources(list(self._answers(ids).values())) == sources:
                return ids
        return None


def check_groups(best_first: Sequence[int | Sequence[int]], k: int, verdict: Verdict) -> Groups:
    """The order as groups. Raises ValueError unless each of k answers is in it once, or none for other verdicts."""
    if verdict not in get_args(Verdict):
        raise ValueError(f"verdict = {verdict!r}: expected one of {', '.join(get_args(Verdict))}")
    groups = tuple((group,) if isinstance(group, int) else tuple(group) for group in best_first)
    if verdict != "ranked" and groups:
        raise ValueError(f"best_first = {list(best_first)}: must be empty where the verdict is {verdict}")
    if verdict == "ranked" and (sorted(chain.from_iterable(groups)) != list(range(k)) or not all(groups)):
        raise ValueError(f"best_first = {list(best_first)}: must name each of {k} answers once")
    return groups


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _connect(file: AnyPath) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level="IMMEDIATE", check_same_thread=False)


def _prompt(prompt: str | Prompt) -> Prompt:
    return Prompt(prompt) if isinstance(prompt, str) else prompt


def _sources(answers: Sequence[Answer]) -> list[tuple[str, str | None]]:
    return sorted(((answer.author, answer.stage) for answer in answers), key=str)
