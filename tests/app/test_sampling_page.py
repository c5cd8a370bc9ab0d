"""The page Sampling in a browser."""

import json
import re

import pytest
from served_runs import overflow

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect

STEER = "temperature=0.8&top_k=12&top_p=0.8&tokens=6"


@pytest.fixture
def opened(served, page):
    """Opens the page at some state and waits until its bars are there."""

    def begin(state: str = STEER):
        page.goto(f"{served.url}/sampling#{state}")
        page.locator("button.bar").first.wait_for()
        return page

    return begin


def pieces(page):
    return page.locator("button.piece:not(.next)")


def shown(page) -> list[str]:
    return [
        label.split(";")[0] for label in [bar.get_attribute("title") or "" for bar in page.locator("button.bar").all()]
    ]


def test_bars_move_with_the_sliders_and_any_token_can_be_taken(opened, served, viewport, check_axe):
    page = opened()
    body = {"prompt": prompt_ids(served), "temperature": 0.8, "top_k": 12, "top_p": 0.8, "top": 20}
    text = served.http.post("/app/sampling/step", json=body).content.decode("utf-8", "ignore")
    first = json.loads(text[text.index("{") : text.index('"controls"')].rstrip(", ") + "}")["tokens"]
    assert shown(page) == [f"token {token['id']}" for token in first]
    dropped = page.locator(".by").count()
    assert dropped
    assert set(page.locator(".by").all_text_contents()) <= {"dropped: top-k", "dropped: top-p"}
    expect(page.locator(".stage.on")).to_have_count(4)
    page.get_by_role("slider", name="Top-k").fill("3")
    expect(page.locator(".by")).not_to_have_count(dropped)
    expect(page.get_by_text("dropped: top-k").first).to_be_visible()
    n = pieces(page).count()
    page.locator("button.bar.dropped").first.click()  # what the controls dropped can be taken all the same
    expect(pieces(page)).to_have_count(n + 1)
    expect(page.locator(".stretch")).to_have_count(1)
    page.get_by_role("button", name="Go on 6 tokens").click()
    expect(page.get_by_role("button", name="Draw one")).to_be_enabled()
    expect(pieces(page)).not_to_have_count(n + 1)
    assert overflow(page) <= 0
    page.get_by_role("button", name="Compare four temperatures").click()
    expect(page.locator(".column .written .token-text, .column .written .token-bytes").nth(8)).to_be_visible()
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def prompt_ids(served) -> list[int]:
    return served.http.post("/app/sampling/prompt", json={"text": "The capital of"}).json()["ids"]


def test_the_tree_is_walked_by_keys_and_survives_a_reload(opened):
    page = opened()
    n = pieces(page).count()
    page.locator("button.bar").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(pieces(page)).to_have_count(n + 1)
    first = pieces(page).last.text_content()
    page.wait_for_url("**path=**")
    path = re.search(r"path=[^&]*", page.url)[0]
    page.locator("button.piece.next").focus()
    page.keyboard.press("ArrowLeft")  # to the parent, whose other tokens can be taken
    expect(page.locator("button.bar.here")).to_have_count(1)
    page.locator("button.bar").first.focus()
    page.keyboard.press("Enter")
    expect(pieces(page).last).not_to_have_text(first)
    expect(page.locator(".stretch")).to_have_count(2)
    page.locator("button.piece.next").focus()
    page.keyboard.press("ArrowDown")  # to the sibling
    expect(pieces(page).last).to_have_text(first)
    expect(page).to_have_url(re.compile(re.escape(path)))  # the address is written a moment later
    page.reload()
    expect(pieces(page)).to_have_count(n + 1)
    expect(pieces(page).last).to_have_text(first)
    expect(page.locator(".stretch")).to_have_count(2)


def test_a_copied_link_names_the_token_at_its_end(opened):
    page = opened("path=[119,300]")
    expect(pieces(page).last).not_to_have_text("…")
    expect(page.get_by_role("heading", name="The next token, after")).to_contain_text(pieces(page).last.text_content())


def test_a_place_within_the_prompt_can_be_branched_from(opened):
    page = opened()
    n = pieces(page).count()
    pieces(page).nth(3).click()
    expect(page.locator("button.bar.here")).to_have_count(1)
    page.locator("button.bar:not(.here)").first.click()
    expect(pieces(page)).to_have_count(4)
    expect(page.locator(".stretch")).to_have_count(1)
    assert n > 4


def test_text_never_becomes_html(opened):
    page = opened("text=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%3C%7Cim_end%7C%3E")
    expect(page.locator("main img, main b")).to_have_count(0)
    expect(page.locator(".piece .token-control")).to_have_count(1)  # the real one, before the text
    page.get_by_text("Penalties and bias").click()
    page.get_by_label("Logit bias").fill("<b>")
    page.get_by_label("Logit bias").press("Tab")
    expect(page.get_by_role("alert")).to_contain_text("<b>")
    expect(page.locator("main img, main b")).to_have_count(0)
