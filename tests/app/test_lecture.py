"""The page Lecture: every stop opens a page in the state that it needs, and says what was measured."""

import json
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from served_runs import overflow

from crawl2chat.serve.middleware import PAGES
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import write_json
from crawl2chat.stages.stage import Manifest


@pytest.fixture(scope="module")
def lecture(served, client):
    """The stops of a run that has pages to chat about, and no stage after them."""
    return client.get("/app/lecture").json()


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served.url) as client:
        yield client


def test_stops_link_to_pages_with_state_and_those_without_anything_to_see_are_named(lecture):
    titles = [stop["title"] for stop in lecture["stops"]]
    assert len(titles) == len(set(titles)) >= 12
    for stop in lecture["stops"]:
        link = urlsplit(stop["link"])
        assert link.path in PAGES
        assert link.path != "/lecture"
        assert stop["says"].endswith((".", "?"))
    assert {"Download and clean the internet", "A reward model is gamed"} <= set(lecture["missing"])
    assert not set(titles) & set(lecture["missing"])


def test_a_question_of_the_lecture_is_asked_of_the_models_that_differ(lecture):
    (stop,) = (stop for stop in lecture["stops"] if stop["title"] == "The sum, step by step")
    state = parse_qs(urlsplit(stop["link"]).fragment)
    assert state["ask"][0].endswith("Work step by step.")
    assert json.loads(state["with"][0]) == ["sft", "honesty", "reinforce"]


def test_after_the_sums_comes_the_page_on_which_all_ways_are_asked_at_once(lecture):
    titles = [stop["title"] for stop in lecture["stops"]]
    place = titles.index("Tokens to think with")
    assert titles[place - 1] == "The sum, with the calculator"
    link = urlsplit(lecture["stops"][place]["link"])
    assert (link.path, parse_qs(link.fragment)) == ("/thinking", {"temperature": ["0.7"], "draws": ["10"]})


def test_recitation_leads_to_the_passages_of_a_run_that_measured_it(serve, tmp_path):
    folder = tmp_path / "run"
    (folder / "base").mkdir(parents=True)
    made = {"recall_at_64_copies_and_more": Figure("", 1.0, "share", (0.9, 1.0), 64).to_json()}
    manifest = Manifest("base", {}, {}, {}, made, {}, "2026-11-30T10:00:00+0000", 1.0, {})
    write_json(folder / "base" / "manifest.json", vars(manifest))
    served = serve(folder)
    title = "A base model recites what it met often"
    assert title in httpx.get(f"{served.url}/app/lecture").json()["missing"]  # of pages without counted copies
    (folder / "base" / "recitation.jsonl").write_text("")
    (stop,) = (stop for stop in httpx.get(f"{served.url}/app/lecture").json()["stops"] if stop["title"] == title)
    assert stop["link"] == "/base#view=recitation"
    assert [one["value"] for one in stop["measured"]] == ["100.0 % [90.0, 100.0]"]


def test_what_was_measured_is_read_from_the_run(serve, tmp_path):
    folder = tmp_path / "run"
    found = {
        "base": Figure("bits_per_byte/model", 0.29, "bits"),
        "reinforce": Figure("pass_at_1_before", 0.25, "share", (0.2, 0.3), 100),
    }
    for stage, figure in found.items():
        (folder / stage).mkdir(parents=True)
        made = Manifest(stage, {}, {}, {}, {figure.name: figure.to_json()}, {}, "2026-11-30T10:00:00+0000", 1.0, {})
        write_json(folder / stage / "manifest.json", vars(made))
    (folder / "reinforce" / "rollouts.jsonl").write_text("")
    stops = httpx.get(f"{serve(folder).url}/app/lecture").json()["stops"]
    measured = {stop["title"]: stop["measured"] for stop in stops}
    assert measured["Practice: reinforcement learning"] == [
        {"what": "right at the first attempt, before", "value": "25.0 % [20.0, 30.0]"}
    ]


def test_the_bar_goes_from_stop_to_stop_on_every_page(served, page, viewport, check_axe):
    expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect
    page.goto(f"{served.url}/lecture")
    expect(page.get_by_role("heading", name="Lecture")).to_be_visible()
    expect(page.locator(".stops li").first).to_be_visible()
    for theme in ("light", "dark"):
        check_axe(page, theme)
    assert overflow(page) <= 0
    n = page.locator(".stops li").count()
    page.get_by_role("button", name="Begin").click()
    bar = page.get_by_role("complementary", name="Lecture")
    expect(bar).to_contain_text(f"1 of {n}")
    for number in range(2, n + 1):
        page.get_by_role("heading", level=1).first.wait_for()
        if number % 2:
            bar.get_by_role("button", name="Next").click()
        else:
            page.locator("main").focus()
            page.keyboard.press("PageDown")
        expect(bar).to_contain_text(f"{number} of {n}")
        expect(page.get_by_role("alert")).to_have_count(0)
    check_axe(page)
    expect(bar.get_by_role("button", name="Next")).to_be_disabled()
    bar.get_by_role("button", name="Back").click()
    expect(bar).to_contain_text(f"{n - 1} of {n}")
    page.reload()
    expect(bar).to_contain_text(f"{n - 1} of {n}")
    bar.get_by_role("button", name="End").click()
    expect(bar).to_have_count(0)
