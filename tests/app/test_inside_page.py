"""The page Inside in a browser: looking into a model by mouse and by keys."""

import re
from urllib.parse import quote

import pytest
import torch
from served_runs import overflow

from crawl2chat.model.inside import Change, look_inside

TEXT = "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills, 3 bridges"
VIEWS = ("network", "block", "head", "neurons", "stream", "lens", "whatif")


@pytest.fixture
def engine(served):
    """That of the default model, for what the page should show."""
    return served.pool.default.engine


def open_page(served, page, **state):
    fragment = "&".join(f"{name}={quote(value, safe='')}" for name, value in {"text": TEXT, **state}.items())
    page.goto(f"{served.url}/inside#{fragment}")
    page.locator(".output table").wait_for()


def ids_of(engine):
    return [engine.tokenizer.end_of_text, *engine.tokenizer.encode(TEXT)]


def per_cent(share):
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"


def test_from_the_network_to_one_number_by_mouse(served, page, viewport, engine):
    open_page(served, page)
    page.get_by_role("button", name=re.compile("^head 3 of block 2")).click()
    square = page.get_by_role("application", name=re.compile("^attention of each token"))
    square.wait_for()
    box, n = square.bounding_box(), len(ids_of(engine))
    row, column = n - 3, 4
    spot = {"x": box["width"] * (column + 0.5) / n, "y": box["height"] * (row + 0.5) / n}
    square.click(position=spot)
    found = look_inside(engine.model, ids_of(engine)).layer(1)
    share = found.attention_htt[2, row, column].item()
    page.locator(".readout", has_text=f"{share:.4f}").wait_for()
    assert f"(position {row + 1}) looks at" in page.locator(".readout").inner_text()
    assert overflow(page) <= 0


def test_switching_a_head_off_moves_the_bars(served, page, engine):
    open_page(served, page, view="head", layer="1", head="2")
    page.get_by_role("button", name="Switch off this head").click()
    page.locator(".bar.is-after").first.wait_for()
    ids = ids_of(engine)
    before, after = (
        look_inside(engine.model, ids, changes).logits(3)[-1].softmax(-1) for changes in ([], [Change("head", 1, 2)])
    )
    first = max(range(len(before)), key=lambda id: max(before[id], after[id]))
    bars = page.locator(".bars tbody tr").first.locator(".bar").all_inner_texts()
    assert bars == [per_cent(before[first].item()), per_cent(after[first].item())]
    page.get_by_role("button", name="Undo all").click()
    page.locator(".bar.is-after").first.wait_for(state="detached")


def test_all_of_it_by_keys(served, page, engine):
    open_page(served, page)
    n = len(ids_of(engine))
    page.get_by_role("radio", checked=True).focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name=f"(position {n - 1})").first.wait_for()
    page.get_by_role("tab", name="Network").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    cell = page.locator("td.chosen")
    cell.wait_for()
    cell.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")  # pins its token
    line = page.locator(".pin-list li")
    line.wait_for()
    inside = look_inside(engine.model, ids_of(engine))
    id = int(inside.lens(2, 1).ids_tk[n - 3, 0])
    shares = [round(100 * inside.logits(layer)[n - 3].softmax(-1)[id].item()) for layer in range(4)]
    assert " → ".join(map(str, shares)) in line.inner_text()
    page.get_by_role("tab", name="Logit lens").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")  # to Head
    square = page.get_by_role("application", name=re.compile("^attention of each token"))
    square.wait_for()
    square.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    found = inside.layer(0).attention_htt[0]
    page.locator(".readout", has_text=f"{found[n - 3, 1].item():.4f}").wait_for()
    page.keyboard.press("Escape")
    page.locator(".readout", has_text="Point at a square").wait_for()


def test_what_is_looked_at_is_in_the_address(served, page, engine):
    open_page(served, page, view="head", layer="1", head="2", at="5", changes='["mlp/0"]')
    page.get_by_role("heading", name="(position 6)").first.wait_for()
    assert page.get_by_role("combobox", name="Block").input_value() == "1"
    assert page.get_by_role("combobox", name="Head").input_value() == "2"
    page.get_by_text("the MLP of block 1: switched off").first.wait_for()
    page.get_by_label("Text", exact=True).fill("one inn, one inn, one inn")
    page.wait_for_url(re.compile(r"one\+inn%2C\+one"))
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    page.locator(".output table").wait_for()
    assert page.get_by_role("radio").count() == 1 + len(engine.tokenizer.encode("one inn, one inn, one inn"))


