"""The page Training in a browser: curves by mouse and by keys, next to those of other runs, while a trainer writes."""

import re

import pytest
from served_runs import overflow
from training_files import STEPS, loss, write_pretraining, write_reinforcement

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


@pytest.fixture(scope="module")
def runs(serve, tmp_path_factory):
    """A run that was pretrained, beside one with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    write_pretraining(folder / "laptop" / "pretrain")
    (folder / "laptop" / "pretrain" / "manifest.json").write_text("{}")
    write_pretraining(folder / "seed2" / "pretrain", seed=1)
    return serve(folder / "laptop")


@pytest.fixture
def opened(runs, page):
    def begin(state: str = ""):
        page.goto(f"{runs.url}/training#{state}")
        page.locator(".plot canvas").first.wait_for()
        return page

    return begin


def plot(page, title):
    return page.locator(".plot").filter(has_text=title)


def values(page, title):
    return plot(page, title).locator(".plot-values")


def test_curves_are_shown_compared_and_read_by_keys(opened, viewport, check_axe):
    page = opened("smooth=1")
    expect(page.get_by_role("status").filter(has_text="pretrain of laptop")).to_contain_text("step 60, finished")
    expect(values(page, "loss on the training text")).to_contain_text(f"{loss(STEPS, 0):.4g}")
    expect(page.get_by_text("1 skipped step, marked below the curves")).to_be_visible()
    box = page.get_by_role("application", name=re.compile("^loss on the training text"))
    box.focus()
    page.keyboard.press("Home")
    expect(values(page, "loss on the training text")).to_contain_text(f"steps: 1 {loss(1, 0):.4g}")
    page.keyboard.press("ArrowRight")
    expect(values(page, "loss on the training text")).to_contain_text(f"steps: 2 {loss(2, 0):.4g}")
    expect(values(page, "length of the gradient")).to_contain_text("steps: 2")  # one cursor for all plots
    page.get_by_label("seed2: pretrain").click()
    expect(values(page, "loss on the training text")).to_contain_text(f"seed2 {loss(STEPS, 1):.4g}")
    page.get_by_label("mean and spread").click()
    mean = (loss(STEPS, 0) + loss(STEPS, 1)) / 2
    expect(values(page, "loss on the training text")).to_contain_text(f"mean {mean:.4g}")
    expect(page.locator(".runs li")).to_have_count(3)
    plot(page, "loss on the training text").get_by_text("As a table").click()
    expect(plot(page, "loss on the training text").get_by_role("row")).to_have_count(13)
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def test_what_is_chosen_is_in_the_address_and_comes_back_with_it(opened):
    page = opened()
    page.get_by_label("By", exact=True).select_option("tokens")
    page.get_by_label("Smoothed over").select_option("64")
    page.get_by_label("logarithmic upwards").click()
    page.get_by_text("Curves to show").click()
    page.get_by_role("checkbox", name="held-out text, bits per byte").click()
    expect(page.locator(".plot")).to_have_count(2)
    expect(page).to_have_url(re.compile("x=tokens.*log_y=true.*smooth=64|fields=.*"))
    page.get_by_label("From", exact=True).fill("20000")
    page.get_by_label("From", exact=True).press("Tab")
    box = page.get_by_role("application", name=re.compile("^loss on the training text"))
    box.focus()
    page.keyboard.press("Home")
    expect(values(page, "loss on the training text")).to_contain_text("tokens: 20 k")
    expect(page).to_have_url(re.compile("from=20000"))
    page.reload()
    page.locator(".plot canvas").first.wait_for()
    expect(page.get_by_label("By", exact=True)).to_have_value("tokens")
    expect(page.get_by_label("logarithmic upwards")).to_be_checked()
    expect(page.locator(".plot")).to_have_count(2)
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_label("From", exact=True)).to_have_value("")


def test_a_part_is_seen_by_dragging_or_by_keys_and_all_of_it_again(opened):
    page = opened()
    box = page.get_by_role("application", name=re.compile("^loss on the training text"))
    place = box.bounding_box()
    y = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + place["width"] * 0.4, y)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] * 0.7, y, steps=4)
    page.mouse.up()
    expect(page.get_by_label("From", exact=True)).not_to_have_value("")
    begin = int(page.get_by_label("From", exact=True).input_value())
    end = int(page.get_by_label("To", exact=True).input_value())
    assert 10 < begin < end < 50
    box.focus()
    page.keyboard.press("Escape")
    expect(page.get_by_label("From", exact=True)).to_have_value("")
    page.keyboard.press("+")
    expect(page.get_by_label("From", exact=True)).not_to_have_value("")


def test_evaluations_show_what_was_measured_and_written_then(opened):
    page = opened()
    section = page.get_by_label("evaluations", exact=True)
    expect(section.get_by_role("heading", name="At step 60")).to_be_visible()
    expect(section.locator(".samples li")).to_have_count(2)
    page.get_by_role("button", name="Earlier").click()
    expect(section.get_by_role("heading", name="At step 40")).to_be_visible()
    expect(section.locator(".samples li").nth(1)).to_have_text("<b>Once</b> upon after 40")
    expect(section.locator("b")).to_have_count(0)  # text never becomes HTML
    expect(section.locator("dd")).to_have_text("1.6")
    page.get_by_role("slider", name="Evaluation").fill("0")
    expect(section.get_by_role("heading", name="At step 20")).to_be_visible()
    expect(page).to_have_url(re.compile("evaluation=0"))


def test_a_page_follows_a_trainer_that_writes(serve, page, tmp_path):
    folder = tmp_path / "laptop" / "pretrain"
    write_pretraining(folder, last=10)
    served = serve(tmp_path / "laptop")
    page.goto(f"{served.url}/training#smooth=1")
    expect(page.get_by_text("● live")).to_be_visible()
    expect(values(page, "loss on the training text")).to_contain_text(f"{loss(10, 0):.4g}")
    whole = (folder / "metrics.jsonl").read_text()
    write_pretraining(folder, first=11, last=20)
    expect(values(page, "loss on the training text")).to_contain_text(f"{loss(20, 0):.4g}")
    expect(page.get_by_role("heading", name="At step 20")).to_be_visible()
    (folder / "again").write_text(whole)  # a resumed run drops steps that it does again
    (folder / "again").replace(folder / "metrics.jsonl")
    expect(values(page, "loss on the training text")).to_contain_text(f"{loss(10, 0):.4g}")
    write_reinforcement(tmp_path / "laptop" / "reinforce")  # a stage begins while the page is open
    expect(page.get_by_label("Training", exact=True).locator("option")).to_have_count(2)


def test_a_run_without_any_training_says_what_would_write_the_curves(served, page, viewport, check_axe):
    page.goto(f"{served.url}/training")
    expect(page.get_by_text("Nothing has been trained here yet.")).to_be_visible()
    check_axe(page)
