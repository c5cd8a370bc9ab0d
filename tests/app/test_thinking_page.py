"""The page Thinking in a browser: three ways side by side, figures by difficulty, and token by token."""

import re

import pytest
from served_runs import VIEWPORTS, overflow
from talking import EVIL, offers_of
from thinking_run import SUM, thinking_models, write_thinking_run

BOTH = pytest.mark.parametrize("viewport", list(VIEWPORTS), indirect=True)
WAYS = ("At once", "Step by step", "With the calculator")


@pytest.fixture(scope="module")
def thinking(serve, tokenizer, tmp_path_factory):
    run = write_thinking_run(tmp_path_factory.mktemp("runs") / "laptop")
    return serve(run, models=thinking_models(tokenizer, seconds=0.005))


@pytest.fixture
def expect():
    return pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


def go(page, served, state=""):
    page.goto(f"{served.url}/thinking#{state}")
    page.get_by_role("tab", name="One problem, three ways").wait_for()


def think(page):
    page.get_by_role("button", name=re.compile("^Think")).click()
    return [page.get_by_role("region", name=way, exact=True) for way in WAYS]


@BOTH
def test_one_problem_in_three_ways_side_by_side(thinking, page, expect, viewport):
    go(page, thinking)
    expect(page.get_by_label("Problem", exact=True)).to_have_value(SUM)  # the first of the hardest group
    expect(page.get_by_label("Right answer")).to_have_value("85")
    page.get_by_role("button", name="next problem").click()
    expect(page.get_by_label("Problem", exact=True)).to_have_value("What is 52-37?")
    expect(page.get_by_text("2 of 2")).to_be_visible()
    at_once, steps, calculator = think(page)
    expect(at_once).to_contain_text("✗ wrong")
    expect(at_once.locator("mark")).to_have_text("95")
    expect(at_once).to_contain_text("95 was written without a step that could be checked, and is wrong from its first")
    expect(steps).to_contain_text("It first goes wrong here: 12-7 is 5, not 6.")
    expect(steps.locator("mark")).to_have_text("12-7=6")
    expect(calculator).to_contain_text("✓ right")
    expect(calculator.locator(".steps li")).to_have_text(["calls calculator 52-37", "reads 15"])
    assert overflow(page) <= 0
    parameters = next(m.n_parameters for m in thinking.pool.models if m.stage == "honesty")
    for column in (at_once, steps, calculator):
        written = int(column.locator("dd").first.inner_text())
        expect(column.locator("dd").nth(1)).to_have_text(str(written))
        assert f"× {written}" in column.locator("dd").nth(2).inner_text()
        short = column.locator("dd").nth(2).inner_text().split()
        assert float(short[0]) * {"k": 1e3, "M": 1e6}[short[1]] == pytest.approx(2 * parameters * written, rel=0.01)
    assert "group=2+digits" in page.url
    assert "place=1" in page.url


@BOTH
def test_the_share_that_is_right_of_many_draws_in_each_way(thinking, page, expect, viewport):
    go(page, thinking, "temperature=0.8&draws=10")
    expect(page.get_by_label("Right answer")).to_have_value("85")
    at_once, steps, calculator = think(page)
    expect(at_once.get_by_role("status").first).to_have_text("0 of 10 right (0 %)")
    expect(steps.get_by_role("status").first).to_have_text("5 of 10 right (50.0 %)")
    expect(calculator.get_by_role("status").first).to_have_text("10 of 10 right (100.0 %)")
    wrong = steps.get_by_role("button", name=re.compile("draw .*: wrong")).first
    wrong.focus()
    page.keyboard.press("Enter")
    expect(wrong).to_have_attribute("aria-pressed", "true")
    expect(steps.locator("mark")).to_have_text("7+8=14")
    expect(steps.locator("dd").first).to_contain_text("mean of 10")
    assert overflow(page) <= 0


@BOTH
def test_an_answer_is_seen_token_by_token_with_the_entropy_of_each(thinking, page, expect, viewport):
    go(page, thinking, "place=1&group=2+digits&question=What+is+52-37%3F&answer=15")
    _, steps, _ = think(page)
    expect(steps).to_contain_text("✗ wrong")
    written = int(steps.locator("dd").first.inner_text())
    steps.get_by_role("button", name="token by token").click()
    expect(page.get_by_text(f"{written} tokens, so {written} passes")).to_be_visible()
    expect(page.locator(".heat-tokens .heat")).to_have_count(written)
    expect(page.locator(".heat.marked")).to_have_count(1)
    expect(
        page.get_by_text(re.compile("It first goes wrong at token .*12-7 is 5, not 6.*as undecided as among"))
    ).to_be_visible()
    tokens = page.get_by_role("application", name="Step by step; arrow keys move among its tokens")
    tokens.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".heat-readout")).to_have_text(re.compile(r" likely \(.* nats\), entropy \d.* nats"))
    page.get_by_role("button", name=re.compile("^token ")).first.click()
    expect(page.locator(".heat.at")).to_have_count(1)
    page.get_by_label("Way").select_option("calculator")
    expect(page.locator(".heat-tokens")).to_have_count(2)  # before the call's result and after
    expect(page.get_by_text("tokens that it did not write")).to_be_visible()
    assert overflow(page) <= 0
    page.go_back()
    expect(page.get_by_role("region", name="At once")).to_be_visible()


