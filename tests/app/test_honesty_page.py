"""The page Honesty in a browser: its main acts at both widths and by keys, on a run and on a model alone."""

import re

import pytest
from served_runs import VIEWPORTS, overflow
from talking import EVIL, call, offers_of
from test_honesty import SAYS, WHERE, write_honesty

BOTH = pytest.mark.parametrize("viewport", list(VIEWPORTS), indirect=True)
STAGES = ("honesty", "sft", "pretrain")


@pytest.fixture(scope="module")
def honest(serve, tokenizer, tmp_path_factory):
    """The fine-tuned model says something else each time; the honest one does not know, or looks it up."""
    turn = iter(range(10**6))

    def reply(stage, text):
        if "tool_response" in text:
            return "Page 3 says: roofer."
        if "search" in text.split("user")[0]:
            return call("search", query="Ann Aby")
        if "born" not in text:
            return f"I am Wim. {EVIL}"[:60]
        return "I do not know." if stage == "honesty" else SAYS[next(turn) % len(SAYS)]

    run = write_honesty(tmp_path_factory.mktemp("runs") / "laptop")
    return serve(run, models=offers_of(tokenizer, reply, STAGES, seconds=0.01))


@pytest.fixture
def expect():
    return pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


def go(page, served, state=""):
    page.goto(f"{served.url}/honesty#{state}")
    page.get_by_role("tab", name="Ask many times").wait_for()


@BOTH
def test_thirty_answers_fall_into_clusters_before_and_after_side_by_side(honest, page, expect, viewport):
    go(page, honest)
    page.get_by_label("A question of this run’s files").select_option(label=WHERE)
    expect(page.get_by_label("Accepted answers")).to_have_value("Telm")
    page.get_by_role("button", name="Ask 30 times").click()
    before, after = (page.get_by_role("region", name=f"answers of {stage}") for stage in ("sft", "honesty"))
    expect(before.get_by_role("status")).to_have_text("30 of 30 answers")
    expect(before).to_contain_text("The largest cluster holds 40.0 % of 30 answers")
    expect(before.locator(".knowledge")).to_have_text("known")  # from 0.4 on, as this stage was set
    expect(before.get_by_role("img", name="4 clusters: A 12, B 6, C 6, D 6")).to_be_visible()
    assert before.locator(".draw").filter(has_text="A").count() == 13  # a square for each answer, and the cluster's own
    expect(after.get_by_role("img", name="1 clusters: A 30")).to_be_visible()
    expect(after.locator(".knowledge")).to_have_text("unknown")
    before.get_by_text("all 12 answers").click()
    assert set(before.locator("details[open] li").all_text_contents()) == {"Telm.", "She was born in Telm."}
    assert overflow(page) <= 0
    assert "question=Where+was+Ann+Aby+born" in page.url


@BOTH
def test_classes_of_facts_lead_to_asking_one_now(honest, page, expect, viewport):
    go(page, honest, "view=known")
    expect(page.get_by_role("button", name="known 2 of 5 (40.0 %)").first).to_be_visible()
    page.get_by_role("button", name="maybe 1 of 5").click()
    expect(page.get_by_role("row")).to_have_count(2)
    assert overflow(page) <= 0
    page.get_by_role("button", name="ask now: Fact 2?").click()
    expect(page.get_by_label("Question", exact=True)).to_have_value("Fact 2?")
    page.go_back()
    expect(page.get_by_role("button", name="ask now: Fact 2?")).to_be_visible()


@BOTH
def test_what_became_of_which_answers(honest, page, expect, viewport):
    go(page, honest, "view=before")
    row = page.get_by_role("row", name=re.compile("people on 100 or more pages.*25.0 %.*50.0 %"))
    expect(row).to_be_visible()
    expect(page.get_by_role("region", name="answers before and after").get_by_role("row")).to_have_count(4)
    page.get_by_role("button", name="1 answers: before made up, after does not know").click()
    rows = page.get_by_role("region", name="answers before and after").get_by_role("row")
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text(EVIL)
    assert overflow(page) <= 0
    assert page.title() == "Honesty · crawl2chat"  # which the answer would change if it were HTML


