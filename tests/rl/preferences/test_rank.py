import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from crawl2chat.generate import Engine
from crawl2chat.rl.preferences.rank import parse_ordering, rank_in_terminal
from crawl2chat.rl.preferences.store import Answer, RankingStore
from crawl2chat.stages.files import StageError

MOON = [Answer("the moon", True, "model"), Answer("the spoon", False, "model"), Answer("a tune", True, "a poet")]


def say(*lines):
    waiting = list(lines)

    def read(prompt):
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return read


def test_a_ranking_comes_back_as_it_was_given(tmp_path):
    file = tmp_path / "store.sqlite"
    store = RankingStore(file)
    store.add("A verse?", MOON, [2, 0, 1], "anna")
    store.add("Another?", MOON[:2], [1, 0], "bert", "2025-01-01T00:00:00+0000")
    store.add("A verse?", MOON[1:], [0, 1], "bert")
    first, second, third = RankingStore(file).rankings()
    assert (first.prompt, first.annotator, first.answers) == ("A verse?", "anna", tuple(MOON))
    assert [answer.text for answer in first.ordered] == ["a tune", "the moon", "the spoon"]
    assert [answer.ended for answer in second.ordered] == [False, True]
    assert third.ordered == MOON[1:]


@pytest.mark.parametrize("best_first", [[0, 1], [0, 1, 1], [1, 2, 3], []])
def test_an_order_that_is_none_of_the_answers_is_refused_and_nothing_is_stored(best_first):
    store = RankingStore()
    with pytest.raises(ValueError, match="must name each of 3 answers once"):
        store.add("A verse?", MOON, best_first, "anna")
    assert list(store.rankings()) == []


def test_equal_rankings_give_equal_bytes(tmp_path):
    for name in ("one", "other"):
        store = RankingStore()
        for _ in range(50):
            store.add("A verse?", MOON, [1, 0, 2], "anna")
        store.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert len(list(RankingStore(tmp_path / "one").rankings())) == 50


def test_a_kill_after_a_ranking_loses_nothing(tmp_path):
    file = tmp_path / "store.sqlite"
    program = f"""
        import os, signal
        from pathlib import Path
        from crawl2chat.rl.preferences.rank import Answer, RankingStore
        store = RankingStore(Path({str(file)!r}))
        for i in range(3):
            store.add(f"prompt {{i}}", [Answer("a", True, "m"), Answer("b", True, "m")], [1, 0], "anna")
        store.connection.execute("INSERT INTO prompts (text) VALUES ('half done')")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=os.environ, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    store = RankingStore(file)
    assert [ranking.prompt for ranking in store.rankings()] == ["prompt 0", "prompt 1", "prompt 2"]
    assert store.connection.execute("SELECT count(*) FROM prompts").fetchone() == (3,)


def test_a_file_that_is_no_store_is_refused(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(StageError, match=r"notes\.txt: can't be used as a store of rankings"):
        RankingStore(file)


@pytest.mark.parametrize(
    ("line", "k", "places"),
    [
        ("1", 2, [0, 1]),
        ("2", 2, [1, 0]),
        ("21", 2, [1, 0]),
        ("2413", 4, [1, 3, 0, 2]),
        ("2 > 1>3", 3, [1, 0, 2]),
        ("1=2", 2, [[0, 1]]),
        ("2=4>1>3", 4, [[1, 3], 0, 2]),
        ("2=413", 4, [[1, 3], 0, 2]),
        ("3 1 = 2 = 4", 4, [2, [0, 1, 3]]),
    ],
)
def test_an_ordering_is_read_best_first(line, k, places):
    assert parse_ordering(line, k) == places


@pytest.mark.parametrize(
    ("line", "k", "word"),
    [
        ("3", 2, "'3' is none of the answers 1 to 2"),
        ("12x4", 4, "'x' is none of the answers"),
        ("1224", 4, "2 is named twice"),
        ("2", 3, "1, 3 left out"),
        ("", 2, "1, 2 left out"),
        ("²1", 2, "none of the answers"),
        ("=12", 2, "= is for between two answers"),
        ("1==2", 2, "= is for between two answers"),
        ("12=", 2, "= is for between two answers"),
        ("1=", 2, "= is for between two answers"),
    ],
)
def test_a_bad_ordering_is_refused_with_a_word_on_why(line, k, word):
    with pytest.raises(ValueError, match=word):
        parse_ordering(line, k)


def test_a_person_ranks_skips_errs_and_stops_and_goes_on_later(tmp_path, model, tokenizer, capsys):
    file, engine, prompts = tmp_path / "store.sqlite", Engine(model, tokenizer), ["One?", "Two?", "Three?", "Four?"]
    assert rank_in_terminal(RankingStore(file), engine, prompts, 2, "anna", read=say("7", "2", "s", "1", "q")) == 2
    shown = capsys.readouterr().out
    assert "'7': '7' is none of the answers 1 to 2" in shown
    assert "4/4: Four?" in shown
    first, second = RankingStore(file).rankings()
    assert (first.prompt, first.best_first, second.prompt, second.best_first) == (
        "One?", ((1,), (0,)), "Three?", ((0,), (1,)),
    )  # fmt: skip
    assert f"[1] {first.answers[0].text}" in shown
    assert first.answers[0] != first.answers[1]
    assert rank_in_terminal(RankingStore(file), engine, prompts, 2, "anna", read=say("1")) == 1  # then input ends
    again = capsys.readouterr().out
    assert "One?" not in again
    assert "Two?" not in again  # a skip is stored
    assert [ranking.prompt for ranking in RankingStore(file).rankings()] == ["One?", "Three?", "Four?"]
    assert [ranking.verdict for ranking in RankingStore(file).judgements()] == ["ranked", "skipped", "ranked", "ranked"]


def test_in_the_terminal_answers_are_tied_found_bad_and_taken_back(tmp_path, model, tokenizer, capsys):
    store, engine = RankingStore(tmp_path / "store.sqlite"), Engine(model, tokenizer)
    said = say("u", "2=3>1", "b", "u", "321", "q")
    assert rank_in_terminal(store, engine, ["One?", "Two?", "Three?"], 3, "anna", read=said) == 2
    first, second = store.judgements()
    assert first.best_first == ((1, 2), (0,))
    assert second.best_first == ((2,), (1,), (0,))
    assert (first.prompt, second.prompt, first.verdict, second.verdict) == ("One?", "Two?", "ranked", "ranked")
    assert first.seconds >= 0
    assert first.time is not None
    shown = capsys.readouterr().out
    assert "there is nothing to take back" in shown
    assert shown.count("2/3: Two?") == 2
    withdrawn = store.connection.execute("SELECT verdict FROM rankings WHERE withdrawn IS NOT NULL").fetchall()
    assert withdrawn == [("all_bad",)]
    again = rank_in_terminal(RankingStore(tmp_path / "store.sqlite"), engine, ["Three?"], 3, "anna", read=say("q"))
    assert again == 0
    once = shown[shown.index("Three?") :].split("[3]")[0]
    assert once in capsys.readouterr().out  # the answers that were on the screen when it was left


def test_a_database_of_something_else_is_refused_and_left_as_it_was(tmp_path):
    file = tmp_path / "other.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    before = file.read_bytes()
    with pytest.raises(StageError, match=r"other\.sqlite: is a database of something else"):
        RankingStore(file)
    assert file.read_bytes() == before
