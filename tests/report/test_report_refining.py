import re
from html import escape
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from warcs import page_record, prose, write_warc

from crawl2chat.cli.main import main
from crawl2chat.refine.funnel import Row, rows
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.steps import SNIPPET_CHARS, snippet
from crawl2chat.report import write_report

SCRIPT = "<script>alert('the miller & his river')</script>"
SHORT = f"The miller went to the river in the morning, and he wrote {SCRIPT} to anna@mill.example.org there."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a refine stage that dropped five short pages and a copy."""
    folder = tmp_path_factory.mktemp("run")
    pages = [page_record(i, prose(i, 24)) for i in range(4)] + [page_record(9, prose(2, 24))]
    pages += [page_record(i, escape(f"{SHORT} Number {i}.")) for i in range(20, 25)]
    pages.append(page_record(30, url="https://casino.example/<b>x"))
    crawl = write_warc(folder / "pages.warc.gz", pages)
    assert main(["refine", str(crawl), "--out", str(folder / "refine"), "--refine.workers", "1"]) == 0
    return folder


def test_the_report_shows_the_funnel_and_samples_of_each_reason(run):
    report = write_report(run).read_text()
    assert '<td>too_few_words<td class="n">5<td class="n">45.45 %' in report
    assert "<summary>gopher_quality: too_few_words (5)</summary>" in report
    assert len(re.findall(r"Number 2\d", report)) == 3
    assert "<summary>exact_duplicates: copy (1)</summary>" in report
    assert "<summary>url: host_word (1)</summary>" in report


def test_what_pages_say_can_not_act_in_the_report(run):
    report = write_report(run).read_text()
    assert "<script" not in report
    assert "&lt;script&gt;alert(" in report
    assert "casino.example/&lt;b&gt;x" in report


def test_samples_hold_no_personal_data(run):
    report = write_report(run).read_text()
    assert "anna@mill" not in report
    assert "email@example.com there." in report


def test_the_terminal_shows_the_funnel_at_the_end(run, capsys):
    assert main(["report", str(run)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"crawled +11\n", told)
    assert re.search(r"url +host_word +1 +9\.09 % +10\n", told)
    assert re.search(r"gopher_quality +too_few_words +5 +45\.45 % +5\n", told)
    assert re.search(r"exact_duplicates +copy +1 +9\.09 % +4\n", told)
    assert "dropped/" not in told


def test_every_reject_with_a_text_shows_its_beginning(run):
    rejects = [row for file in (run / "refine" / "rejects").iterdir() for row in pq.read_table(file).to_pylist()]
    beginnings = {row["reason"]: row["snippet"] for row in rejects}
    assert beginnings["host_word"] == ""
    assert beginnings["copy"] == " ".join(prose(2, 24).split())[:SNIPPET_CHARS]
    assert beginnings["too_few_words"].startswith("The miller went to the river")


def test_snippets_are_short_and_hold_no_half_addresses():
    settings = RefineSettings()
    assert snippet("One\n\ntwo", settings) == "One two"
    assert snippet("anna@mill.example", settings) == "email@example.com"
    assert snippet("anna@mill.example", RefineSettings(mask_pii=False)) == "anna@mill.example"
    address = f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.example"
    text = " ".join([address] * 30)  # each becomes short, so that the end of what is looked at comes into view
    for length in range(1900, 2100):
        assert "aaa" not in snippet(text[:length] + " and more " * 99, settings)
    assert snippet("a" * 5000, settings) == ""


def test_the_funnel_goes_reason_by_reason_the_commonest_first():
    steps = [
        {"step": "url", "in": 10, "out": 7, "dropped": {"a": 1, "b": 2}},
        {"step": "c4", "in": 7, "out": 7, "dropped": {}},
    ]
    assert rows({"pages": 9, "faults": 1, "steps": steps}) == [
        Row("url", "b", 2, 0.2, 8),
        Row("url", "a", 1, 0.1, 7),
        Row("c4", "", 0, 0.0, 7),
    ]
