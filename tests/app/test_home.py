"""The page Start: the way of a run with its figures."""

import shutil

import httpx
import pytest
from report_run import make_run
from served_runs import overflow

from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import write_json
from crawl2chat.stages.stage import STARTED, Manifest


@pytest.fixture(scope="module")
def run(serve, tokenizer, tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("home") / "laptop", tokenizer)
    shutil.rmtree(folder / "prefer")
    (folder / "reinforce" / "manifest.json").unlink()
    (folder / "reinforce" / STARTED).write_text("{}")
    return serve(folder)


def way(served):
    return httpx.get(f"{served.url}/app/home").json()


def write_stage(run, stage, *figures, folder=None, **inputs):
    made = {figure.name: figure.to_json() for figure in figures}
    manifest = Manifest(stage, {}, inputs, {}, made, {}, "2026-11-30T10:00:00+0000", 61.0, {})
    folder = run / (folder or stage)
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", vars(manifest))


def test_each_stage_of_the_run_is_there_in_its_order_with_its_state(run):
    found = way(run)
    names = [step["name"] for step in found["steps"]]
    assert names == [
        "crawl", "refine", "tokenizer", "pretrain", "base", "generate", "sft", "honesty", "thinking", "reinforce",
    ]  # fmt: skip
    states = {step["name"]: step["state"] for step in found["steps"]}
    assert states.pop("reinforce") == "begun"
    assert set(states.values()) == {"made"}
    assert [title.partition(":")[0] for title in found["absent"]] == ["Import", "Synthesize", "Prefer"]


def test_bars_are_as_long_as_what_they_show(serve, tmp_path):
    folder = tmp_path / "run"
    bits = (Figure("unigram_bits_per_byte", 2.0, "bits/byte"), Figure("held_out_bits_per_byte", 0.5, "bits/byte"))
    write_stage(folder, "pretrain", *bits)
    shares = (Figure("wrong before/0", 0.8, "share"), Figure("wrong after/0", 0.0, "share"))
    write_stage(folder, "honesty", *shares, sft="made from another one")
    write_stage(folder, "sft")
    steps = {step["name"]: step for step in way(serve(folder))["steps"]}
    drawn = {name: [(bar["value"], bar["length"]) for bar in step["bars"]] for name, step in steps.items()}
    assert drawn == {
        "pretrain": [("2 bits per byte", 1.0), ("0.5 bits per byte", 0.25)],
        "honesty": [("80 %", 0.8), ("0 %", 0.0)],
        "sft": [],
    }
    assert steps["honesty"]["state"] == "earlier"


def test_an_imported_model_stands_where_it_was_brought(serve, tmp_path):
    write_stage(tmp_path / "run", "import", Figure("parameters", 135e6), folder="pretrain")
    found = way(serve(tmp_path / "run"))
    assert [step["name"] for step in found["steps"]] == ["import"]
    assert "Pretrain: predict the next token" in found["absent"]


def test_a_single_model_has_no_way(serve):
    assert way(serve(is_run=False)) == {"steps": [], "absent": []}


def test_the_way_is_a_picture_that_leads_to_the_pages(run, page, viewport, check_axe):
    expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect
    page.goto(run.url)
    steps = page.get_by_role("list", name="The way of this run").locator("> li")
    expect(steps).to_have_count(10)
    expect(steps.filter(has_text="Reinforce")).to_contain_text("begun, not finished")
    for theme in ("light", "dark"):
        check_axe(page, theme)
    assert overflow(page) <= 0
    honesty = steps.filter(has_text="Honesty: know what you know")
    track, fill = (honesty.locator(f".{name}").first.bounding_box()["width"] for name in ("track", "fill"))
    assert fill == pytest.approx(track / 2, abs=1)
    honesty.get_by_role("link").click()
    page.get_by_role("heading", name="Honesty", level=1).wait_for()