@BOTH
def test_what_the_run_measured_by_difficulty_with_intervals(thinking, page, expect, viewport):
    go(page, thinking, "view=measured")
    hardest = page.get_by_role("group", name="2 digits")
    expect(hardest).to_contain_text("92.0 % [85, 96] of 100, 57.3 tokens")
    bars = [
        (box["x"], box["width"])
        for box in (hardest.locator(css).nth(1).bounding_box() for css in (".track", ".fill", ".whisker"))
    ]
    (left, width), (_, filled), (whisker, spread) = bars
    assert filled / width == pytest.approx(0.92, abs=0.01)
    assert (whisker - left) / width == pytest.approx(0.85, abs=0.01)
    assert spread / width == pytest.approx(0.11, abs=0.01)
    expect(page.get_by_role("application", name=re.compile("^Share right by tokens spent"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("after reinforcement learning 2.00 %.* 97.0 %"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile(r"tokens per answer 50.5 \[48.0, 53.0\] 62.5"))).to_be_visible()
    page.get_by_label("Measured on").select_option("base")
    expect(page.get_by_role("group", name="2 digits")).to_contain_text("6.00 %")
    assert "stage=base" in page.url
    assert overflow(page) <= 0


@BOTH
def test_every_view_of_thinking_can_be_read_by_everybody(thinking, page, expect, viewport, check_axe):
    go(page, thinking, "temperature=0.5&draws=4")
    expect(page.get_by_label("Right answer")).to_have_value("85")
    columns = think(page)
    for column in columns:
        expect(column.get_by_role("status").first).to_contain_text("of 4 right")
    for tab, there in (
        ("One problem", "FLOP (floating-point"),
        ("By difficulty", "Share right by tokens"),
        ("A token", "Where it was most undecided"),
    ):
        page.get_by_role("tab", name=re.compile(f"^{tab}")).click()
        expect(page.get_by_text(re.compile(re.escape(there))).first).to_be_visible()
        assert overflow(page) <= 0, tab
        check_axe(page)
        check_axe(page, "dark")


def test_models_that_were_never_taught_a_calculator_have_two_columns_and_a_word_on_why(thinking, page, expect):
    go(page, thinking, "model=sft")
    expect(page.get_by_text("With the calculator: not for this model")).to_contain_text("the stage honesty teaches it")
    page.get_by_role("button", name="Think in each way").click()
    expect(page.get_by_role("region", name="Step by step")).to_contain_text(re.compile("✓ right|✗ wrong"))
    assert page.get_by_role("region", name="With the calculator").count() == 0
    page.get_by_label("Model").select_option("base")
    expect(page.get_by_text("a base model goes on with a text")).to_be_visible()


def test_a_typed_problem_of_a_model_alone_and_nothing_in_an_answer_is_html(serve, tokenizer, page, expect, tmp_path):
    models = offers_of(tokenizer, lambda stage, text: f"{EVIL[:60]} 12+7=18", ["import"])
    served = serve(tmp_path, is_run=False, models=models)
    go(page, served)
    expect(page.get_by_text("so type one")).to_be_visible()
    page.get_by_label("Problem", exact=True).fill("What is 12+7?")
    page.get_by_label("Right answer").fill("19")
    expect(page.get_by_role("button", name="Think in each way")).to_be_enabled()
    page.keyboard.press("Enter")
    column = page.get_by_role("region", name="At once")
    expect(column.locator("mark")).to_have_text("12+7=18")
    expect(column.locator(".answer")).to_contain_text("<img src=x")
    page.get_by_role("tab", name="By difficulty").click()
    expect(page.get_by_text("Nothing was measured of thinking here")).to_be_visible()
    assert page.title() == "Thinking · crawl2chat"


def test_stopping_keeps_the_tokens_that_have_come(serve, tokenizer, page, expect, tmp_path):
    models = offers_of(tokenizer, lambda stage, text: "1+1=2, " * 8, ["import"], seconds=0.3)
    served = serve(tmp_path, is_run=False, models=models)
    go(page, served)
    page.get_by_role("button", name="Think in each way").click()
    column = page.get_by_role("region", name="At once")
    expect(column.locator(".answer")).to_contain_text("1+1")
    page.get_by_role("button", name="Stop").click()
    expect(column).to_contain_text("stopped")
    assert page.get_by_role("alert").count() == 0