def test_activations_of_another_text_are_brought_in(served, page, engine):
    other = TEXT.replace("17", "23")
    open_page(served, page, view="whatif", other=other)
    page.get_by_label("As it enters").select_option("3")
    page.get_by_role("button", name="Bring it in").click()
    page.get_by_text("the stream into the last norm at").first.wait_for()
    page.locator(".bar.is-after").first.wait_for()
    their_ids = [engine.tokenizer.end_of_text, *engine.tokenizer.encode(other)]
    theirs = look_inside(engine.model, their_ids).logits(3)[-1].softmax(-1)
    afters = page.locator(".bar.is-after").all_inner_texts()
    assert per_cent(theirs.max().item()) in afters


def test_parts_are_left_out_in_turn(served, page, engine):
    open_page(served, page, view="whatif")
    page.get_by_role("button", name="Leave out each part in turn").click()
    cell = page.get_by_role("button", name=re.compile("^MLP of block 2"))
    cell.wait_for()
    ids = ids_of(engine)
    with torch.no_grad():
        id = int(engine.model(torch.tensor([ids]))[0, -1].argmax())
    without = look_inside(engine.model, ids, [Change("mlp", 1)]).logits(3)[-1].softmax(-1)[id].item()
    assert cell.inner_text() == (per_cent(without) if without >= 0.0005 else "<0.1 %")
    cell.click()
    page.get_by_text("the MLP of block 2: switched off").first.wait_for()


def test_the_tour_by_keys(served, page, viewport):
    open_page(served, page)
    page.get_by_role("button", name="Take the tour").press("Enter")
    for step in range(1, 11):
        page.get_by_text(f"Step {step} of 10").wait_for()
        page.locator(".output table").wait_for()
        assert overflow(page) <= 0
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.get_by_text("Step 9 of 10").wait_for()
    page.locator(".bar.is-after").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("region", name="guided tour").wait_for(state="detached")


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_accessible_and_fits(served, page, viewport, view, check_axe):
    open_page(served, page, view=view, changes='["head/1/2"]', pins="[5,40]", cell="[9,4]")
    page.locator(".view p").first.wait_for()
    page.wait_for_load_state("networkidle")
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def test_text_and_addresses_never_become_markup(served, page):
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script> <|im_end|> &lt;b&gt;'
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog) or dialog.dismiss())
    for view in VIEWS:
        page.goto("about:blank")
        state = {"changes": '["<b>/0","mlp/0/x/<i>","head/1/0"]', "pins": '["<b>",5]', "cell": '["<i>",{}]'}
        open_page(served, page, text=hostile, other=hostile, view=view, form="bare", **state)
        page.wait_for_load_state("networkidle")
        assert page.locator("main img, main script, main b b").count() == 0
        assert page.title() == "Inside · crawl2chat"
    assert not dialogs
    names = page.locator(".token-strip .token-control").count()
    assert names == 0  # what looks like a control token is ordinary text


def test_what_a_model_does_not_have_is_said_and_can_be_undone(served, page):
    changes = quote('["mlp/7"]')
    page.goto(f"{served.url}/inside#changes={changes}")
    page.get_by_role("alert").filter(has_text="layer 7 of a change: expected 0 to 2").wait_for()
    page.get_by_role("button", name="Undo all changes").click()
    page.locator(".output table").wait_for()
    page.faults[:] = [fault for fault in page.faults if "400" not in fault]


def test_a_long_text_is_cut_and_the_page_says_so(served, page, check_axe):
    open_page(served, page, text=TEXT * 20, view="head")
    page.get_by_text(re.compile("the first 256 are")).wait_for()
    assert page.get_by_role("radio").count() == 256
    page.locator(".maps").first.wait_for()
    assert overflow(page) <= 0
    check_axe(page)  # what scrolls can be scrolled by keys
