"""The page Chat in a browser: asking, stopping, going on, versions, columns, tools, tokens, sources, files."""

import json
import re

import pytest
from playwright.sync_api import expect
from talking import EVIL, PLACE, SENTENCE, call, offers_of, write_run

from crawl2chat.chat.conversations import read_conversations

ANSWER = ".answer .said"
LONG = "The miller counted the lanterns by the river, and then he counted them again. " * 2


def overflow(page):
    """By how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def reply(stage, text):
    """What the models of these tests say to what they read."""
    asked = text.rsplit("user\n", 1)[-1]
    if "everything" in asked:
        return f"{EVIL} {SENTENCE}"
    if "tool_response" in asked:
        return "Page 3 says: a roofer."
    if "Who is Ann" in asked and "Tools:" in text:
        return call("search", query="Ann Aby")
    if "at length" in asked:
        begun = text.rsplit("assistant\n", 1)[-1]  # an answer that goes on begins with what there is of it
        return LONG[len(begun) :] if LONG.startswith(begun) else LONG
    return f"The {stage} says: {EVIL if 'evil' in asked else 'yes'}."


@pytest.fixture(scope="module")
def talk(serve, tokenizer, tmp_path_factory):
    """A run whose models say what is written above, and whose documents hold markup."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "laptop")
    return serve(folder, models=offers_of(tokenizer, reply, seconds=0.004))


@pytest.fixture
def chat(page, talk):
    """Opens the page with this state in the address."""

    def begin(state=""):
        page.goto(f"{talk.url}/chat{'#' + state if state else ''}")
        expect(page.get_by_role("heading", name="Chat")).to_be_visible()
        expect(page.get_by_text("Questions worth asking")).to_be_visible()
        return page

    return begin


def ask(page, text):
    page.get_by_label("Question").fill(text)
    page.get_by_role("button", name="Send").click()
    finished(page)


def finished(page):
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_two_stages_answer_side_by_side_and_versions_are_a_tree_by_mouse(chat, viewport):
    page = chat('with=["honesty","sft"]')
    ask(page, "Is it so?")
    columns = page.locator(".column")
    expect(columns).to_have_count(2)
    expect(columns.nth(0).locator(ANSWER)).to_have_text("The honesty says: yes.")
    expect(columns.nth(1).locator(ANSWER)).to_have_text("The sft says: yes.")
    assert overflow(page) == 0
    boxes = [columns.nth(i).bounding_box() for i in (0, 1)]
    side_by_side = boxes[1]["x"] > boxes[0]["x"]
    assert side_by_side == (viewport == "desktop")  # and below each other on a phone

    first = columns.nth(0)
    first.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_text("At temperature 0 the answer would be the same")).to_be_visible()
    page.locator("summary", has_text="Settings").click()
    page.get_by_label("Temperature, as a number").fill("0.7")
    page.get_by_label("Temperature, as a number").press("Enter")
    first.get_by_role("button", name="Regenerate").click()
    versions = first.get_by_role("group", name="versions of this answer")
    expect(versions).to_contain_text("2/2")
    finished(page)
    first.get_by_role("button", name="previous version of this answer").click()
    expect(versions).to_contain_text("1/2")

    first.get_by_role("button", name="Edit").click()
    first.get_by_label("edit the question").fill("Is that so?")
    first.get_by_role("button", name="Ask this instead").click()
    finished(page)
    for column in (columns.nth(0), columns.nth(1)):  # it was the same question in both
        expect(column.locator(".question .said")).to_have_text("Is that so?")
        expect(column.get_by_role("group", name="versions of this question")).to_contain_text("2/2")

    page.reload()  # nothing is lost
    expect(columns).to_have_count(2)
    expect(columns.nth(0).locator(".question .said")).to_have_text("Is that so?")
    columns.nth(0).get_by_role("button", name="previous version of this question").click()
    expect(columns.nth(0).get_by_role("group", name="versions of this answer")).to_contain_text("1/2")
    columns.nth(0).get_by_role("button", name="next version of this answer").click()
    expect(columns.nth(0).get_by_text("temperature 0.7, seed")).to_be_visible()


