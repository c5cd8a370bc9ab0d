import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading

import pytest

from crawl2chat.rl.preferences import schema
from crawl2chat.rl.preferences.store import Answer, Prompt, RankingStore
from crawl2chat.stages.files import StageError

THREE = [
    Answer("the moon", True, "m", "sft"),
    Answer("the spoon", False, "m", "prefer"),
    Answer("a tune", True, "poet"),
]

VERSION_1 = """
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


@pytest.fixture
def old_file(tmp_path):
    """A store as the first version wrote it: two prompts, three rankings, of which one is of the same prompt."""
    file = tmp_path / "old.sqlite"
    db = sqlite3.connect(file)
    db.executescript(VERSION_1)
    db.executemany("INSERT INTO prompts (text) VALUES (?)", [("A verse?",), ("Another?",)])
    answers = [(1, "a", 1, "model"), (1, "b", 0, "model"), (2, "c", 1, "start"), (2, "d", 1, "start"), (2, "e", 1, "x"),
               (1, "f", 1, "model"), (1, "g", 1, "model")]  # fmt: skip
    db.executemany("INSERT INTO answers (prompt, text, ended, author) VALUES (?, ?, ?, ?)", answers)
    rankings = [
        (1, "anna", [2, 1], "2025-01-01T00:00:00+0000"),
        (2, "bert", [4, 5, 3], None),
        (1, "anna", [6, 7], None),
    ]
    db.executemany(
        "INSERT INTO rankings (prompt, annotator, best_first, time) VALUES (?, ?, ?, ?)",
        [(prompt, annotator, json.dumps(ids), time) for prompt, annotator, ids, time in rankings],
    )
    db.commit()
    db.close()
    return file


def told(store):
    return [(r.prompt, r.annotator, [a.text for a in r.answers], r.best_first, r.time) for r in store.rankings()]


OLD = [
    ("A verse?", "anna", ["a", "b"], ((1,), (0,)), "2025-01-01T00:00:00+0000"),
    ("Another?", "bert", ["c", "d", "e"], ((1,), (2,), (0,)), None),
    ("A verse?", "anna", ["f", "g"], ((0,), (1,)), None),
]


def test_a_store_of_the_first_version_is_brought_up_to_date_in_place(old_file):
    assert told(RankingStore(old_file)) == OLD
    again = RankingStore(old_file)  # as it is now
    assert told(again) == OLD
    assert [a.ended for a in next(again.rankings()).answers] == [True, False]
    again.add("A verse?", THREE, [2, [0, 1]], "anna", seconds=3.5)
    assert told(RankingStore(old_file))[3:] == [
        ("A verse?", "anna", ["the moon", "the spoon", "a tune"], ((2,), (0, 1)), None)
    ]
    tables = again.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert sorted(tables) == [("answers",), ("assignments",), ("prompts",), ("rankings",)]
    assert again.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_reading_leaves_an_old_store_as_it_is(old_file):
    before = old_file.read_bytes()
    assert told(RankingStore.read(old_file)) == OLD
    assert old_file.read_bytes() == before


def test_an_update_that_fails_half_way_leaves_the_old_store(old_file, monkeypatch):
    before = old_file.read_bytes()
    monkeypatch.setattr(schema.json, "dumps", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        RankingStore(old_file)
    monkeypatch.undo()
    assert old_file.read_bytes() == before
    assert told(RankingStore(old_file)) == OLD


def test_two_that_update_an_old_store_at_once_both_succeed(old_file):
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(told(RankingStore(old_file)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [OLD] * 4


def test_a_store_of_a_later_version_is_refused_and_left_as_it_is(tmp_path):
    file = tmp_path / "later.sqlite"
    store = RankingStore(file)
    store.connection.execute("PRAGMA user_version = 3")
    store.close()
    before = file.read_bytes()
    with pytest.raises(StageError, match=r"later\.sqlite: is a store of rankings of version 3; .* up to 2"):
        RankingStore(file)
    assert file.read_bytes() == before


def test_every_kind_of_judgement_comes_back_as_it_was_given(tmp_path):
    store = RankingStore(tmp_path / "store.sqlite")
    talk = Prompt.of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A verse?"}])
    first = store.add("A verse?", THREE, [[2, 0], 1], "anna", "2025-01-01T00:00:00+0000", seconds=4.5)
    store.add(talk, THREE[:2], [], "bert", verdict="all_bad")
    store.add("A verse?", THREE, [], "anna", verdict="skipped", repeat_of=first)
    ranked, bad, skipped = RankingStore(tmp_path / "store.sqlite").judgements()
    assert (ranked.best_first, ranked.seconds, ranked.time) == (((2, 0), (1,)), 4.5, "2025-01-01T00:00:00+0000")
    assert ranked.answers == tuple(THREE)
    assert [[answer.text for answer in group] for group in ranked.groups] == [["a tune", "the moon"], ["the spoon"]]
    assert (bad.verdict, bad.best_first, bad.asked.messages) == ("all_bad", (), talk.messages)
    assert bad.prompt == "system: Be brief.\n\nuser: A verse?"
    assert (skipped.verdict, skipped.repeat_of, skipped.asked.messages) == (
        "skipped", ranked.id, [{"role": "user", "content": "A verse?"}],
    )  # fmt: skip
    assert [ranking.verdict for ranking in store.rankings()] == ["ranked"]
    assert [ranking.verdict for ranking in store.judgements("bert")] == ["all_bad"]


@pytest.mark.parametrize(
    ("best_first", "verdict", "word"),
    [
        ([[0, 1]], "ranked", "must name each of 3 answers once"),
        ([[0, 1], [], 2], "ranked", "must name each of 3 answers once"),
        ([[0, 1], 1], "ranked", "must name each of 3 answers once"),
        ([0, 1, 2], "skipped", "must be empty where the verdict is skipped"),
        ([], "bad", "expected one of ranked, all_bad, skipped"),
    ],
)
def test_a_judgement_that_makes_no_sense_is_refused_and_nothing_is_stored(best_first, verdict, word):
    store = RankingStore()
    with pytest.raises(ValueError, match=word):
        store.add("A verse?", THREE, best_first, "anna", verdict=verdict)
    id = store.assign("A verse?", THREE, "anna", [0, 1, 2]).id
    with pytest.raises(ValueError, match=word):
        store.judge(id, best_first, verdict=verdict)
    assert store.judgements() == []


def test_what_was_shown_waits_until_it_is_judged_and_again_when_that_is_taken_back(tmp_path):
    file = tmp_path / "store.sqlite"
    store = RankingStore(file)
    shown = store.assign("One?", THREE, "anna", [2, 0, 1])
    assert [answer.text for answer in shown.answers] == ["a tune", "the moon", "the spoon"]
    assert RankingStore(file).waiting("anna") == shown
    assert RankingStore(file).waiting("bert") is None
    assert store.assign("Two?", THREE, "anna", [0, 1, 2]) == shown  # the first one first
    store.judge(shown.id, [1, [0, 2]], seconds=2.0, time="t")
    assert store.waiting("anna") is None
    (judged,) = store.judgements()
    assert (judged.answers, judged.best_first, judged.seconds) == (shown.answers, ((1,), (0, 2)), 2.0)
    with pytest.raises(ValueError, match="has been judged already"):
        store.judge(shown.id, [0, 1, 2])
    with pytest.raises(ValueError, match="there is none of this number"):
        store.judge(99, [0, 1, 2])
    assert store.withdraw("bert") is None
    assert store.withdraw("anna") == shown
    assert store.withdraw("anna") is None
    assert (store.judgements(), store.waiting("anna")) == ([], shown)
    store.judge(shown.id, [], verdict="all_bad")
    assert [(r.id, r.verdict) for r in RankingStore(file).judgements()] == [(shown.id, "all_bad")]
    assert store.connection.execute("SELECT count(*) FROM rankings").fetchone() == (2,)  # nothing was deleted


def test_another_annotator_is_shown_the_same_answers_if_the_same_models_are_asked():
    store = RankingStore()
    store.assign("One?", THREE, "anna", [2, 0, 1])
    others = [Answer(f"other {i}", True, a.author, a.stage) for i, a in enumerate(THREE)]
    assert [a.text for a in store.assign("One?", others, "bert", [0, 1, 2]).answers] == [a.text for a in THREE]
    assert store.answers_by(Prompt("One?"), [("poet", None), ("m", "prefer"), ("m", "sft")]) == THREE
    assert store.answers_by(Prompt("One?"), [("m", "sft"), ("m", "sft")]) is None
    assert store.answers_by(Prompt("Two?"), [("m", "sft")]) is None
    two = [Answer("x", True, "m", "sft"), Answer("y", True, "m", "sft")]
    assert [a.text for a in store.assign("One?", two, "carl", [1, 0]).answers] == ["y", "x"]


def test_many_threads_write_to_one_file_and_nothing_is_lost(tmp_path):
    file = tmp_path / "store.sqlite"
    shared = RankingStore(file)
    failed = []

    def work(name, store):
        try:
            for i in range(12):
                shown = store.assign(f"prompt {i}", THREE, name, random.Random(name + str(i)).sample(range(3), 3))
                store.judge(shown.id, [2, [0, 1]], seconds=float(i))
        except Exception as error:
            failed.append(error)

    stores = {"anna": shared, "bert": shared, "carl": RankingStore(file), "dora": RankingStore(file)}
    threads = [threading.Thread(target=work, args=pair) for pair in stores.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    judged = RankingStore(file).judgements()
    assert len(judged) == 48
    for name in stores:
        assert [(r.prompt, r.seconds) for r in judged if r.annotator == name] == [
            (f"prompt {i}", float(i)) for i in range(12)
        ]
    sets = {(r.prompt, frozenset(r.answers)) for r in judged}
    assert len(sets) == 12
    assert shared.connection.execute("SELECT count(*) FROM answers").fetchone() == (36,)


def test_a_kill_within_a_transaction_loses_only_that_and_the_file_can_be_read(tmp_path):
    file = tmp_path / "store.sqlite"
    program = f"""
        import os, signal
        from crawl2chat.rl.preferences.store import Answer, RankingStore
        store = RankingStore({str(file)!r})
        pair = [Answer("a" * 5000, True, "m"), Answer("b" * 5000, True, "m")]
        store.add("kept?", pair, [[0, 1]], "anna", seconds=1.5)
        store.connection.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the commit
        with store._writing() as db:
            for i in range(50):
                store._insert_answers(db, 1, pair)
            db.execute("UPDATE rankings SET seconds = 9")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=os.environ, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert file.with_name("store.sqlite-journal").exists()
    (kept,) = RankingStore.read(file).judgements()
    assert (kept.best_first, kept.seconds) == (((0, 1),), 1.5)
    assert RankingStore(file).connection.execute("SELECT count(*) FROM answers").fetchone() == (2,)
