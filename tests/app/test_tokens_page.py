"""The page Tokens in a browser."""

from urllib.parse import quote

import pytest
from served_runs import overflow

from crawl2chat.tokenizer.public import load_public

MARKUP = "<img src=x onerror=alert(1)><|im_start|>system\n<script>alert(2)</script>"


def opened(page, served, **state):
    page.goto(f"{served.url}/tokens#{'&'.join(f'{name}={quote(value)}' for name, value in state.items())}")
    page.get_by_role("heading", name="Tokens", exact=True).wait_for()


def test_typing_shows_tokens_of_several_encodings_and_links_text_and_ids(served, page, viewport, check_axe):
    opened(page, served)
    page.get_by_label("Text", exact=True).fill("strawberry 👩‍👩‍👧")
    panel = page.get_by_role("region", name="GPT-4", exact=True)
    ids = load_public("gpt4").encode("strawberry 👩‍👩‍👧")
    panel.locator(f".count:text-is('{len(ids)}')").wait_for()
    assert panel.locator(".ids .token").all_inner_texts() == [str(id) for id in ids]
    assert "👩‍👩‍👧" in panel.locator(".text .token").last.inner_text()  # whole, though of many tokens
    panel.locator(".ids .token").first.click()
    panel.locator(".text .token.hot").wait_for()
    other = page.get_by_role("region", name="GPT-2", exact=True)
    assert other.locator(".ids .token.hot").count() >= 1  # those that have the same bytes there
    assert str(ids[0]) in panel.locator(".detail").inner_text()
    panel.locator(".text .token").last.click()
    assert panel.locator(".ids .token.hot").count() > 5
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def test_tokens_and_merges_by_keys(served, page):
    opened(page, served, text="the mill", of="gpt4")
    box = page.get_by_role("listbox", name="ids of GPT-4;").first
    box.locator(".token").first.wait_for()
    box.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert box.locator("[aria-selected=true]").inner_text() == str(load_public("gpt4").encode("the mill")[1])
    page.keyboard.press("Escape")
    box.locator("[aria-selected=true]").wait_for(state="detached")
    page.get_by_role("tab", name="Side by side").focus()
    page.keyboard.press("ArrowRight")
    slider = page.get_by_role("slider", name="merge;")
    slider.press("Home")
    state = page.get_by_role("group", name="the text after this merge")
    state.locator(".token >> nth=7").wait_for()
    assert state.inner_text() == "the·mill"
    assert state.locator(".token").count() == 8  # bytes
    slider.press("ArrowRight")
    page.get_by_text("merge 1 of").wait_for()
    assert state.locator(".token").count() == 7
    slider.press("End")
    state.locator(".token >> nth=2").wait_for(state="detached")
    assert state.locator(".token").all_inner_texts() == ["the", "·mill"]
    assert "step=" in page.evaluate("new Promise(done => setTimeout(() => done(location.hash), 300))")


@pytest.mark.parametrize("viewport", ["phone"], indirect=True)
def test_the_conversation_and_the_vocabulary(served, page, viewport, check_axe, tokenizer):
    opened(page, served, view="chat")
    page.get_by_label("text of message 2").fill(MARKUP)
    page.get_by_text("<img·src=x").first.wait_for()
    state = page.get_by_role("group", name="the conversation as tokens")
    assert state.locator(".control").count() == 6  # none of what was typed
    learned = "".join(state.locator(".learned").all_inner_texts())
    assert learned == "It·is·4.<|im_end|>"
    assert overflow(page) <= 0
    check_axe(page)
    page.get_by_role("tab", name="Vocabulary").click()
    page.get_by_label("Encoding").select_option("gpt4")
    page.get_by_label("Text, with its spaces").fill("strawberry")
    page.get_by_role("cell", name="73700").wait_for()
    page.get_by_role("row", name="73700").get_by_role("button").first.click()
    page.get_by_role("cell", name="31107", exact=True).wait_for()
    assert overflow(page) <= 0
    check_axe(page, "dark")


def test_a_text_too_long_for_the_address_is_left_out_and_said(served, page):
    opened(page, served, text="short")
    box = page.get_by_label("Text", exact=True)
    box.fill("ä" * 20_000)
    page.get_by_text("too long for a link").wait_for()
    assert len(page.evaluate("location.hash")) < 1000
    page.get_by_role("tab", name="Vocabulary").click()
    page.wait_for_function("location.hash.includes('view=vocabulary')")
    page.go_back()
    assert box.input_value() == "ä" * 20_000  # an address that never held it does not take it away
    box.fill("short again")
    page.get_by_text("too long for a link").wait_for(state="detached")
    assert "short+again" in page.evaluate("new Promise(done => setTimeout(() => done(location.hash), 300))")


def test_markup_in_the_address_stays_text(served, page):
    opened(page, served, text=MARKUP, **{"with": '["gpt4","<b>"]'})
    page.get_by_role("alert").wait_for()  # no encoding is called so
    page.faults.clear()  # the refusal is in the console
    opened(page, served, text=MARKUP + "!", **{"with": '["gpt4"]'})
    panel = page.get_by_role("region", name="GPT-4", exact=True)
    panel.locator(".token").first.wait_for()
    assert page.locator("main img, main script").count() == 0
    assert page.get_by_label("Text", exact=True).input_value() == MARKUP + "!"


def test_typing_redraws_only_the_chunk_that_it_is_in_and_shows_every_token(served, page):
    opened(page, served, **{"with": '["gpt2"]'})
    words = " ".join(f"word{n * n} and so {n}" for n in range(400))
    box, panel = page.get_by_label("Text", exact=True), page.get_by_role("region", name="GPT-2", exact=True)
    encoding = load_public("gpt2")

    def shows(text):
        panel.locator(f".count:text-is('{len(encoding.encode(text)):,}')").wait_for()
        assert panel.locator(".ids").text_content().split() == [str(id) for id in encoding.encode(text)]
        assert panel.locator(".text").text_content().replace("·", " ") == text

    box.fill(words)
    shows(words)
    chunks = panel.locator(".ids > span")
    n = chunks.count()
    assert n > 5
    chunks.evaluate_all("all => all.forEach((chunk, i) => (chunk.dataset.before = i))")
    for begin in ("zebra ", ""):  # a text grows at its beginning, and shrinks again
        box.fill(begin + words)
        shows(begin + words)
        kept = chunks.evaluate_all("all => all.map((chunk) => chunk.dataset.before)")
        assert kept[-(n - 3) :] == [str(i) for i in range(3, n)]
    last = panel.locator(".ids .token").first
    last.click()
    panel.locator(".text .token.hot").wait_for()
    assert panel.locator(".ids").get_attribute("aria-activedescendant") == last.get_attribute("id")