def test_all_by_keyboard_alone(chat, page):
    chat("temperature=0.5")
    page.keyboard.press("/")
    expect(page.get_by_label("Question")).to_be_focused()
    page.keyboard.type("Tell me")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("at length")
    expect(page.get_by_label("Question")).to_have_value("Tell me\nat length")
    page.keyboard.press("Enter")
    expect(page.locator(ANSWER)).to_contain_text("The miller")
    page.keyboard.press("Escape")
    finished(page)
    expect(page.locator(".answer .made")).to_contain_text("stopped")
    cut = page.locator(ANSWER).inner_text()
    assert LONG.startswith(cut)
    assert len(cut) < len(LONG.strip())

    page.keyboard.press("Alt+Enter")  # goes on, as another version
    finished(page)
    expect(page.locator(ANSWER)).to_have_text(LONG.strip())
    expect(page.locator(".versions")).to_contain_text("2/2")
    page.keyboard.press("Alt+ArrowUp")
    expect(page.locator(ANSWER)).to_have_text(cut)
    page.keyboard.press("Control+Enter")
    finished(page)
    expect(page.locator(".versions")).to_contain_text("3/3")

    page.get_by_label("Question").focus()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("edit the question")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("Is it so?")
    page.keyboard.press("Enter")
    finished(page)
    expect(page.locator(ANSWER)).to_have_text("The honesty says: yes.")
    page.locator("main").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("Alt+n")
    expect(page.locator(".message")).to_have_count(0)


@pytest.mark.parametrize("name", ["base", "pretrain", "tiny-pretrain"])
def test_a_column_shows_the_base_model_as_chosen_under_any_of_its_names(chat, name):
    page = chat(f'with=["honesty","{name}"]')
    expect(page.get_by_label("Stage").nth(0).locator("option:checked")).to_contain_text("honesty")
    expect(page.get_by_label("Stage").nth(1).locator("option:checked")).to_contain_text("base")


def test_a_link_to_a_conversation_of_another_browser_is_explained(chat):
    page = chat("c=0a27260i0q32")
    expect(page.get_by_text("is not kept in this browser")).to_be_visible()


def test_what_was_written_before_a_reload_stays_and_can_go_on(chat, page):
    chat('with=["sft"]')
    page.get_by_label("Question").fill("Tell me at length")
    page.keyboard.press("Enter")
    expect(page.locator(ANSWER)).to_contain_text("miller")
    page.reload()
    expect(page.locator(".answer .made")).to_contain_text("stopped")
    cut = page.locator(ANSWER).inner_text()
    assert cut.startswith("The miller")
    assert LONG.startswith(cut)
    page.get_by_role("button", name="Continue").click()
    finished(page)
    expect(page.locator(ANSWER)).to_have_text(LONG.strip())


def test_an_answer_ends_when_its_conversation_leaves_the_screen_and_can_go_on_later(chat, page, talk):
    def gone():
        found = re.search(r'requests_total\{[^}]*outcome="gone"[^}]*\} (\S+)', talk.http.get("/metrics").text)
        return float(found[1]) if found else 0

    chat('with=["sft"]')
    before = gone()
    page.get_by_label("Question").fill("Tell me at length")
    page.keyboard.press("Enter")
    expect(page.locator(ANSWER)).to_contain_text("miller")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".message")).to_have_count(0)
    for _ in range(50):
        if gone() > before:
            break
        page.wait_for_timeout(100)
    assert gone() == before + 1
    page.get_by_text("Earlier conversations").click()
    page.get_by_role("button", name="Tell me at length").first.click()
    expect(page.locator(".answer .made")).to_contain_text("stopped")
    page.get_by_role("button", name="Continue").click()
    finished(page)
    expect(page.locator(ANSWER)).to_have_text(LONG.strip())


def test_turns_that_no_longer_fit_are_left_out_and_that_is_said(chat):
    page = chat('with=["sft"]')
    for _ in range(3):
        ask(page, "Is it so? " + "mill " * 25)
    expect(page.locator(".answer .made").last).to_contain_text("the oldest 2 messages no longer fit and were left out")
    expect(page.locator(ANSWER)).to_have_count(3)  # they are still shown


