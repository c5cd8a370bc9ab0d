"""Kept blocks are marked where they stand in the source of a page."""

import pytest
from effort import assert_linear
from warcs import html, prose

from crawl2chat.refine.differences import side_by_side
from crawl2chat.refine.text.extract import extract_text
from crawl2chat.refine.text.mark_source import mark_source

PARAGRAPHS = prose(1, 24).split("\n\n")


def test_the_segments_are_the_whole_source_and_the_kept_ones_the_text():
    page = html("\n\n".join(PARAGRAPHS)).decode()
    segments = mark_source(page, None)
    assert "".join(segment.text for segment in segments) == page
    kept = [segment for segment in segments if segment.kept]
    assert [segment.text for segment in kept] == PARAGRAPHS
    assert all(segment.element == "p" and 0 <= segment.score <= 1 for segment in kept)
    assert "\n\n".join(segment.text for segment in kept) == extract_text(page)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("A &amp; B are&nbsp;old; caf&eacute; &#8211; and the rest of it is told here.", "A & B are"),
        ("The <b>mill</b> is <i class=x>very\n  old</i> and it is told of here at some length.", "The mill is"),
        ("Before <!-- not this --> and after<script>if (1 < 2) alert('no')</script> is one text.", "Before and after"),
    ],
)
def test_entities_tags_and_comments_inside_a_block_belong_to_it(written, seen):
    page = html("\n\n".join(PARAGRAPHS)).decode().replace(PARAGRAPHS[2], written)
    segments = mark_source(page, None)
    assert "".join(segment.text for segment in segments) == page
    assert written in [segment.text for segment in segments if segment.kept]
    assert seen in extract_text(page)


def test_what_is_left_out_is_marked_as_left_out():
    page = html("\n\n".join(PARAGRAPHS)).decode().replace("</article>", "</article><div class=ads>Buy now!</div>")
    (segment,) = [segment for segment in mark_source(page, None) if segment.text == "Buy now!"]
    assert segment.kept is False
    (segment,) = [segment for segment in mark_source(page, None, all_blocks=True) if segment.text == "Buy now!"]
    assert segment.kept is True


@pytest.mark.parametrize("page", ["", "<", "<p", "<script>", "<!--", "text", "<p>&#1;</p>", "<pre>" * 2000 + "x"])
def test_broken_pages_are_whole_too(page):
    assert "".join(segment.text for segment in mark_source(page, None)) == page


def test_an_element_that_is_never_closed_hides_no_more_than_its_tag():
    page = html("\n\n".join(PARAGRAPHS)).decode().replace("<main>", "<main><svg onload=x><template><!-- ")
    kept = [segment.text for segment in mark_source(page, None) if segment.kept]
    assert extract_text(page) == "\n\n".join(kept)


def test_marking_takes_time_in_proportion_to_the_page():
    assert_linear(lambda share: mark_source("<p>" + "<svg><!--<template>x <b>" * round(40_000 * share), None))


def test_differences_are_marked_by_word_and_lines_without_a_partner_stand_alone():
    rows = list(side_by_side("One line.\n\nThe mill is old.\nGone.", "One line.\nThe mill is very old."))
    assert [row.differs for row in rows] == [False, True, True]
    assert rows[1].left == [("The mill is ", False), ("old.", False)]
    assert rows[1].right == [("The mill is ", False), ("very ", True), ("old.", False)]
    assert rows[2].right is None
    assert rows[2].left == [("Gone.", True)]
    both = [[piece.text for piece in side or []] for row in rows for side in row]
    assert "".join(both[2]) == "The mill is old."
