"""The page Data in a browser: its main acts at both widths and by keys; hostile pages; a run of 10⁵ documents."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pages_run import EVIL, EVIL_URL, EXACT_URL, N_GOOD, SHORT_URL, STAYED_URL, write_pages_run
from served_runs import VIEWPORTS, overflow

from crawl2chat.refine.funnel import read_funnel
from crawl2chat.refine.tables import KEPT, REJECTS, ROWS

BOTH = pytest.mark.parametrize("viewport", list(VIEWPORTS), indirect=True)
N_MANY = 100_000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_pages_run(tmp_path_factory.mktemp("runs") / "laptop")


@pytest.fixture(scope="module")
def data(serve, run):
    return serve(run)


@pytest.fixture(scope="module")
def many(serve, run, tmp_path_factory):
    """A run of 10⁵ documents, of which the crawled pages are not there."""
    folder = tmp_path_factory.mktemp("runs") / "many"
    for table, schema in (("documents", KEPT), ("rejects", REJECTS)):
        (folder / "refine" / table).mkdir(parents=True)
        with pq.ParquetWriter(folder / "refine" / table / "part-00000.parquet", schema) as writer:
            for begin in range(0, N_MANY if table == "documents" else ROWS, ROWS):
                rows = [
                    {
                        "id": f"{i:032x}", "url": f"https://many.example.org/{i}", "text": f"Document number {i}.",
                        "language": "en", "language_score": 1.0, "copies": 0, "step": "c4",
                        "reason": "too_few_sentences", "place": {"warc": "a.warc.gz", "offset": i, "within": 0},
                    }
                    for i in range(begin, begin + ROWS)
                ]  # fmt: skip
                writer.write_table(pa.Table.from_pylist(rows, schema))
    funnel = read_funnel(run / "refine") | {"pages": N_MANY, "kept": N_MANY}
    (folder / "refine" / "funnel.json").write_text(json.dumps(funnel))
    return serve(folder)


@pytest.fixture
def expect():
    return pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


def go(page, served, state=""):
    page.goto(f"{served.url}/data#{state}")
    page.get_by_role("tab", name="Funnel").wait_for()


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def listed(page):
    return page.get_by_role("listbox", name="pages").get_by_role("option")


@BOTH
def test_from_the_funnel_to_a_dropped_page_and_the_rule_that_dropped_it(data, page, expect, viewport):
    go(page, data)
    expect(page.get_by_text(f"{N_GOOD + 1} kept")).to_be_visible()
    page.get_by_role("button", name="−1 too_few_words").click()
    page.get_by_role("option", name=SHORT_URL).click()
    expect(page.get_by_role("heading", name=SHORT_URL)).to_be_visible()
    tab(page, "Its way through the steps")
    failing = page.get_by_role("row", name=re.compile("words: at least 50.*12.*fails"))
    expect(failing).to_be_visible()
    expect(page.get_by_text("Not taken any more: rules on repetition")).to_be_visible()
    assert overflow(page) <= 0
    failing.get_by_role("button", name="histogram of words").click()
    expect(page.get_by_role("img", name=f"histogram of words: {N_GOOD + 1} documents above")).to_be_visible()
    address = page.url
    page.reload()
    expect(page.get_by_role("img", name="histogram of words")).to_be_visible()
    assert page.url == address


@BOTH
def test_the_kept_blocks_are_marked_in_the_source_beside_the_text(data, page, expect, viewport):
    go(page, data, "view=pages&row=3")
    source = page.get_by_role("region", name="the page’s source")
    text = page.get_by_role("region", name="the extracted text")
    source.locator("mark").first.wait_for()
    assert "\n\n".join(source.locator("mark").all_text_contents()) == text.text_content()
    assert source.text_content().startswith("<!doctype html>")
    assert overflow(page) <= 0


@BOTH
def test_a_threshold_that_is_moved_names_the_pages_that_change_sides(data, page, expect, viewport):
    go(page, data, "view=thresholds")
    status = page.get_by_role("status").filter(has_text="With this threshold")
    expect(status).to_contain_text(f"would drop 0 of the {N_GOOD + 1} documents")
    expect(status).to_contain_text("let pass 0 of the 1 pages")
    page.get_by_label("threshold, as a number").fill("12")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("let pass 1 of the 1 pages")
    slider = page.locator("#threshold")
    slider.focus()
    page.keyboard.press("End")
    expect(status).not_to_contain_text("would drop 0 of")
    assert overflow(page) <= 0
    page.get_by_role("button", name=re.compile(r"^document \d+: \d+$")).first.click()
    expect(page.get_by_text("as document")).to_be_visible()
    page.go_back()
    expect(slider).to_be_visible()


@BOTH
def test_copies_side_by_side_and_search(data, page, expect, viewport):
    go(page, data, "view=copies")
    page.get_by_role("option", name=STAYED_URL).click()
    sides = page.get_by_role("region", name="both texts side by side")
    expect(sides.locator("del")).to_have_text("that")
    expect(sides.locator("ins")).to_have_text("the")
    page.get_by_label("Which of the 2 copies").select_option(label=EXACT_URL)
    expect(sides.get_by_text(f"dropped: {EXACT_URL}")).to_be_visible()
    assert overflow(page) <= 0
    page.get_by_role("button", name="Show the copy").click()
    page.get_by_role("button", name="Show the document of which it is a copy").click()
    expect(page.get_by_role("heading", name=STAYED_URL)).to_be_visible()
    tab(page, "Search")
    page.get_by_label("Search for").fill("berlon tormik")
    page.keyboard.press("Enter")
    expect(page.get_by_text("the 10 best passages")).to_be_visible()
    assert overflow(page) <= 0
    page.get_by_role("button", name="Show its page").first.click()
    expect(page.get_by_text("as document")).to_be_visible()


def test_random_pages_come_from_what_was_asked_for(data, page, expect):
    go(page, data, "view=pages&table=dropped&why=language/other_language")
    page.get_by_role("button", name="A random dropped page").click()
    expect(page.get_by_role("heading", name="https://host0.example.org/german")).to_be_visible()
    page.get_by_role("button", name="A random kept page").click()
    expect(page.get_by_text("as document")).to_be_visible()
    page.get_by_label("Address contains").fill("evil.example")
    page.keyboard.press("Enter")
    expect(listed(page)).to_have_count(1)


def test_scripts_in_a_page_are_shown_and_never_run(data, page, expect):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    go(page, data, "view=pages&find=evil.example")
    listed(page).click()
    source = page.get_by_role("region", name="the page’s source")
    source.locator("mark").first.wait_for()
    assert EVIL in source.text_content()
    assert EVIL in page.get_by_role("region", name="the extracted text").text_content()
    assert page.get_by_role("heading", name=EVIL_URL).text_content() == EVIL_URL
    tab(page, "Its way through the steps")
    page.get_by_text("Its way").wait_for()
    tab(page, "Search")
    page.get_by_label("Search for").fill("hacked onerror")
    page.keyboard.press("Enter")
    page.get_by_text("svg onload").first.wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script, main svg, main base, main iframe").count() == 0
    assert all(url.startswith(data.url) for url in asked)
    assert "default-src 'none'" in data.http.get("/data").headers["content-security-policy"]


def test_ten_thousands_of_rows_are_scrolled_and_few_are_asked_for(many, page, expect):
    asked = []
    page.on(
        "request", lambda request: asked.append(request.post_data_json) if "/app/data/list" in request.url else None
    )
    go(page, many, "view=pages")
    rows = page.get_by_role("listbox")
    expect(rows.get_by_role("option").first).to_contain_text("https://many.example.org/0")
    rows.evaluate("rows => { rows.scrollTop = rows.scrollHeight; }")
    expect(rows.get_by_role("option").last).to_contain_text(f"/{N_MANY - 1}")
    rows.evaluate("rows => { rows.scrollTop = rows.scrollHeight / 2; }")
    expect(rows.get_by_text("Document number 50000.")).to_be_visible()
    assert rows.get_by_role("option").count() < 40
    assert sum(body["limit"] for body in asked) <= 400
    rows.focus()
    page.keyboard.press("Home")
    expect(page.get_by_role("heading", name="https://many.example.org/0")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("heading", name="https://many.example.org/1")).to_be_visible()
    page.keyboard.press("End")
    expect(page.get_by_role("heading", name=f"https://many.example.org/{N_MANY - 1}")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("its folder crawl is missing")
    expect(page.get_by_role("region", name="the document")).to_have_text(f"Document number {N_MANY - 1}.")
    page.faults[:] = [fault for fault in page.faults if "409" not in fault]


@BOTH
def test_every_view_can_be_read_by_everybody(data, page, expect, viewport, check_axe):
    states = {
        "view=funnel": "pages were crawled", "view=pages&row=3": "The page’s source",
        "view=pages&table=dropped&row=1&show=steps": "Not taken any more", "view=thresholds": "With this threshold",
        "view=copies&document=120": "Which of the 2", "view=search&query=berlon": "best passages",
    }  # fmt: skip
    for state, said in states.items():
        if "copies" in state:
            row = data.http.post("/app/data/clusters", json={}).json()["rows"][0]["row"]
            state = f"view=copies&document={row}"
        page.goto("about:blank")
        go(page, data, state)
        expect(page.get_by_text(said).first).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert overflow(page) <= 0, state
        check_axe(page)
        check_axe(page, "dark")


def test_a_model_alone_says_why_there_is_nothing(serve, page, expect, tmp_path):
    served = serve(tmp_path, is_run=False)
    page.goto(f"{served.url}/data")
    expect(page.get_by_role("alert")).to_contain_text("this is one model and not a run")
    page.faults[:] = [fault for fault in page.faults if "409" not in fault]
