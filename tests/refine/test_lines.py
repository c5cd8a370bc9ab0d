import json

import pyarrow.parquet as pq
import pytest
from warcs import page_record, prose, write_warc

from crawl2chat.refine.copies import copies
from crawl2chat.refine.copies.lines import TOO_SHORT, drop_lines
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.refine.stage import refine
from crawl2chat.stages.stage import hash_files

LINE = "All rights to this page belong to the mill and its many millers."
LINES = DedupSettings(lines="line")
PARAGRAPHS = DedupSettings(lines="paragraph")


def test_a_line_of_an_earlier_text_goes_whatever_its_case_and_blanks():
    seen: set[int] = set()
    assert drop_lines(f"One.\n\n{LINE}\n\nTwo.", seen, LINES) == (f"One.\n\n{LINE}\n\nTwo.", 0)
    assert drop_lines(f"Three.\n\n{LINE.upper()}  \n\nFour.", seen, LINES) == ("Three.\n\nFour.", 1)
    assert drop_lines(LINE, seen, LINES) == ("", 1)


def test_short_lines_and_what_a_text_repeats_of_itself_stay():
    seen: set[int] = set()
    for text in (f"Read more.\n{LINE}\n{LINE}", "Read more.\nAnd more."):
        assert drop_lines(text, seen, LINES) == (text, 0)
    assert TOO_SHORT not in seen


def test_a_paragraph_goes_only_whole():
    seen: set[int] = set()
    drop_lines(f"{LINE}\nIt says so.\n\nEnd.", seen, PARAGRAPHS)
    assert drop_lines(f"{LINE}\n\nOther.", seen, PARAGRAPHS) == (f"{LINE}\n\nOther.", 0)
    assert drop_lines(f"{LINE}\nIt says so.\n\nOther.", seen, PARAGRAPHS) == ("Other.", 1)


@pytest.fixture(scope="module")
def crawled(tmp_path_factory):
    """A copy comes before the page that stays in its place; quoted paragraphs; a page of quotes alone."""
    folder = tmp_path_factory.mktemp("crawl")
    text = prose(4, 24)
    quotes = [prose(i, 24).split("\n\n")[0] for i in (1, 2, 3, 5, 6)]
    records = [
        [page_record(0, text), *(page_record(i, prose(i, 24)) for i in (1, 2, 3))],
        [page_record(4, text + " And one sentence more."), page_record(5, prose(5, 24)), page_record(6, prose(6, 24))],
        [page_record(7, "\n\n".join([quotes[0], prose(7, 24)])), page_record(8, "\n\n".join(quotes))],
    ]
    for i, some in enumerate(records):
        write_warc(folder / f"{i}.warc.gz", some)
    return folder


def rows(out, table):
    return {row["url"]: row for file in sorted((out / table).iterdir()) for row in pq.read_table(file).to_pylist()}


def test_repeated_lines_leave_the_documents_and_are_counted(crawled, tmp_path):
    figures = {figure.name: figure for figure in refine(crawled, tmp_path, RefineSettings(dedup=LINES, workers=1))}
    documents, rejects = rows(tmp_path, "documents"), rows(tmp_path, "rejects")
    # the copy came first and is gone; it must not take the lines of the page that stays in its place
    assert documents["https://host4.example.org/4"]["text"].split()[:200] == prose(4, 24).split()[:200]
    assert documents["https://host0.example.org/7"]["text"].split() == prose(7, 24).split()
    emptied = rejects["https://host1.example.org/8"]
    assert (emptied["step"], emptied["reason"], emptied["value"]) == ("line_duplicates", "nothing_new", 5)
    assert figures["lines_dropped"].value == 6
    funnel = json.loads((tmp_path / "funnel.json").read_text())
    assert funnel["characters_kept"] == sum(len(row["text"]) for row in documents.values())
    assert funnel["steps"][-1] == {"step": "line_duplicates", "in": 8, "out": 7, "dropped": {"nothing_new": 1}}
    assert funnel["kept"] == len(documents) == 7


def test_results_do_not_depend_on_parts_and_workers(crawled, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "keys_bytes", lambda *_: 0)  # small parts, but no processes for them
    for name, how in {"whole": {"workers": 1}, "parts": {"workers": 2, "partition_mb": 0.001}}.items():
        refine(crawled, tmp_path / name, RefineSettings(dedup=LINES, **how))
    assert hash_files(tmp_path / "whole") == hash_files(tmp_path / "parts")