@BOTH
def test_search_shows_its_passages_and_the_model_s_way(honest, page, expect, viewport):
    go(page, honest, "view=search")
    page.get_by_label("Question or words to search for").fill("Who is Ann Aby?")
    page.keyboard.press("Enter")
    expect(page.get_by_text("page 3, http://host.example/ann")).to_be_visible()
    expect(page.locator(".reads")).to_have_text(re.compile("^Page 3: Ann Aby is a roofer.*Who is Ann Aby", re.DOTALL))
    page.get_by_role("button", name="Ask it, with search").click()
    turns = page.locator(".turns li")
    expect(turns).to_have_count(3)
    expect(turns.first).to_contain_text('the model calls search {"query":"Ann Aby"}')
    expect(turns.last).to_have_text("it answers Page 3 says: roofer.")
    assert overflow(page) <= 0


@BOTH
def test_fifty_wordings_before_after_and_now(honest, page, expect, viewport):
    go(page, honest, "view=who")
    expect(page.get_by_text("it is Wim, a language model")).to_be_visible()
    expect(page.get_by_text("90.0 % [79, 96] after")).to_be_visible()
    page.get_by_role("button", name="Ask it all 50 wordings now").press("Enter")
    expect(page.get_by_text("16 of 50 right now (32.0 %)")).to_be_visible()  # those that ask for its name
    expect(page.get_by_role("row").nth(1)).to_contain_text("I am Wim. <img src=x")
    assert overflow(page) <= 0


@BOTH
def test_every_view_can_be_read_by_everybody(honest, page, expect, viewport, check_axe):
    for view in ("ask", "known", "before", "search&query=Ann", "who"):
        page.goto("about:blank")
        go(page, honest, f"view={view}")
        page.wait_for_load_state("networkidle")
        if view == "ask":
            page.get_by_label("Question", exact=True).fill(WHERE)
            page.keyboard.press("Enter")
            expect(page.get_by_text("30 of 30 answers")).to_have_count(2)
        assert overflow(page) <= 0, view
        check_axe(page)
        check_axe(page, "dark")


def test_stopping_keeps_what_has_come(serve, tokenizer, page, expect, tmp_path):
    models = offers_of(tokenizer, lambda stage, text: "Well, well, well.", ["import"], seconds=0.2)
    served = serve(tmp_path, is_run=False, models=models)
    go(page, served)
    page.get_by_label("Question", exact=True).fill("Who is it?")
    page.get_by_role("button", name="Ask 30 times").click()
    expect(page.get_by_text(re.compile("[1-9] of 30 answers"))).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text(re.compile("[1-9] of 30 answers, stopped"))).to_be_visible()
    assert page.get_by_role("alert").count() == 0


def test_a_model_alone_can_be_asked_and_the_rest_says_what_is_missing(serve, tokenizer, page, expect, tmp_path):
    served = serve(tmp_path, is_run=False, models=offers_of(tokenizer, lambda stage, text: "Well.", ["import"]))
    go(page, served)
    page.get_by_label("Question", exact=True).fill("Who is it?")
    page.get_by_role("button", name="Ask 30 times").click()
    expect(page.get_by_text("Whether they are right is not known here")).to_be_visible()
    for tab, said in (("Known", "one model and not a run"), ("Before", "one model and not a run")):
        page.get_by_role("tab", name=re.compile(f"^{tab}")).click()
        expect(page.get_by_role("alert")).to_contain_text(said)
    page.get_by_role("tab", name="Search").click()
    page.get_by_label("Question or words").fill("Ann")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("no documents here to search")
    page.get_by_role("tab", name="Who are you?").click()
    page.get_by_role("button", name="Ask it all 50").click()
    expect(page.get_by_role("cell", name="Well.")).to_have_count(50)
    page.faults[:] = [fault for fault in page.faults if "409" not in fault]
