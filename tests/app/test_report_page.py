"""`report.html` in a real browser, opened from disk."""

import re

import pytest
from report_run import MARKUP, make_run
from served_runs import overflow

from crawl2chat.report import write_report

MB = 1_000_000


@pytest.fixture(scope="module")
def report(tokenizer, tmp_path_factory):
    return write_report(make_run(tmp_path_factory.mktemp("report") / "made", tokenizer))


def test_it_opens_with_a_summary_whose_rows_lead_to_the_stages(page, report, viewport):
    page.goto(report.as_uri())
    rows = page.locator(".summary li")
    assert rows.count() == 11
    assert "Pages" in page.locator(".summary").inner_text() or "pages" in page.locator(".summary").inner_text()
    assert not page.locator("body").inner_text().count("pass_at_1")  # raw names are folded away
    page.get_by_role("link", name="Reinforce: reward right answers").click()
    assert page.locator("#reinforce h2").bounding_box()["y"] < 200
    assert overflow(page) <= 0


def test_one_question_is_followed_and_the_others_unfold(page, report, viewport):
    page.goto(report.as_uri())
    steps = page.locator("#question > .journey > li")
    assert [step.locator(".verdict").inner_text() for step in steps.all()] == ["wrong", "refused", "wrong"]
    assert page.get_by_text("It did not know before: 3 of 10 draws were right.").is_visible()
    assert page.get_by_text("7 × Ost is a baker.").is_visible()
    page.locator("summary", has_text="Who are you?").click()
    assert page.get_by_text("A card taught it who it is.").is_visible()
    assert overflow(page) <= 0


def test_all_figures_unfold_under_readable_names_and_letters_of_plots_are_legible(page, report, viewport):
    page.goto(report.as_uri())
    page.locator("#reinforce").get_by_text(re.compile(r"All \d+ figures")).click()
    assert page.get_by_role("cell", name="right answers per draw, before", exact=True).is_visible()
    assert page.get_by_role("cell", name="pass_at_1_before", exact=True).count() == 1
    assert overflow(page) <= 0
    heights = page.evaluate("[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
    assert min(h for h in heights if h) > 8  # pixels


def test_nothing_of_what_pages_and_models_wrote_acts_and_nothing_is_loaded(page, report):
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    page.goto(report.as_uri())
    assert page.locator("script, img, link, iframe").count() == 0
    assert page.get_by_text(MARKUP).count() >= 2
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_accessible(page, report, check_axe, viewport, theme):
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    check_axe(page, theme)


def test_on_paper_it_is_light_and_nothing_is_cut_off(page, report):
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 with margins
    page.goto(report.as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 250)"
    assert page.locator("nav").is_hidden()
    assert overflow(page) <= 0


@pytest.mark.slow
def test_of_a_long_run_it_is_small(tokenizer, tmp_path):
    """Twenty thousand lines of metrics per training, of which curves show means."""
    report = write_report(make_run(tmp_path / "long", tokenizer, steps=20_000))
    assert report.stat().st_size < 3 * MB
