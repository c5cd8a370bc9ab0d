import json
import re
from pathlib import Path

import pytest
from effort import assert_linear
from warcs import html, http, page_record, prose, record, write_warc

from crawl2chat.cli.main import main
from crawl2chat.crawl import Page, Place, read_warc
from crawl2chat.refine import explain
from crawl2chat.refine.explain import LIMITS, Outcome, StepReport, find_limit, print_outcome, show_change, watch_page
from crawl2chat.refine.rules import keep
from crawl2chat.refine.settings import RefineSettings

GOOD, COPY, SHORT = (f"https://host{i}.example.org/{i}" for i in (1, 2, 3))
HOSTILE = "https://host.example.org/\x1b[31mred"
TEXT = f"{prose(1, 24)}\n\nMenu\n\nWrite to miller@mill.example.org today, he answers in a day."
NESTED = b"<div>" * 40_000 + b"text"  # takes resiliparse most of a minute


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder as far as refining: its crawl and its refine stage."""
    folder = tmp_path_factory.mktemp("run")
    write_warc(
        folder / "crawl" / "a.warc.gz",
        [
            page_record(1, TEXT),
            page_record(2, TEXT),
            page_record(3, "The miller went home in the evening, and he had his supper with the others."),
            record(http(html(prose(4, 24)), "Content-Type: text/html; x=\x1b[2J"), HOSTILE),
        ],
    )
    assert main(["refine", str(folder / "crawl"), "--out", str(folder / "refine"), "--refine.workers", "1"]) == 0
    return folder


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main(["refine", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_each_step_says_what_it_did_and_how_the_text_changed(run, capsys):
    told = shown(capsys, run, "--explain", GOOD)
    for step in ("url", "response", "extract", "language", "gopher_quality", "gopher_repetition", "c4", "fineweb"):
        assert any(line.startswith(step) and "kept" in line and " ms" in line for line in told.split("\n")), step
    assert "a.warc.gz at byte 0, status 200" in told
    assert "en with probability" in told
    assert "- Menu" in told  # cleaned away
    assert "-miller@mill.example.org +email@example.com today," in told
    assert "in the run          document " in told
    assert f"1 pages were dropped as copies of it: {COPY}" in told


def test_a_copy_names_the_page_that_stayed(run, capsys):
    assert f"exact_duplicates   dropped, a copy of {GOOD}" in shown(capsys, run, "--explain", COPY)


def test_a_drop_names_value_limit_and_the_steps_that_were_not_taken(run, capsys):
    told = shown(capsys, run, "--explain", SHORT)
    assert "too_few_words: 15; gopher_quality.min_words = 50" in told
    assert "in the run          dropped by gopher_quality: too_few_words" in told
    assert "not taken          gopher_repetition" in told


def test_other_settings_show_what_they_would_do_and_that_the_run_had_others(run, capsys):
    told = shown(capsys, run, "--explain", SHORT, "--refine.gopher_quality.min_words", 2)
    assert re.search(r"gopher_quality +kept", told)
    assert "made with other settings" in told


def test_a_warc_alone_is_explained_too(run, capsys):
    told = shown(capsys, run / "crawl" / "a.warc.gz", "--explain", GOOD)
    assert "pii" in told
    assert "compare all pages; give a run's folder" in told


def test_an_unknown_address_names_those_like_it(run, capsys):
    assert main(["refine", str(run), "--explain", "https://host1.example.org/11"]) == 1
    told = capsys.readouterr().err
    assert "no such page among 4" in told
    assert GOOD in told


def test_without_a_page_to_explain_both_folders_must_be_named(run, tmp_path, capsys):
    for arguments in ([str(run)], ["--out", str(tmp_path)]):
        assert main(["refine", *arguments]) == 1
        assert "give WARC to read and --out DIR to write into, or --explain URL" in capsys.readouterr().err


def test_a_recipe_stands_for_its_run_and_none_for_the_default_one(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "runs").mkdir()
    for name in ("mine", "laptop"):
        (tmp_path / "runs" / name).symlink_to(run)
    (tmp_path / "mine.toml").write_text("[refine.gopher_quality]\nmin_words = 20\n")
    monkeypatch.chdir(tmp_path)
    assert "gopher_quality.min_words = 20" in shown(capsys, "mine.toml", "--explain", SHORT)
    assert "gopher_quality.min_words = 50" in shown(capsys, "--explain", SHORT)


def test_pages_do_not_control_the_terminal(run, capsys):
    assert "\x1b" not in shown(capsys, run, "--explain", HOSTILE)


def test_a_page_that_hangs_is_given_up(tmp_path):
    page = Page("https://example.org/", 200, "text/html", {}, NESTED, Place("a", 1), "")
    seen = list(watch_page(page, tmp_path, RefineSettings(extractor="resiliparse", extract_seconds=1)))
    assert [entry.step for entry in seen] == ["url", "response", "extract"]
    assert (seen[-1].verdict.reason, seen[-1].verdict.value) == ("timeout", 1)


def test_test_questions_that_the_crawl_brings_are_looked_for(tmp_path):
    question = "Which inn behind the old quarry did the angry baker burn down in spring?"
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "leaked_questions.jsonl").write_text(json.dumps({"question": question}) + "\n")
    page = Page("https://example.org/", 200, "text/html", {}, html(f"{TEXT}\n\n{question}"), Place("a", 1), "")
    seen = list(watch_page(page, tmp_path, RefineSettings()))
    assert (seen[-1].step, seen[-1].verdict.reason) == ("contamination", "contaminated")


def test_every_limit_is_a_setting():
    settings = RefineSettings()
    for reason in LIMITS:
        reason = {"top_gram": "top_2_gram", "duplicate_grams": "duplicate_6_grams"}.get(reason, reason)
        assert find_limit(reason, settings) is not None
    assert find_limit("duplicate_6_grams", settings) == ("gopher_repetition.max_duplicate_ngrams.6", 0.14)
    assert find_limit("lorem_ipsum", settings) is None


def test_differences_of_long_texts_are_short_and_quick():
    def show(share: float) -> None:
        before = "\n".join(f"line {i % 7} of many" for i in range(round(50_000 * share)))
        assert len(list(show_change(before, before.replace("many", "few")))) <= 21

    assert_linear(show)


def test_only_the_warcs_that_hold_a_page_are_read(run, tmp_path, capsys, monkeypatch):
    crawl = tmp_path / "crawl"
    for i in range(3):
        write_warc(crawl / f"{i}.warc.gz", [page_record(i, prose(i, 24))])
    assert main(["refine", str(crawl), "--out", str(tmp_path / "refine"), "--refine.workers", "1"]) == 0
    read = []

    def read_and_note(path, **options):
        read.append(Path(path).name)
        return read_warc(path, **options)

    monkeypatch.setattr(explain, "read_warc", read_and_note)
    shown(capsys, tmp_path, "--explain", COPY)
    assert read == ["2.warc.gz"]


def test_a_drop_that_needed_all_pages_is_told_as_the_runs_and_no_difference(capsys):
    kept = StepReport("pii", keep(), 0.0)
    print_outcome(Outcome(step="classifier", reason="low_quality"), kept, RefineSettings())
    print_outcome(Outcome(step="near_duplicates", reason="copy", copy_of=GOOD), kept, RefineSettings())
    told = capsys.readouterr().out
    assert "dropped by classifier: low_quality" in told
    assert f"a copy of {GOOD}" in told
    assert "other settings" not in told
