"""One page looked at in a process of its own: steps, values, marks; and pages that hang or crash."""

from pathlib import Path

import pytest
from warcs import html, prose

from crawl2chat.crawl import Page, Place
from crawl2chat.refine.inspection import SHOWN_CHARS, Inspector
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.steps import PREPARATIONS, KeptPage, page_steps, refine_page

TEXT = f"{prose(1, 24)}\n\nMenu\n\nWrite to miller@mill.example.org today, he answers in a day."


def page(body: bytes, **changes) -> Page:
    return Page("https://example.org/", 200, "text/html; charset=utf-8", {}, body, Place("a", 1), "", **changes)


@pytest.fixture(scope="module")
def inspector(tmp_path_factory):
    made = Inspector(tmp_path_factory.mktemp("crawl"), RefineSettings())
    yield made
    made.close()


def test_all_steps_with_their_values_and_what_they_changed(inspector):
    found = inspector.inspect(page(html(TEXT)))
    steps = {view.report.step: view for view in found.steps}
    assert list(steps) == [step for step in page_steps(RefineSettings()) if step not in PREPARATIONS]
    refined = refine_page(page(html(TEXT)), RefineSettings())
    assert isinstance(refined, KeptPage)
    assert found.text == refined.text
    words = next(value for value in steps["gopher_quality"].values if value.reason == "too_few_words")
    assert words.threshold == 50 < words.value
    assert all(value.keeps for view in found.steps for value in view.values)
    removed = [piece.text for row in steps["c4"].changes for piece in row.left or [] if piece.differs]
    assert removed == ["Menu"]
    masked = [piece.text.strip() for row in steps["pii"].changes for piece in row.right or [] if piece.differs]
    assert masked == ["email@example.com"]
    assert [segment.text for segment in found.source if segment.kept][-1].startswith("Write to miller@mill")
    assert not found.is_cut


def test_a_dropped_page_ends_with_the_step_that_drops_it_and_the_value_that_fails(inspector):
    found = inspector.inspect(page(html("The miller went home in the evening, and he had his supper.")))
    last = found.steps[-1]
    assert (last.report.step, last.report.verdict.reason) == ("gopher_quality", "too_few_words")
    (failing,) = [value for value in last.values if not value.keeps]
    assert (failing.reason, failing.value) == ("too_few_words", last.report.verdict.value)


def test_a_page_that_hangs_is_given_up_and_the_next_one_is_looked_at(tmp_path):
    slow = Inspector(tmp_path, RefineSettings(extractor="resiliparse", extract_seconds=2))
    try:
        found = slow.inspect(page(b"<div>" * 40_000 + b"text"))
        assert [(view.report.step, view.report.verdict.reason) for view in found.steps] == [("extract", "timeout")]
        assert (found.source, found.text) == ([], "")
        after = slow.inspect(page(html(TEXT)))
        assert not after.steps[-1].report.verdict.dropped
        assert [segment.kept for segment in after.source] == [None]  # this extractor does not say which blocks it keeps
    finally:
        slow.close()


def test_a_large_page_is_cut(inspector):
    found = inspector.inspect(page(html("\n\n".join(prose(seed, 300) for seed in range(20)))))
    assert found.is_cut
    assert sum(len(segment.text) for segment in found.source) == SHOWN_CHARS


def test_extracted_text_has_no_source_to_mark_and_a_copy_is_compared_with_its_document(inspector):
    found = inspector.inspect(page(TEXT.encode(), is_text=True))
    assert [(segment.text, segment.kept) for segment in found.source] == [(TEXT, None)]
    rows = inspector.compare(page(html(TEXT.replace("today", "tomorrow"))), found.text)
    (differing,) = [row for row in rows if row.differs]
    assert [piece.text.strip() for piece in differing.left if piece.differs] == ["today,"]
    assert [piece.text.strip() for piece in differing.right if piece.differs] == ["tomorrow,"]


def test_its_process_ends_with_it(tmp_path: Path):
    inspector = Inspector(tmp_path, RefineSettings())
    inspector.inspect(page(html(TEXT)))
    process = inspector._pool.idle[0].process
    assert process.is_alive()
    inspector.close()
    assert not process.is_alive()
