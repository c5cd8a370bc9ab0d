"""Filters of one's own: the example, run from the command line to the funnel, and what can be wrong with one."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from warcs import page_record, prose, write_warc

from crawl2chat.cli.main import main
from crawl2chat.refine.rules.extra import run_filter
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import check_refine, refine
from crawl2chat.refine.steps import step_names
from crawl2chat.stages.files import StageError

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_filter.py"
LOUD = "https://host2.example.org/2"


@pytest.fixture
def warc(tmp_path: Path) -> Path:
    loud = re.sub(r"\b\w{5,}\b", lambda word: word[0].upper(), prose(2, 24))
    texts = [prose(1, 24), loud, prose(3, 24)]
    return write_warc(tmp_path / "a.warc.gz", [page_record(i, text) for i, text in enumerate(texts, 1)])


def funnel(out: Path) -> dict[str, Any]:
    steps: list[dict[str, Any]] = json.loads((out / "funnel.json").read_text())["steps"]
    assert all(before["out"] == after["in"] for before, after in pairwise(steps))
    return {step["step"]: step["dropped"] for step in steps}


def rejects(out: Path) -> list[dict[str, Any]]:
    return [row for file in (out / "rejects").iterdir() for row in pq.read_table(file).to_pylist()]


def test_the_example_drops_counts_and_explains(warc, tmp_path, capsys):
    extra = ["--refine.extra", f"{EXAMPLE}:is_calm"]
    assert main(["refine", str(warc), "--out", str(tmp_path / "out"), "--refine.workers", "1", *extra]) == 0
    assert funnel(tmp_path / "out")["is_calm"] == {"capitals": 1}
    (row,) = rejects(tmp_path / "out")
    assert (row["url"], row["step"], row["reason"]) == (LOUD, "is_calm", "capitals")
    assert row["value"] > 0.3
    capsys.readouterr()
    assert main(["refine", str(warc), "--explain", LOUD, *extra]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"is_calm +dropped .*capitals: 0\.\d+", shown)
    assert re.search(r"not taken +pii, classifier", shown)


def test_a_changed_filter_makes_refine_run_again(warc, tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "out"
    command = ["refine", str(warc), "--out", str(out), "--refine.workers", "1", "--refine.extra", f"{file}:f"]
    file.write_text("def f(document):\n    return True\n")
    assert main(command) == 0
    assert funnel(out)["f"] == {}
    file.write_text("def f(document):\n    return document.url.endswith('/1') and document.language == 'en'\n")
    assert main(command) == 0
    assert funnel(out)["f"] == {"unwanted": 2}


def test_a_filter_that_raises_drops_the_page_and_is_reported(warc, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "def f(document):\n    if document.url.endswith('/3'):\n        raise ValueError('no')\n    return True\n"
    )
    refine(warc, tmp_path / "out", RefineSettings(workers=1, extra=f"{tmp_path / 'mine.py'}:f"))
    (row,) = rejects(tmp_path / "out")
    assert (row["url"][-2:], row["step"], row["reason"]) == ("/3", "f", "failed")
    assert row["detail"] == f"ValueError: no ({tmp_path / 'mine.py'}, line 3)"[:200]
    assert "refine: f failed on 1 pages" in capsys.readouterr().err


def test_a_filter_that_fails_on_every_page_ends_the_stage_with_its_traceback(warc, tmp_path, capsys):
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text("def inner(text):\n    return text.nothing\n\ndef f(document):\n    return inner(document.text)\n")
    command = ["refine", str(warc), "--out", str(out), "--refine.workers", "1", "--refine.extra", f"{file}:f"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert f"refine.extra = {file}:f: failed on 3 of 3 pages, first on https://host1.example.org/1: " in said
    assert said.count("Traceback (most recent call last)") == 1
    assert said.index("in f\n") < said.index("in inner\n") < said.rindex("'str' object has no attribute 'nothing'")
    file.write_text("def f(document):\n    return True\n")
    assert main(command) == 0, "the mended filter is taken"


def test_what_is_no_verdict_drops_the_page(tmp_path):
    (tmp_path / "mine.py").write_text("def f(document):\n    return 'yes'\n")
    verdict = run_filter(f"{tmp_path / 'mine.py'}:f", "text", "", "en")
    assert (verdict.reason, verdict.detail) == ("failed", "returned 'yes'; expected True, False or a Verdict")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["absent.py:f"], r"refine\.extra = absent\.py: no such file"),
        (["mine.py:g"], r"mine\.py does not define 'g'"),
        (["mine.py:NUMBER"], r"mine\.py:NUMBER: is 3; expected a function"),
        (["mine.py:f", "json:f"], "another step is called f, too"),
        (["mine.py:c4"], "another step is called c4, too"),
    ],
)
def test_a_filter_that_can_not_be_used_is_an_error_before_any_work(tmp_path, monkeypatch, extra, message):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("NUMBER = 3\ndef f(document): ...\ndef c4(document): ...\n")
    with pytest.raises(StageError, match=message):
        check_refine(RefineSettings(extra=extra))


def test_filters_run_between_the_rules_and_masking():
    names = step_names(RefineSettings(extra=["a.py:mine", "b.py:other"]))
    assert names[names.index("contamination") : names.index("classifier")] == ["contamination", "mine", "other", "pii"]
