"""The page Runs in a browser: a recipe is chosen, a setting changed, and the run is started and followed."""

import json
import re
import subprocess
import sys
import time

import pytest
from made_runs import PATIENCE, starter, write_recipes
from served_runs import overflow

from crawl2chat.serve.app.run_process import LOG, RECORD, STATUS, Launch, started_at
from crawl2chat.stages.files import write_json

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with recipes, the app's run, and runs of which each went another way."""
    folder = tmp_path_factory.mktemp("runs")
    write_recipes(folder)
    (folder / "laptop" / "pretrain").mkdir(parents=True)
    (folder / "laptop" / "pretrain" / "manifest.json").write_text("{}")
    for name, status, log in (
        ("well", "0", "report: well/report.html"), ("wrong", "1", "crawl  1/9\ncrawl.warc = x: no such file"),
        ("paused", "130", "interrupted; the same command goes on from here"), ("killed", None, "crawl  5/9"),
    ):  # fmt: skip
        run = folder / name
        (run / "crawl").mkdir(parents=True)
        (run / "crawl" / ("manifest.json" if name == "well" else ".started.json")).write_text("{}")
        launch = Launch(
            recipe="recipes/tiny.toml", settings={}, cwd=str(folder), command=f"crawl2chat run {name}", began=0
        )
        write_json(run / RECORD, launch.model_dump())
        (run / LOG).write_text(f"$ crawl2chat run {name}\n{log}\n")
        if status:
            (run / STATUS).write_text(status)
    return folder


@pytest.fixture(scope="module")
def served(serve, runs):
    return serve(runs / "laptop", context={"runs": starter()})


@pytest.fixture
def alive(runs):
    """A run that goes on, and stops when it is asked to."""
    # a shell has what it starts in the background ignore SIGINT, and what that starts, too
    waits = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(3600)"
    process = subprocess.Popen([sys.executable, "-c", waits])
    run = runs / "going"
    run.mkdir()
    launch = Launch(
        recipe="recipes/tiny.toml", settings={}, cwd=str(runs), command="crawl2chat run going", began=time.time(),
        pid=process.pid, started_at=started_at(process.pid),
    )  # fmt: skip
    write_json(run / RECORD, launch.model_dump())
    (run / LOG).write_text("$ crawl2chat run going\ncrawl  1/9\rcrawl  2/9")
    yield run
    process.kill()
    process.wait()
    for file in run.iterdir():
        file.unlink()
    run.rmdir()


def card(page, name):
    return page.get_by_role("listitem", name=name, exact=True)


def test_runs_are_listed_with_how_they_went(served, page, viewport, check_axe):
    page.goto(f"{served.url}/runs")
    expect(card(page, "well")).to_contain_text("ended well")
    expect(card(page, "wrong")).to_contain_text("failed")
    expect(card(page, "wrong")).to_contain_text("crawl.warc = x: no such file")
    expect(card(page, "paused")).to_contain_text("ago; it can go on")
    expect(card(page, "killed")).to_contain_text("At the stage crawl")
    expect(card(page, "laptop").get_by_role("link", name="Its curves")).to_have_attribute("href", "/training")
    for name, count in (("well", 0), ("laptop", 0), ("wrong", 1), ("paused", 1), ("killed", 1)):
        expect(card(page, name).get_by_role("button", name="Resume")).to_have_count(count)
    card(page, "paused").get_by_text("Command and log").click()
    expect(card(page, "paused").locator(".command")).to_have_text("crawl2chat run paused")
    expect(card(page, "paused").locator(".log")).to_contain_text("the same command goes on from here")
    expect(page).to_have_url(re.compile("log=paused"))
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def test_a_running_one_shows_its_last_line_and_is_stopped(served, alive, page):
    page.goto(f"{served.url}/runs")
    expect(card(page, "going").locator(".last")).to_have_text("crawl  2/9")
    (alive / LOG).write_text("$ crawl2chat run going\ncrawl  7/9\n")
    expect(card(page, "going").locator(".last")).to_have_text("crawl  7/9")  # without a click
    page.get_by_role("button", name="stop going").press("Enter")
    expect(page.get_by_role("status").filter(has_text="was asked to stop")).to_be_visible()
    assert json.loads((alive / RECORD).read_text())["signals"] == 1
    expect(page.get_by_role("button", name="resume going")).to_be_visible()


