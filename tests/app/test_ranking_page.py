"""The page Ranking in a browser: what is confirmed there, by mouse or by keys, is what the store has."""

import json
import re

import pytest
from served_runs import VIEWPORTS, overflow

from crawl2chat.rl.preferences.store import RankingStore
from crawl2chat.serve.app.context import RankingFiles

N = 10
PHONE, BOTH = ["phone"], list(VIEWPORTS)
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script><|im_start|>system'


@pytest.fixture
def ranked(serve, tmp_path):
    """A server with ten questions and a store of its own; every fifth judgement is followed by a repeat."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(N)))
    served = serve(tmp_path, is_run=False, context={"ranking": RankingFiles(prompts=file, repeat_every=5)})
    served.store = tmp_path / "rankings.sqlite"
    return served


def start(page, served, name="anna", settings="answers=3"):
    page.goto(f"{served.url}/ranking#{settings}")
    page.get_by_label("Who is ranking?").fill(name)
    page.keyboard.press("Enter")
    at(page, 0)


def at(page, done, total=N + 1):
    page.get_by_text(f"{done} of {total}", exact=True).wait_for()


def on_screen(page):
    """The order as the page has it: groups of answers, by the numbers that they had when they were shown."""
    groups = {}
    for label in page.locator(".handle").evaluate_all("handles => handles.map(h => h.ariaLabel)"):
        answer, place = re.fullmatch(r"Move answer (\d), now (\d\w\w)(?:, tied)? of 3", label).groups()
        groups.setdefault(place, set()).add(int(answer) - 1)
    return list(groups.values())


def stored(served, annotator="anna"):
    return [[set(group) for group in r.best_first] if r.verdict == "ranked" else r.verdict
            for r in RankingStore.read(served.store).judgements(annotator)]  # fmt: skip


def drag(page, source, target):
    """The answer at one place to another place, with the mouse."""
    handle, goal = page.locator(".handle").nth(source), page.locator(".answer").nth(target)
    handle.scroll_into_view_if_needed()
    begin, end = handle.bounding_box(), goal.bounding_box()
    page.mouse.move(begin["x"] + 12, begin["y"] + 12)
    page.mouse.down()
    page.mouse.move(begin["x"] + 20, begin["y"] + 20)
    page.mouse.move(end["x"] + 40, end["y"] + 20, steps=3)
    page.mouse.up()


@pytest.mark.parametrize("viewport", BOTH, indirect=True)
def test_ten_questions_by_mouse(ranked, page, viewport):
    start(page, ranked)
    confirmed = []
    for number in range(N + 1):
        at(page, number)
        if number % 3 == 0:
            drag(page, 0, 1)
        else:
            page.get_by_role("button", name="Place answer 3 next").click()
            page.get_by_role("button", name="Place answer 1 next").click()
        if number % 4 == 0:
            page.get_by_role("button", name="is as good as").first.click()
        assert overflow(page) <= 0
        confirmed.append(on_screen(page))
        if number == 7:
            confirmed[-1] = "all_bad"
            page.get_by_role("button", name="All bad").click()
        else:
            page.get_by_role("button", name="Confirm").click()
        if number == 2:  # the order is taken back and another one confirmed
            at(page, 3)
            page.get_by_role("button", name="Undo").click()
            at(page, 2)
            page.get_by_role("button", name="Place answer 2 next").click()
            page.get_by_role("button", name="Place answer 3 next").click()
            confirmed[-1] = on_screen(page)
            page.get_by_role("button", name="Confirm").click()
    page.get_by_text("All 11 are done").wait_for()
    assert stored(ranked) == confirmed
    assert confirmed[0] == [{0, 1}, {2}]
    assert confirmed[2] == [{1}, {2}, {0}]
    repeats = [r.repeat_of is not None for r in RankingStore.read(ranked.store).judgements()]
    assert repeats == [number == 5 for number in range(N + 1)]


@pytest.mark.parametrize("viewport", BOTH, indirect=True)
def test_ten_questions_by_keys_alone(ranked, page, viewport):
    start(page, ranked)
    press = page.keyboard.press
    confirmed = []
    for number in range(N + 1):
        at(page, number)
        if number == 3:
            confirmed.append("skipped")
            press("s")
            continue
        if number == 4:
            confirmed.append("all_bad")
            press("b")
            continue
        press("Enter")  # nothing is in order yet, so nothing is stored
        page.get_by_text("Put the answers in order first").wait_for()
        if number % 2:
            page.locator(".handle").nth(0).press("Space")
            page.get_by_text("picked up").wait_for()
            press("ArrowRight")
            page.get_by_label("Move answer 1, now 2nd").wait_for()
            page.locator(".handle:focus[aria-label^='Move answer 1']").wait_for()
            press("ArrowDown")
            page.get_by_label("Move answer 1, now 3rd").wait_for()
            page.locator(".handle:focus[aria-label^='Move answer 1']").wait_for()
            press("Space")
        else:
            for key in ("3", "Backspace", "2", "1"):
                press(key)
            page.get_by_label("Move answer 3, now 3rd").wait_for()
        if number % 4 == 0:
            press("=")
            page.get_by_label("Move answer 1, now 1st, tied").wait_for()
        confirmed.append(on_screen(page))
        press("Enter")
        if number == 6:
            at(page, 7)
            press("u")
            at(page, 6)
            for key in ("1", "3"):
                press(key)
            confirmed[-1] = [{0}, {2}, {1}]
            page.get_by_label("Move answer 2, now 3rd").wait_for()
            press("Enter")
    page.get_by_text("All 11 are done").wait_for()
    assert stored(ranked) == confirmed
    assert confirmed[1] == [{1}, {2}, {0}]
    assert confirmed[8] == [{0, 1}, {2}]
    seconds = [r.seconds for r in RankingStore.read(ranked.store).judgements()]
    assert all(0 <= s < 300 for s in seconds)


def test_a_reload_in_the_middle_shows_the_same_answers_and_the_order_so_far(ranked, page):
    start(page, ranked)
    page.keyboard.press("2")
    page.keyboard.press("1")
    page.keyboard.press("=")
    page.get_by_label("Move answer 1, now 1st, tied").wait_for()
    texts = page.locator(".answer .text").all_inner_texts()
    page.reload()
    page.get_by_label("Move answer 1, now 1st, tied").wait_for()
    assert page.locator(".answer .text").all_inner_texts() == texts
    page.keyboard.press("Enter")
    at(page, 1)
    assert stored(ranked) == [[{0, 1}, {2}]]
    page.reload()
    at(page, 1)


def test_two_annotators_at_once_and_who_wrote_what_afterwards(ranked, page, browser):
    other = browser.new_context(viewport=VIEWPORTS["desktop"]).new_page()
    start(page, ranked, "anna", 'answers=3&reveal=true&from=["sft","prefer"]')
    start(other, ranked, "bert", 'answers=3&from=["sft","prefer"]')
    for number in range(3):
        for one, keys in ((page, "12"), (other, "31")):
            at(one, number)
            for key in keys:
                one.keyboard.press(key)
        assert not page.get_by_text("by sft").count()
        page.keyboard.press("Enter")
        page.get_by_role("button", name=re.compile("^Next")).wait_for()
        assert page.locator(".author").count() == 3
        assert page.get_by_text("by sft").count() >= 1
        page.keyboard.press("Enter")
        other.keyboard.press("Enter")
        at(other, number + 1)
        assert not other.locator(".author").count()
    at(page, 3)
    assert stored(ranked, "anna") == [[{0}, {1}, {2}]] * 3
    assert stored(ranked, "bert") == [[{2}, {0}, {1}]] * 3
    judged = RankingStore.read(ranked.store).judgements()
    assert len({frozenset(r.answers) for r in judged}) == 3
    page.get_by_role("tab", name="Agreement").click()
    page.get_by_role("cell", name="anna and bert").wait_for()
    other.context.close()


@pytest.mark.parametrize("viewport", PHONE, indirect=True)
def test_a_finger_drags_an_answer(ranked, page, viewport):
    start(page, ranked)
    handle, goal = page.locator(".handle").nth(0), page.locator(".answer").nth(1)
    begin, end = handle.bounding_box(), goal.bounding_box()
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    send("touchStart", (begin["x"] + 15, begin["y"] + 15))
    send("touchMove", (begin["x"] + 25, begin["y"] + 40))
    send("touchMove", (end["x"] + 60, end["y"] + 20))
    page.locator(".answer.dragged").wait_for()
    send("touchEnd")
    page.get_by_label("Move answer 1, now 2nd").wait_for()
    page.keyboard.press("Enter")
    at(page, 1)
    assert stored(ranked) == [[{1}, {0}, {2}]]


@pytest.mark.parametrize("viewport", BOTH, indirect=True)
def test_every_view_can_be_read_by_everybody(ranked, page, viewport, check_axe):
    page.goto(f"{ranked.url}/ranking#answers=3")
    page.get_by_label("Who is ranking?").wait_for()
    check_axe(page)
    check_axe(page, "dark")
    start(page, ranked)
    page.keyboard.press("2")
    check_axe(page)
    check_axe(page, "dark")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    at(page, 1)
    for tab, word in (("Agreement", "best was shown first"), ("Files", "Take away")):
        page.get_by_role("tab", name=tab).click()
        page.get_by_text(word).wait_for()
        assert overflow(page) <= 0
        check_axe(page)
        check_axe(page, "dark")


def test_files_go_out_and_in_and_markup_in_them_stays_text(ranked, page, tmp_path):
    answers = [{"text": f"{MARKUP} {i}", "author": MARKUP, "stage": MARKUP} for i in range(2)]
    rows = [{"messages": [{"role": "system", "content": MARKUP}, {"role": "user", "content": MARKUP}],
             "answers": answers, "best_first": [[1], [0]], "annotator": name} for name in (MARKUP, "bert")]  # fmt: skip
    file = tmp_path / f"{MARKUP.replace('/', '_')[:60]}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.goto(f"{ranked.url}/ranking#view=files")
    page.get_by_label("A file of ranked lists or pairs").set_input_files(file)
    page.get_by_text("2 judgements added").wait_for()
    with page.expect_download() as taken:
        page.get_by_role("button", name="Pairs", exact=True).click()
    pair = json.loads(taken.value.path().read_text().split("\n")[0])
    assert pair["chosen"][0]["content"] == f"{MARKUP} 1"
    page.get_by_role("tab", name="Agreement").click()
    page.get_by_role("cell", name=MARKUP, exact=True).first.wait_for()
    page.get_by_role("tab", name="Files").click()
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps({"prompt": MARKUP, "answers": MARKUP}) + "\n")
    page.get_by_label("A file of ranked lists or pairs").set_input_files(broken)
    page.get_by_role("alert").get_by_text("line 1: answers: expected a list").wait_for()
    page.faults[:] = [fault for fault in page.faults if "400" not in fault]
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0


def test_markup_in_questions_and_names_stays_text(serve, page, tmp_path):
    file = tmp_path / "prompts.jsonl"
    messages = [{"role": "system", "content": MARKUP}, {"role": "user", "content": MARKUP}]
    file.write_text(json.dumps({"messages": messages}) + "\n")
    (tmp_path / "guidelines.txt").write_text(MARKUP)
    files = RankingFiles(prompts=file, guidelines=tmp_path / "guidelines.txt")
    served = serve(tmp_path, is_run=False, context={"ranking": files})
    page.goto(f"{served.url}/ranking#answers=2")
    page.get_by_label("Who is ranking?").fill(MARKUP[:100])
    page.keyboard.press("Enter")
    page.get_by_text("0 of 1", exact=True).wait_for()
    assert page.locator(".question .says").all_inner_texts() == [MARKUP, MARKUP]
    page.get_by_text("Guidelines", exact=True).click()
    assert page.locator(".guidelines .says").inner_text() == MARKUP
    page.keyboard.press("Escape")
    page.locator(".handle").first.press("1")
    page.keyboard.press("Enter")
    page.get_by_text("All 1 are done").wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0
