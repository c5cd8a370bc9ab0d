"""The page Rollouts, and what it asks of the server: every answer that was drawn at a step, with what it was worth."""

import re

import pytest
from served_runs import overflow
from training_files import write_reinforcement, write_rollouts

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
expect = playwright.expect


@pytest.fixture(scope="module")
def drawn(serve, tokenizer, tmp_path_factory):
    """A run with eight logged steps, and its control."""
    folder = tmp_path_factory.mktemp("runs") / "laptop"
    for place, coin in ((folder / "reinforce", False), (folder / "reinforce" / "control", True)):
        write_reinforcement(place)
        write_rollouts(place, tokenizer, coin=coin)
    (folder / "reinforce" / "manifest.json").write_text("{}")
    return serve(folder)


@pytest.fixture
def opened(drawn, page):
    def begin(state: str = ""):
        page.goto(f"{drawn.url}/rollouts#{state}")
        page.locator(".answer").first.wait_for()
        return page

    return begin


def post(served, path, status=200, **body):
    answer = served.http.post(f"/app/rollouts/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_steps_and_groups_come_one_at_a_time_and_with_the_controls(drawn):
    about = drawn.http.get("/app/rollouts/about").json()
    assert about["steps"] == list(range(1, 9))
    assert (about["logs"], about["finished"]) == (["rewards", "control"], True)
    assert about["trainings"] == ["reinforce", "reinforce/control"]
    assert post(drawn, "step", step=100)["step"] == 8  # the nearest
    found = post(drawn, "step", step=3)
    head = found["logs"]["rewards"]
    assert head["rewards"] == [[1, 1, 0, 0]] * 5 + [[1] * 4]
    assert head["advantages"] == [[0.5, 0.5, -0.5, -0.5]] * 5 + [[0] * 4]
    assert head["cut"] == [[1, 0, 0, 0]] * 6
    assert (head["n_groups"], head["n_shown"]) == (6, 4)
    assert found["logs"]["control"]["questions"] == head["questions"]
    group = post(drawn, "group", step=3, group=2)
    assert (group["question"], group["expected"]) == ("What is 2+2?", "4")
    assert "".join(group["answers"][3]["pieces"]).startswith("<i>step 3</i>: 2+2 is 5")
    assert "entropies" not in group["answers"][0]  # the fixture's first answers were not learned from
    assert len(group["answers"][3]["entropies"]) == len(group["answers"][3]["pieces"])
    post(drawn, "group", 404, step=3, group=4)
    post(drawn, "group", 404, step=99, group=0)


def test_long_logs_give_the_slider_fewer_steps_and_large_steps_fewer_groups(drawn, monkeypatch):
    monkeypatch.setattr("crawl2chat.serve.app.rollouts.MOST_STEPS", 3)
    monkeypatch.setattr("crawl2chat.serve.app.rollouts.MOST_ANSWERS", 10)
    about = drawn.http.get("/app/rollouts/about").json()
    assert (about["steps"], about["n_steps"]) == ([1, 4, 8], 8)
    head = post(drawn, "step", step=8)["logs"]["rewards"]
    assert (len(head["rewards"]), head["n_groups"]) == (2, 6)


def test_a_run_without_rollouts_says_what_would_write_them(serve, tmp_path, page, check_axe):
    (tmp_path / "laptop").mkdir()
    served = serve(tmp_path / "laptop")
    page.goto(f"{served.url}/rollouts")
    expect(page.get_by_text("This run has no stage reinforce yet")).to_be_visible()
    (tmp_path / "laptop" / "reinforce").mkdir()
    page.reload()
    expect(page.get_by_text("kept no rollouts")).to_be_visible()
    check_axe(page)


def test_answers_of_a_step_by_reward_and_by_group(opened, viewport, check_axe):
    page = opened()
    expect(page.get_by_text("Step 8 of 8")).to_be_visible()
    expect(page.locator(".answer")).to_have_count(8)  # four, and four of the control
    first = page.locator("#rewards-0")
    expect(first).to_contain_text("reward 1")
    expect(first).to_contain_text("advantage ▲ 0.5")
    expect(first).to_contain_text("tokens, cut off")
    expect(first.locator("i")).to_have_count(0)  # text never becomes HTML
    page.locator("button.bin").first.click()
    expect(page.locator(".chosen tbody tr")).to_have_count(10)  # two in each of five groups
    expect(page.locator("#rewards-2")).to_have_class(re.compile("in-bin"))
    page.get_by_role("button", name="show group 3, answer 4").click()
    expect(page.get_by_role("heading", name="Group 3: What is 2+2?")).to_be_visible()
    expect(page.locator("tr").filter(has_text="group 6")).to_contain_text("no: all rewarded alike")
    expect(page.get_by_text("The log keeps the texts of 4 groups per step")).to_be_visible()
    page.get_by_label("control beside").uncheck()
    expect(page.locator(".answer")).to_have_count(4)
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def test_tokens_tell_their_probability_and_entropy_by_keys_and_not_by_colour_alone(opened):
    page = opened("step=2&group=1")
    tokens = page.get_by_role("application", name="answer 2; arrow keys move among its tokens")
    tokens.focus()
    page.keyboard.press("ArrowRight")
    readout = page.locator("#rewards-1 .heat-readout")
    expect(readout).to_contain_text("98.0 % likely (-0.020 nats), entropy 0.000 nats")
    page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("entropy 0.150 nats")
    page.get_by_label("Colour of tokens").select_option("entropy")
    expect(page.locator("#rewards-1 .heat-5").first).to_be_visible()
    widths = page.locator("#rewards-1 .heat-1, #rewards-1 .heat-5").evaluate_all(
        "all => new Set(all.map(one => getComputedStyle(one).borderBottomWidth)).size"
    )
    assert widths == 2
    expect(page.locator("#rewards-0")).to_contain_text("Its entropies are not known")
    page.reload()
    expect(page.get_by_label("Colour of tokens")).to_have_value("entropy")
    expect(page.get_by_role("heading", name="Group 2: What is 1+1?")).to_be_visible()


def test_the_slider_and_the_curve_of_lengths_go_to_a_step(opened):
    page = opened()
    page.get_by_role("slider", name="Step").fill("2")
    expect(page.locator("#rewards-1 .heat-tokens")).to_contain_text("step 3")
    page.get_by_role("button", name="Later").click()
    expect(page.locator("#rewards-1 .heat-tokens")).to_contain_text("step 4")
    expect(page).to_have_url(re.compile("step=4"))
    lengths = page.get_by_role("application", name=re.compile("^Length of answers"))
    lengths.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#rewards-1 .heat-tokens")).to_contain_text("step 2")


def test_new_steps_appear_while_the_stage_runs(serve, tokenizer, page, tmp_path):
    folder = tmp_path / "laptop" / "reinforce"
    write_rollouts(folder, tokenizer, steps=2)
    served = serve(tmp_path / "laptop")
    page.goto(f"{served.url}/rollouts")
    expect(page.get_by_text("Step 2 of 2")).to_be_visible()
    write_rollouts(folder, tokenizer, steps=3, first=3)
    expect(page.get_by_text("Step 3 of 3")).to_be_visible()
    expect(page.locator("#rewards-1 .heat-tokens")).to_contain_text("step 3")