def test_settings_are_searched_changed_and_refused_beside_their_fields(served, page, viewport, check_axe):
    page.goto(f"{served.url}/runs#view=new&recipe=recipes/tiny.toml")
    expect(page.get_by_text("A tiny recipe,")).to_be_visible()
    page.get_by_role("searchbox", name="Search").fill("vocab_size")
    box = page.get_by_label("tokenizer.vocab_size", exact=True)
    expect(box).to_have_attribute("placeholder", re.compile(r"^\d+$"))
    box.fill("many")
    field = page.locator(".setting").filter(has=page.locator("code", has_text="tokenizer.vocab_size"))
    expect(field.get_by_role("alert")).to_have_text(
        'tokenizer.vocab_size = "many": input should be a valid integer, unable to parse string as an integer'
    )
    expect(page.get_by_role("button", name="Start the run")).to_be_disabled()
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")
    page.get_by_label("tokenizer.vocab_size changed").fill("700")
    expect(field.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("button", name="Start the run")).to_be_enabled()
    expect(page.locator(".command")).to_contain_text("--tokenizer.vocab_size=700")
    expect(page).to_have_url(re.compile("set=.*vocab_size"))
    page.reload()
    expect(page.get_by_label("tokenizer.vocab_size changed")).to_have_value("700")
    page.get_by_role("button", name="take the change of tokenizer.vocab_size back").click()
    expect(page.locator(".command")).not_to_contain_text("vocab_size")
    page.get_by_role("searchbox", name="Search").fill("")
    page.get_by_role("button", name=re.compile("^refine")).click()
    expect(page.get_by_label("refine.workers", exact=True)).to_be_visible()
    expect(page.get_by_label("Stage", exact=True)).to_have_value("refine")
    assert overflow(page) <= 0


@pytest.mark.slow
def test_a_run_is_started_and_followed_to_its_end(served, runs, page):
    page.goto(f"{served.url}/runs#view=new&recipe=recipes/tiny.toml")
    page.get_by_label("Name of the run").fill("laptop")
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("alert")).to_contain_text("is there already")
    page.faults[:] = [fault for fault in page.faults if "409" not in fault]
    page.get_by_label("Name of the run").fill("fresh")
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("status").filter(has_text="fresh has been started.")).to_be_visible()
    expect(card(page, "fresh")).to_contain_text("ended well", timeout=1000 * PATIENCE)
    assert (runs / "fresh" / "crawl" / "manifest.json").exists()
    page.go_back()
    expect(page.get_by_role("button", name="Start the run")).to_be_visible()


@pytest.mark.slow
def test_the_plan_is_shown_as_a_table(served, page, viewport, check_axe):
    page.goto(f"{served.url}/runs#view=new&recipe=laptop")
    page.get_by_role("button", name="See what it will take").click()
    table = page.get_by_role("region", name="what the run will take")
    expect(table.get_by_role("rowheader", name="memory of a device")).to_be_visible(timeout=1000 * PATIENCE)
    expect(table.get_by_role("rowheader", name="training tokens")).to_be_visible()
    assert overflow(page) <= 0
    check_axe(page)


def test_where_nothing_may_be_started_the_page_says_why_and_shows_the_command(serve, runs, page):
    watched = serve(runs / "laptop", context={"runs": starter("this server was started with --read-only")})
    page.goto(f"{watched.url}/runs")
    expect(page.get_by_role("note")).to_contain_text("this server was started with --read-only")
    expect(card(page, "paused")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("[Rr]esume|[Ss]top"))).to_have_count(0)
    page.get_by_role("tab", name="Start one").click()
    expect(page.locator(".command")).to_contain_text("crawl2chat run laptop")
    expect(page.get_by_role("button", name="Start the run")).to_be_disabled()
    expect(page.get_by_role("button", name="See what it will take")).to_be_disabled()
