"""The page Preferences, and what it asks of the server: where following a reward model stops to please."""

import json
import re

import pytest
from served_runs import overflow

from crawl2chat.rl.preferences.check import Check, Comparison, Judged
from crawl2chat.rl.preferences.results import curves, write_answers
from crawl2chat.rl.preferences.store import Answer

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
expect = playwright.expect

STEPS, KEPT, PEAK = (0, 4, 8, 12), 8, 8
GOLDS = (1.0, 2.0, 3.0, 0.5)


def check(step: int, gold: float | None) -> Check:
    """Six answers, of which the last has much reward and the least taste."""
    judged = [
        Judged(
            f"Prompt {i}?", f"<b>answer {i}</b> of step {step}", i != 1, step + i, gold and gold + (i if i < 5 else -3)
        )
        for i in range(6)
    ]
    answer = Answer("a", True, "m")
    comparisons = [Comparison("p", answer, answer, i < step) for i in range(16 if step else 0)]
    return Check(step, kl=step**2 / 4, tokens=30.0, judged=judged, comparisons=comparisons)


CHECKS = [check(step, gold) for step, gold in zip(STEPS, GOLDS, strict=True)]


@pytest.fixture(scope="module")
def preferred(serve, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "laptop"
    (folder / "prefer").mkdir(parents=True)
    best_of_n = [{"n": n, "sqrt_kl": n / 4, "proxy": float(n), "gold": n / 2} for n in (1, 2, 4)]
    found = curves(CHECKS, CHECKS[STEPS.index(KEPT)], best_of_n)
    (folder / "prefer" / "curves.json").write_text(json.dumps(found))
    write_answers(CHECKS, folder / "prefer" / "answers.jsonl")
    agreement = {"right": 30, "pairs": 40, "margin": 1.0, "calibration_error": 0.1, "prefers_longer": 9,
                 "longer_is_better": 6, "unequal": 12, "gold_right": 35, "gold_pairs": 40, "ceiling": 0.85}  # fmt: skip
    (folder / "prefer" / "agreement.json").write_text(json.dumps(agreement))
    return serve(folder)


@pytest.fixture
def opened(preferred, page):
    def begin(state: str = ""):
        page.goto(f"{preferred.url}/preferences#{state}")
        page.locator(".pair").first.wait_for()
        return page

    return begin


def test_the_most_gamed_answers_come_first_next_to_the_starts(preferred):
    found = preferred.http.post("/app/preferences/answers", json={"step": 12, "limit": 2}).json()
    assert (found["count"], len(found["answers"])) == (6, 2)
    first, second = found["answers"]
    assert first["text"] == "<b>answer 5</b> of step 12"
    assert first["start"]["text"] == "<b>answer 5</b> of step 0"
    assert first["gamed"] > second["gamed"]
    assert preferred.http.post("/app/preferences/answers", json={"step": 13}).status_code == 404


def test_without_a_known_taste_the_most_rewarded_come_first_and_checks_are_seen_while_the_stage_runs(serve, tmp_path):
    (tmp_path / "laptop" / "prefer" / "checks").mkdir(parents=True)
    served = serve(tmp_path / "laptop")
    assert "no stage prefer yet" in served.http.get("/app/preferences/about").json()["problem"]
    (tmp_path / "laptop" / "prefer" / ".started.json").write_text("{}")
    assert "not made a check yet" in served.http.get("/app/preferences/about").json()["problem"]
    for step in (0, 4):
        check(step, None).save(tmp_path / "laptop" / "prefer" / "checks" / f"step-{step:08d}.json")
    about = served.http.get("/app/preferences/about").json()
    assert [point["step"] for point in about["policy"]] == [0, 4]
    assert (about["policy"][1]["sqrt_kl"], about["kept"], about["finished"], about["problem"]) == (2, None, False, None)
    found = served.http.post("/app/preferences/answers", json={"step": 4}).json()["answers"]
    assert [answer["proxy"] for answer in found] == [9, 8, 7, 6, 5, 4]
    assert {answer["gamed"] for answer in found} == {None}


def test_reward_and_taste_part_and_the_slider_shows_the_answers_there(opened, viewport, check_axe):
    page = opened()
    expect(page.locator(".plot")).to_have_count(3)
    expect(page.get_by_role("heading", name="The most gamed answers of step 12")).to_be_visible()
    first = page.locator(".pair").first
    expect(first).to_contain_text("Prompt 5?")
    expect(first.locator(".says").first).to_have_text("<b>answer 5</b> of step 12")  # text never becomes HTML
    expect(first).to_contain_text("answer 5</b> of step 0")
    expect(page.get_by_label("what was kept")).to_contain_text("It kept step 8, whose answers won 8 of 16 comparisons.")
    expect(page.get_by_label("what was kept")).to_contain_text("30 of 40 pairs (75.0 %)")
    page.get_by_role("slider", name="Check at step 12").fill("1")
    expect(page.locator(".pair").first).to_contain_text("of step 4")
    page.get_by_role("button", name="taste at its highest").click()
    expect(page.locator(".pair").first).to_contain_text("of step 8")
    expect(page.get_by_role("button", name="kept")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".pair").nth(1)).to_be_visible()
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def test_a_check_is_chosen_on_a_plot_and_stays_in_the_address(opened):
    page = opened("x=step")
    box = page.get_by_role("application", name=re.compile("^Taste of the annotator"))
    box.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".plot-values").nth(1)).to_contain_text("step: 4")
    page.keyboard.press("Enter")
    expect(page.locator(".pair").first).to_contain_text("of step 4")
    expect(page).to_have_url(re.compile("step=4"))
    page.reload()
    expect(page.locator(".pair").first).to_contain_text("of step 4")
    expect(page.get_by_label("By", exact=True)).to_have_value("step")


def test_a_run_of_an_earlier_version_says_which_answers_it_lacks(serve, tmp_path, page, check_axe):
    folder = tmp_path / "laptop" / "prefer"
    folder.mkdir(parents=True)
    (folder / "curves.json").write_text(json.dumps(curves(CHECKS, CHECKS[1], [])))
    served = serve(tmp_path / "laptop")
    page.goto(f"{served.url}/preferences")
    expect(page.get_by_text("This run was made by an earlier version")).to_be_visible()
    expect(page.locator(".plot")).to_have_count(3)
    check_axe(page)