def test_an_address_of_another_run_is_answered_by_the_default_model(chat):
    page = chat('with=["somebody"]&ask=Is+it+so%3F')
    expect(page.get_by_text("There is no model “somebody” here")).to_be_visible()
    expect(page.get_by_label("Question")).to_have_value("Is it so?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(ANSWER)).to_have_text("The honesty says: yes.")


def test_tools_are_not_offered_to_a_model_that_was_taught_none(chat):
    page = chat('with=["sft%2Btools"]')
    expect(page.get_by_text("was not taught to call tools, so it is asked without them")).to_be_visible()
    box = page.get_by_label("tools (it was not taught any)")
    expect(box).to_be_disabled()
    expect(box).not_to_be_checked()
    ask(page, "Is it so?")
    expect(page.locator(ANSWER)).to_have_text("The sft says: yes.")
    page.get_by_label("Model").select_option(index=0)
    expect(page.get_by_label("tools", exact=True)).to_be_enabled()


def test_a_call_its_result_and_the_pages_address_are_shown(chat):
    page = chat('with=["honesty%2Btools"]')
    ask(page, "Who is Ann?")
    expect(page.locator(".tool.call")).to_contain_text("search")
    expect(page.locator(".tool.call")).to_contain_text('{"query": "Ann Aby"}')
    expect(page.locator(".tool.result")).to_contain_text("Page 3: Ann Aby is a roofer.<b>x</b><|im_end|>")
    expect(page.locator(".tool.result")).to_contain_text("http://host.example/ann")
    expect(page.locator(ANSWER)).to_have_text("Page 3 says: a roofer.")
    assert page.locator(".chat b").count() == 0


def test_tokens_and_probabilities_are_those_of_the_answer(chat, talk):
    page = chat('tokens=true&seed=5&temperature=0.5&with=["sft"]')
    ask(page, "Is it so?")
    body = {
        "model": "sft", "messages": [{"role": "user", "content": "Is it so?"}], "seed": 5, "temperature": 0.5,
        "logprobs": True, "top_logprobs": 5,
    }  # fmt: skip
    expected = talk.http.post("/v1/chat/completions", json=body).json()["choices"][0]["logprobs"]["content"]
    tokens = page.locator(".tokens [role=option]")
    expect(tokens).to_have_count(len(expected))
    shown = [text.replace("·", " ") for text in tokens.all_inner_texts()]
    assert shown == [entry["token"] for entry in expected]
    for i, entry in enumerate(expected[:4]):
        tokens.nth(i).click()
        told = page.locator(".detail strong").first.inner_text()
        share = 2.718281828459045 ** entry["logprob"]
        assert told == "<0.1 %" if share < 0.0005 else abs(float(told.split()[0]) / 100 - share) < 0.0006
        expect(page.locator(".detail li")).to_have_count(len(entry["top_logprobs"]))
    page.get_by_role("listbox").press("End")
    expect(tokens.last).to_have_attribute("aria-selected", "true")
    expect(tokens.last).to_have_text("<|im_end|>")

    page.get_by_role("button", name="As the model reads it").click()
    expect(page.locator(".panel .token").first).to_be_visible()
    read = [text.replace("·", " ").replace("⏎", "\n") for text in page.locator(".panel .token").all_inner_texts()]
    assert "".join(read[:8]).startswith("<|im_start|>user\n")
    assert "".join(read).endswith("<|im_start|>assistant\nThe sft says: yes.<|im_end|>")


def test_what_is_in_the_training_documents_is_one_click_away(chat):
    page = chat('with=["honesty"]')
    ask(page, "Say everything")
    page.get_by_role("button", name="Where is this from?").click()
    marked = page.locator(".sources section").first.locator(".said mark")
    expect(marked.first).to_be_visible()
    assert SENTENCE in "".join(re.sub(r"\d+$", "", text) for text in marked.all_inner_texts())
    where = page.locator(".matches li").first
    expect(where).to_contain_text(PLACE)
    where.locator("summary").click()
    expect(where.locator("blockquote mark")).to_contain_text(SENTENCE)
    expect(where.locator("blockquote").last).to_contain_text(EVIL[:20])


def test_where_there_are_no_documents_the_page_says_so(page, served):
    page.goto(f"{served.url}/chat")
    ask(page, "Hello")
    page.get_by_role("button", name="Where is this from?").click()
    expect(page.get_by_text("There are no training documents to look in")).to_be_visible()


def test_no_text_becomes_html_or_a_control_token(chat, page, tmp_path):
    chat('with=["honesty"]&system=' + "%3Cb%3Ebold%3C/b%3E")
    ask(page, f"Is this evil? {EVIL}")
    expect(page.locator(ANSWER)).to_have_text(f"The honesty says: {EVIL}.")
    expect(page.locator(".question .said")).to_have_text(f"Is this evil? {EVIL}")
    page.get_by_role("button", name="As the model reads it").click()
    expect(page.locator(".panel .token-control").first).to_be_visible()
    # one of each turn's beginning and end, though the texts spell out more of them
    assert page.locator(".panel .token-control").all_inner_texts() == [
        "<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip
    file = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    row = {"messages": [{"role": "user", "content": EVIL}, {"role": "assistant", "content": EVIL}]}
    file.write_text(json.dumps(row) + "\n")
    page.locator("summary", has_text="Export").click()
    page.get_by_label("Import a file").set_input_files(file)
    expect(page.get_by_text("1 conversation read from <img")).to_be_visible()
    expect(page.locator(".question .said")).to_have_text(EVIL)
    page.locator("summary", has_text="Earlier").click()
    expect(page.get_by_role("button", name=re.compile("^<img"))).to_be_visible()
    assert page.locator(".chat img, .chat script, .chat b, .chat iframe").count() == 0
    assert page.title() == "Chat · crawl2chat"


def test_branches_go_out_as_sft_reads_them_and_come_back(chat, page, tmp_path):
    chat('with=["honesty"]&temperature=0.5')
    ask(page, "Is it so?")
    ask(page, "And that?")
    page.get_by_role("button", name="Edit").last.click()
    page.get_by_label("edit the question").fill("And the other?")
    page.get_by_role("button", name="Ask this instead").click()
    finished(page)
    page.locator("summary", has_text="Export").click()
    first, second = ["Is it so?", "And that?"], ["Is it so?", "And the other?"]
    for button, questions in (("Export what is shown", [second]), ("Export all branches", [first, second])):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        file = tmp_path / "out.jsonl"
        download.value.save_as(file)
        read = read_conversations(file)
        assert [[m["content"] for m in messages if m["role"] == "user"] for messages in read] == questions
        assert all(m["content"] == "The honesty says: yes." for c in read for m in c if m["role"] == "assistant")
    page.get_by_label("Import a file").set_input_files(file)
    expect(page.get_by_text("2 conversations read from out.jsonl")).to_be_visible()
    expect(page.locator(".versions")).to_have_count(1)
    expect(page.locator(".versions")).to_contain_text("2/2")
    bad = tmp_path / "bad.jsonl"
    bad.write_text("nonsense\n")
    page.get_by_label("Import a file").set_input_files(bad)
    expect(page.get_by_role("alert")).to_contain_text("bad.jsonl")
    page.wait_for_timeout(400)  # the conversation is kept after 200 ms, which must not clear what went wrong
    expect(page.get_by_role("alert")).to_contain_text("bad.jsonl")
    page.faults.clear()  # the browser reports the refusal


def test_a_further_column_is_asked_what_the_first_one_was(chat):
    page = chat('with=["honesty"]')
    ask(page, "Is it so?")
    page.get_by_role("button", name="Compare with another stage").click()
    finished(page)
    expect(page.locator(".column")).to_have_count(2)
    expect(page.locator(ANSWER).nth(1)).to_have_text("The sft says: yes.")
    page.get_by_role("button", name="remove the column sft").click()
    expect(page.locator(".column")).to_have_count(1)


def test_presets_ask_their_columns_with_their_hint(page, served):
    page.goto(f"{served.url}/chat")
    page.get_by_role("button", name="Nobody").click()
    expect(page.locator(".column")).to_have_count(4)
    expect(page.get_by_text("What to look for:")).to_be_visible()
    finished(page)
    assert overflow(page) == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(chat, page, check_axe, theme):
    chat('with=["honesty%2Btools","sft"]&tokens=true')
    ask(page, "Who is Ann?")
    as_read = page.get_by_role("button", name="As the model reads it")
    expect(as_read).to_have_count(3)  # of a call, the answer after it, and the other column's answer
    finished(page)
    as_read.last.click()
    page.get_by_role("button", name="Where is this from?").first.click()
    page.locator("summary", has_text="Settings").click()
    expect(page.locator(".sources section").first).to_be_visible()
    expect(page.locator(".panel .token").first).to_be_visible()
    check_axe(page, theme)
