import re
from pathlib import Path

import numpy as np
import pytest
from warcs import http, page_record, record, write_warc

from crawl2chat.cli import main
from crawl2chat.crawl.tinyweb import TinywebSettings
from crawl2chat.pipeline import Recipe, find_stage
from crawl2chat.plan import plan, shuffle_bytes
from crawl2chat.rates import Rates, measure, rates_of_run
from crawl2chat.recipe import load_settings
from crawl2chat.refine import copies
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.run import StageError, run_stage

RECIPES = Path(__file__).parents[1] / "recipes"
REAL = Rates(
    measured_on="a test", pages=1000, start=2.0, steps={"read": 0.001, "deduplicate": 0.001, "rest": 0.002},
    warc_bytes=1e9 / 33_000, signed=0.2, kept=0.1, characters=2000, document_bytes=1000, reject_bytes=50,
    memory=10**9,
)  # fmt: skip


def rows(table: str) -> dict[str, str]:
    """Left column → the rest of the line."""
    cells = [re.split(r"\s{2,}", line, maxsplit=1) for line in table.splitlines()]
    return {name: re.sub(r"\s{2,}", "  ", rest) for name, rest in cells}


@pytest.fixture(scope="module")
def warc(tmp_path_factory) -> Path:
    """100 pages, every fourth of them kept."""
    pages = [page_record(i) if i % 4 == 0 else record(http(b"%PDF", "Content-Type: x/pdf")) for i in range(100)]
    return write_warc(tmp_path_factory.mktemp("warc") / "crawl" / "a.warc.gz", pages)


def test_a_month_of_common_crawl_is_added_up_and_assumptions_are_said(monkeypatch):
    monkeypatch.setattr("crawl2chat.plan.measure", lambda warc, settings: REAL)
    found = rows(plan(load_settings(Recipe, RECIPES / "cluster.toml"), cores=1000, price=0.05))
    pages, warcs = 33_000 * 90_000, 90_000
    hours = (pages * 0.004 + warcs * 2.0) / 3600
    assert found["files"].startswith("90,000  assumed: a month of Common Crawl, 1 GB each")
    assert found["pages"].startswith("2.97 billion  assumed")
    assert found["bytes read"] == "90.0 TB"
    assert found["core-hours: read"].startswith("825  1.00 ms a page")
    assert found["core-hours"] == f"{hours:,.0f}"
    assert found["documents kept"] == "297.00 million  10.0% of the pages"
    assert found["bytes written"].startswith("430.6 GB")  # a tenth at 1000 bytes, the others at 50
    assert found["partitions"].startswith("4,019")  # 594 million signatures of 1816 bytes in parts of 256 MB
    assert found["hours"].startswith(f"{hours / 1000:.1f}  on 1,000 cores")
    assert found["cost"].startswith(f"${hours * 0.05:,.2f}")
    assert "parameters" not in found  # nothing is trained


def test_what_a_fictional_web_can_not_tell_is_assumed_and_said(monkeypatch):
    small = REAL.__class__(**vars(REAL) | {"fictional": True, "warc_bytes": 1e9 / 330_000, "signed": 0.9, "kept": 0.9})
    monkeypatch.setattr("crawl2chat.plan.measure", lambda warc, settings: small)
    found = rows(plan(load_settings(Recipe, RECIPES / "cluster.toml")))
    assert "--measure" in found["measured on"]
    assert found["documents kept"].endswith("assumed: 15% of the pages")
    assert found["core-hours: read"].startswith("8,250")  # real pages are ten times as large here
    assert found["core-hours: rest"].startswith("1,650")


def test_the_shuffle_is_as_large_as_the_files_that_deduplication_writes(tmp_path, warc):
    settings = DedupSettings(buckets=3, hashes_per_bucket=5)
    shards = [copies.Shard(tmp_path, 0, 1000)]
    assert shuffle_bytes(1000, settings) == copies.keys_bytes(shards, settings)


