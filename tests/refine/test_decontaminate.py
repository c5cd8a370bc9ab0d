import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from effort import assert_linear
from warcs import page_record, prose, write_warc

from crawl2chat.refine.quality.classify import train
from crawl2chat.refine.rules.decontaminate import check_contamination, load_questions
from crawl2chat.refine.settings import DecontaminateSettings, RefineSettings
from crawl2chat.refine.stage import refine
from crawl2chat.stages.checks import outside_inputs
from crawl2chat.stages.files import StageError
from crawl2chat.tinyweb import Ledger, TinywebSettings, write_tinyweb

LONG = "A farmer sells six eggs a day at two coins each; how many coins has he got after a week of five days?"
SHORT = "Which of the twelve bridges leads to the mill?"  # 9 words
TINY = "What is 3 + 5?"


def lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def against(tmp_path: Path) -> DecontaminateSettings:
    rows = [{"question": text, "answer": "?"} for text in (LONG, SHORT, TINY)]
    return DecontaminateSettings(against=[lines(tmp_path / "test.jsonl", *rows)])


def page(middle: str) -> str:
    return f"{prose(1, 12)}\n\n{middle}\n\n{prose(2, 12)}"


@pytest.mark.parametrize(
    "leak",
    [
        LONG,
        f"# {LONG.upper()}",
        "Sells SIX eggs, a day\n\n- at two coins | each. How many\ncoins has he",  # 13 words of it
        f"Question 7 — “{SHORT}”",
        "which of the twelve\nbridges leads to the mill",
    ],
)
def test_a_question_is_found_whatever_stands_between_its_words(leak, against):
    verdict = check_contamination(page(leak), against)
    assert (verdict.reason, verdict.value) == ("contaminated", 1)
    assert verdict.detail.startswith("test.jsonl:1: A farmer" if "eggs" in leak.lower() else "test.jsonl:2: Which of")


@pytest.mark.parametrize(
    "near",
    [
        "",
        "sells six eggs a day at two coins each how many coins",  # 12 words
        "which of the eleven bridges leads to the mill",
        "which of the twelve bridges leads",
        "mill the to leads bridges twelve the of which",
        TINY,  # too short to look for
    ],
)
def test_less_than_that_stays(near, against):
    assert not check_contamination(page(near), against).dropped
    assert not check_contamination(near, against).dropped


def test_several_questions_are_counted_and_the_first_is_named(against):
    verdict = check_contamination(page(f"{SHORT} {LONG} {SHORT}"), against)
    assert verdict.value == 2
    assert verdict.detail == f"test.jsonl:1: {LONG[:80]}"


def test_questions_too_short_to_look_for_are_counted(against):
    assert load_questions(against).too_short == 1


def test_all_forms_of_files_are_read(tmp_path):
    rows = [{"query": SHORT, "context_options": None}, {"query": None, "context_options": [LONG, LONG]}]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.txt").write_text(f"\n{SHORT}\n{LONG}\n")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    for name in ("b.json", "c.txt", "d.jsonl.gz", "e.parquet"):
        settings = DecontaminateSettings(against=[str(tmp_path / name)])
        verdict = check_contamination(page(LONG), settings)
        assert verdict.detail.startswith(f"{name}:{3 if name == 'c.txt' else 2}: A farmer")
        assert check_contamination(page(SHORT), settings).dropped


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            '{"q": "a"}\n',
            "row 1: has none of the fields question, .*, but q; .* refine.decontaminate.fields",
        ),
        ('{"question": 7}\n', "row 1: question is 7; expected a text or a list of texts"),
        ('{"question": \n', r"can't be read \(.*expected questions as .jsonl"),
        ('["a"]\n', "row 1: has none of the fields"),
        ('{"question": " "}\n', "holds no question"),
    ],
)
def test_a_file_that_holds_no_questions_is_told(content, expected, tmp_path):
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(StageError, match=expected):
        load_questions(DecontaminateSettings(against=[str(tmp_path / "bad.jsonl")]))


def test_files_that_are_missing_or_of_another_form_are_told_before_any_work(tmp_path):
    write_warc(tmp_path / "a.warc", [page_record(1)], "plain")
    for name in ("none.jsonl", "a.csv"):
        settings = RefineSettings(decontaminate={"against": [str(tmp_path / name)]})
        with pytest.raises(StageError, match=name):
            refine(tmp_path / "a.warc", tmp_path / "out", settings)
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(StageError, match=r"a\.parquet: can't be read"):
        load_questions(DecontaminateSettings(against=[str(tmp_path / "a.parquet")]))


def test_time_grows_with_the_text_alone(against):
    assert_linear(lambda share: check_contamination("sells six eggs a day " * round(100_000 * share), against))
    assert_linear(lambda share: check_contamination("a" * round(1_000_000 * share), against))


def test_the_pages_that_leak_a_fictional_webs_quiz_are_dropped_and_no_others(tmp_path):
    small = TinywebSettings(
        people=20, passages_per_level=1, passage_levels=3, glossaries=4, word_games=4, phrase_books=2, interviews=2,
        stories=8, verses=6, worked_sums=40, direct_sums=40, held_out_sums=30, junk_pages=120, personal_pages=2,
    )  # fmt: skip
    write_tinyweb(tmp_path / "crawl", 1, small)
    leaks = {page.url for page in Ledger.load(tmp_path / "crawl").pages if page.reason == "contaminated"}
    assert leaks
    refine(tmp_path / "crawl", tmp_path / "out", RefineSettings(workers=2))
    rejects = [row for file in (tmp_path / "out" / "rejects").iterdir() for row in pq.read_table(file).to_pylist()]
    found = {row["url"]: row for row in rejects if row["step"] == "contamination"}
    assert set(found) == leaks
    assert all(row["reason"] == "contaminated" and row["value"] >= 4 for row in found.values())
    assert all(row["detail"].startswith("leaked_questions.jsonl:") for row in found.values())


@pytest.mark.skipif("CRAWL2CHAT_SHARED" not in os.environ, reason="CRAWL2CHAT_SHARED names no folder with benchmarks")
def test_real_benchmarks_find_their_own_questions():
    tests = sorted((Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "core-eval").glob("*.jsonl.gz"))
    settings = DecontaminateSettings(against=[str(path) for path in tests])
    questions = load_questions(settings)
    assert len(questions.names) > 10_000
    with gzip.open(next(path for path in tests if "boolq" in path.name), "rt") as rows:
        for row in [next(rows) for _ in range(100)]:
            assert check_contamination(page(json.loads(row)["query"]), settings).dropped


def test_files_that_refine_is_told_of_count_as_its_inputs(tmp_path):
    tests, model = tmp_path / "test.txt", tmp_path / "model"
    tests.write_text(LONG)
    train([f"good {i} {prose(i)}" for i in range(30)], [f"bad {i} {prose(i)}" for i in range(30)], bits=8).save(model)
    settings = RefineSettings(decontaminate={"against": [str(tests)]}, classifier={"model": str(model)})
    before = outside_inputs(settings)
    tests.write_text(SHORT)
    after = outside_inputs(settings)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"against.0"}
    tests.unlink()
    with pytest.raises(StageError, match=r"refine\.decontaminate\.against = .*test\.txt: no such file"):
        outside_inputs(settings)
    (model / "classifier.json").unlink()
    (model / "classifier.safetensors").unlink()
    model.rmdir()
    with pytest.raises(StageError, match=r"refine\.classifier\.model = .*no such folder"):
        outside_inputs(settings.model_copy(update={"decontaminate": DecontaminateSettings()}))
