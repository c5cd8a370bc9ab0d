"""The page Base in a browser: every view at both widths, by mouse and by keys, on runs with and without the stage."""

import re

import pytest
from served_runs import VIEWPORTS, overflow, random_model
from talking import offers_of
from test_base_endpoints import EVIL, PASSAGES, write_base, write_outside

from crawl2chat.evals.base.in_context import meaning_on_page
from crawl2chat.generate import Engine

BOTH = pytest.mark.parametrize("viewport", list(VIEWPORTS), indirect=True)


@pytest.fixture(scope="module")
def base(serve, tokenizer, tmp_path_factory, crawl_folder, ledger):
    """The base model answers what the page says, and recites the first passage with one wrong word."""

    def reply(stage, text):
        if "bridge forgot" in PASSAGES[0] and "The tired" in text:
            return PASSAGES[0].partition("forgot")[2].replace("grey", EVIL[:9])
        return f"{meaning_on_page(text) or 'a crow'}."

    run = tmp_path_factory.mktemp("runs") / "laptop"
    run.mkdir()
    (run / "crawl").symlink_to(crawl_folder)
    write_base(run, Engine(random_model(tokenizer.vocab_size, 1), tokenizer), ledger)
    return serve(run, models=offers_of(tokenizer, reply))


@pytest.fixture
def expect():
    return pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


def go(page, served, state=""):
    page.goto(f"{served.url}/base#{state}")
    page.get_by_role("tab", name="Compression").wait_for()


@BOTH
def test_every_view_can_be_read_by_everybody(base, page, expect, viewport, check_axe):
    shown = {
        "compression": "Bits per byte of held-out text", "recitation&passage=1": "What the model wrote",
        "knowledge": "Facts about people", "games&group=glossary/2&page=0": "The page, as the model read it",
        "letters": "Words spelled and letters counted, by example",
    }  # fmt: skip
    for view, says in shown.items():
        page.goto("about:blank")
        go(page, base, f"view={view}")
        expect(page.get_by_text(says, exact=True).first).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert overflow(page) <= 0, view
        check_axe(page)
        check_axe(page, "dark")
    assert page.title() == "Base · crawl2chat"


@BOTH
def test_a_click_on_a_passage_shows_where_it_departs_and_lets_a_model_go_on(base, page, expect, viewport):
    go(page, base, "view=recitation")
    page.get_by_label("Copies in the training text").select_option(label="2: 0 of 2 recited")
    rows = page.get_by_role("region", name="passages", exact=True).get_by_role("row")
    expect(rows).to_have_count(3)
    page.get_by_role("button", name=PASSAGES[1][:40]).press("Enter")
    detail = page.get_by_role("region", name="One passage")
    marks = detail.locator("mark")
    expect(marks).to_have_count(2)
    expect(marks.last).to_have_text(EVIL.split()[0])
    given, true = detail.locator(".given").first, detail.locator(".passage").first
    assert PASSAGES[1].startswith(given.inner_text())
    assert true.inner_text() == PASSAGES[1]
    page.get_by_label("Copies in the training text").select_option(label="about 64: 1 of 1 recited")
    page.get_by_role("button", name=PASSAGES[0][:40]).click()
    expect(detail).to_contain_text("The model recited it to its end")
    detail.get_by_role("button", name="Let it go on").click()
    expect(detail.locator(".answer")).to_contain_text("words are right")
    expect(page).to_have_url(re.compile("copies=64.*passage=0|passage=0.*copies=64"))
    page.reload()
    expect(detail).to_contain_text("The model recited it to its end")
    assert overflow(page) <= 0


@BOTH
def test_the_answer_follows_a_page_that_is_changed_by_hand(base, page, expect, viewport):
    go(page, base, "view=games&group=glossary/2")
    table = page.get_by_role("region", name="pages and answers").get_by_role("row")
    expect(table).to_have_count(7)
    expect(table.first).to_contain_text("control: a game, the word is not on the page")
    table.nth(1).get_by_role("button").first.click()
    box = page.get_by_role("textbox", name="The page")
    text = box.input_value()
    meaning = meaning_on_page(text)
    answer = page.locator(".answer")
    page.get_by_role("button", name="Let it answer now").click()
    expect(answer).to_contain_text(f"The model says “{meaning}”. The page says “{meaning}”. ✓ right")
    box.fill(text.replace(f" {meaning}", " trombone"))
    expect(answer).to_be_empty()
    page.get_by_role("button", name="Let it answer now").press("Enter")
    expect(answer).to_contain_text("The model says “trombone”. The page says “trombone”. ✓ right")
    expect(page.locator(".so-far li")).to_have_count(2)
    page.get_by_role("button", name="Restore the page").click()
    expect(box).to_have_value(text)
    assert overflow(page) <= 0