@pytest.mark.slow
def test_rates_are_measured_on_the_pages_of_a_warc(warc):
    rates = measure(warc, RefineSettings(workers=2))
    assert rates.pages == 100
    assert rates.kept == rates.signed == 0.25
    assert rates.start > 0.1  # two processes began
    assert set(rates.steps) == {"read", "extract and filter", "deduplicate"}
    assert all(np.isfinite(seconds) and seconds >= 0 for seconds in rates.steps.values())
    assert rates.steps["read"] > 0
    assert rates.warc_bytes == warc.stat().st_size / 100
    assert rates.memory is not None
    assert rates.memory > 50e6


@pytest.mark.slow
def test_the_month_is_planned_with_nothing_at_hand(monkeypatch, capsys):
    small = TinywebSettings(people=60, passages_per_level=2, passage_levels=3, worked_sums=60, direct_sums=40)
    monkeypatch.setattr("crawl2chat.rates.TinywebSettings", lambda: small)
    assert main(["plan", str(RECIPES / "cluster.toml"), "--cores", "64"]) == 0
    found = rows(capsys.readouterr().out)
    assert "pages of a fictional web" in found["measured on"]
    hours = {name: float(text.split()[0].replace(",", "")) for name, text in found.items() if "core-hours" in name}
    total = hours.pop("core-hours")
    assert total == pytest.approx(sum(hours.values()), rel=0.02)
    assert 100 < total < 100_000


def test_too_few_pages_are_no_sample(tmp_path):
    few = write_warc(tmp_path / "few.warc.gz", [page_record(i) for i in range(3)])
    with pytest.raises(StageError, match=r"few\.warc\.gz: 3 pages are too few to go by; expected 50 or more"):
        measure(few, RefineSettings())
    single = write_warc(tmp_path / "single.warc.gz", [page_record(i) for i in range(60)], "single")
    with pytest.raises(StageError, match=r"single\.warc\.gz: all its records are in one gzip member"):
        measure(single, RefineSettings())
    with pytest.raises(StageError, match=r"none: there is no such file"):
        measure(tmp_path / "none", RefineSettings())


@pytest.mark.slow
def test_rates_of_a_run_are_its_time_on_all_its_cores(tmp_path, warc):
    recipe = load_settings(
        Recipe, None, ["--until=refine", "--crawl.source=warc", f"--crawl.warc={warc}", "--refine.workers=2"]
    )
    run_stage(find_stage("crawl"), {}, tmp_path / "crawl", recipe.crawl)
    manifest, _ = run_stage(find_stage("refine"), {"crawl": tmp_path / "crawl"}, tmp_path / "refine", recipe.refine)
    rates = rates_of_run(tmp_path)
    assert sum(rates.steps.values()) == pytest.approx(manifest.seconds * 2 / 100)
    assert rates.kept == 0.25
    found = rows(plan(recipe, run=tmp_path, cores=2))
    assert found["pages"] == "100"
    assert "hours" in found
    assert "memory a core" not in found  # a manifest does not tell


def test_a_run_without_refine_gives_no_rates(tmp_path):
    with pytest.raises(StageError, match=r"--rates .*: has no finished refine stage"):
        rates_of_run(tmp_path)


def test_training_is_planned_from_the_model_s_sizes(capsys):
    assert main(["plan", "--pretrain.tokens", "1_000_000", "--flops", "1e12"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["training tokens"].startswith("1.00 million")
    flop = float(found["training FLOP"].split()[0])
    parameters = float(found["parameters"].split()[0]) * 1e6
    assert 6 * parameters * 1e6 < flop < 12 * parameters * 1e6  # six a parameter, and attention
    assert float(found["training hours"].split()[0]) == pytest.approx(flop / 1e12 / 3600, abs=0.01)


def test_where_there_is_nothing_to_plan_it_is_told(capsys):
    assert main(["plan", "--until", "refine"]) == 1
    assert "neither a crawl to refine nor a model to train" in capsys.readouterr().err