@BOTH
def test_a_sentence_about_somebody_of_the_web_is_completed(base, page, expect, viewport):
    go(page, base, "view=knowledge")
    page.get_by_label("People on").select_option(index=0)
    page.get_by_label("Person", exact=True).select_option(index=1)
    page.get_by_label("Sentence", exact=True).select_option(index=4)
    truth = page.get_by_label("The truth, if you know it").input_value()
    page.get_by_label("The truth, if you know it").press("Enter")
    live = page.get_by_role("region", name="complete a sentence now")
    expect(live.locator(".answer")).to_contain_text("a crow")
    expect(live).to_contain_text(re.compile(f"Probability of “{truth}” here: .* %; a guess among all \\d+ values"))
    assert overflow(page) <= 0


@BOTH
def test_a_text_is_compressed_with_each_token_by_its_bits(base, page, expect, viewport, check_axe):
    go(page, base)
    page.get_by_role("button", name="a passage with 61 copies").click()
    live = page.get_by_role("region", name="compress a text now")
    expect(live.get_by_text(re.compile("bits per byte, .* bytes"))).to_have_count(5)
    shown = live.get_by_role("region", name="the text, each token by its bits")
    assert shown.inner_text().replace("·", " ") == PASSAGES[0]
    expect(shown.locator("span[title$=bits]").first).to_be_visible()
    live.get_by_text("The tokens that cost most").click()
    expect(live.get_by_role("row")).to_have_count(13)
    check_axe(page)
    check_axe(page, "dark")
    assert overflow(page) <= 0
    page.get_by_label("Text, up to").fill("Something else")
    expect(shown).to_have_count(0)


@BOTH
def test_letters_are_counted_in_a_word_and_in_its_letters(base, page, expect, viewport, check_axe):
    go(page, base, "view=letters")
    page.get_by_label("Word", exact=True).fill("coffee")
    page.get_by_label("Letter", exact=True).fill("f")
    page.keyboard.press("Enter")
    expect(page.get_by_text("coffee has 2 × f.")).to_be_visible()
    spelled = page.get_by_role("region", name="the word given spelled out")
    assert "".join(spelled.locator(".piece").all_inner_texts()) == "·c·o·f·f·e·e"
    check_axe(page)
    assert overflow(page) <= 0
    page.get_by_label("Word", exact=True).fill("two words")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text('word = "two words": expected letters only, without spaces')
    page.faults[:] = [fault for fault in page.faults if "400" not in fault]


def test_a_run_without_the_stage_says_how_to_measure_and_can_be_asked(serve, tokenizer, page, expect, tmp_path):
    served = serve(tmp_path, is_run=False, models=offers_of(tokenizer, lambda stage, text: "garden.", ["import"]))
    go(page, served, "view=games")
    expect(page.get_by_role("note")).to_contain_text("one model and not a run")
    page.get_by_role("button", name="Let it answer now").click()
    expect(page.get_by_text("The model says “garden”. The page says “piano”. ✗ wrong")).to_be_visible()


def test_of_a_model_from_elsewhere_what_is_there_is_shown_and_the_rest_named(
    serve, tokenizer, page, expect, tmp_path, check_axe
):
    served = serve(write_outside(tmp_path), models=offers_of(tokenizer, lambda stage, text: "Well.", ["import"]))
    go(page, served, "view=recitation")
    expect(page.get_by_text("how often it met a passage can’t be counted")).to_be_visible()
    page.get_by_role("tab", name="Compression").click()
    expect(page.get_by_text("name a text with --data")).to_be_visible()
    page.get_by_role("tab", name="Games").click()
    expect(page.get_by_text("Phrases translated by example: French")).to_be_visible()
    expect(page.get_by_role("region", name="answers").get_by_text(EVIL)).to_have_count(4)
    check_axe(page)
    page.get_by_role("tab", name="Knowledge").click()
    expect(page.get_by_role("region", name="answers").get_by_text("A cat.")).to_be_visible()
    assert page.title() == "Base · crawl2chat"
