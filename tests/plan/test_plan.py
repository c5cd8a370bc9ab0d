import re
from pathlib import Path

import numpy as np
import pytest
from warcs import http, page_record, record, write_warc

from crawl2chat.cli.main import main
from crawl2chat.cli.run import PLANNED_DEVICES
from crawl2chat.model import Transformer
from crawl2chat.plan import plan
from crawl2chat.plan.refining import Rates, measure, rates_of_run, shuffle_bytes
from crawl2chat.plan.table import as_time
from crawl2chat.plan.training import affordable, measured_rate
from crawl2chat.refine.copies import copies
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import StageError, write_json
from crawl2chat.stages.pipeline import Recipe, find_stage
from crawl2chat.stages.settings import load_settings
from crawl2chat.stages.stage import MANIFEST, METRICS, Manifest, run_stage
from crawl2chat.tinyweb import TinywebSettings
from crawl2chat.train.data import random_batches
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import typical_speed
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import model_config, save_stage_model
from crawl2chat.train.settings import PretrainSettings
from crawl2chat.train.utilisation import DEVICES

RECIPES = Path(__file__).parents[2] / "recipes"
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
    found = rows(plan(load_settings(Recipe, RECIPES / "cluster.toml"), cores=1000, core_price=0.05))
    pages, warcs = 33_000 * 90_000, 90_000
    hours = (pages * 0.004 + warcs * 2.0) / 3600
    assert found["files"].startswith("90,000  assumed: a month of Common Crawl, 1 GB each")
    assert found["pages"].startswith("2.97 billion  assumed")
    assert found["bytes read"] == "90.0 TB"
    assert found["core-hours: read"].startswith("825  1.00 ms per page")
    assert found["core-hours"] == f"{hours:,.0f}"
    assert found["documents kept"] == "297.00 million  10.0% of the pages"
    assert found["bytes written"].startswith("430.6 GB")  # a tenth at 1000 bytes, the others at 50
    assert found["partitions"].startswith("4,019")  # 594 million signatures of 1816 bytes in parts of 256 MB
    assert found["time"].startswith(f"{hours / 1000:.3g} hours  on 1,000 cores")
    assert found["cost"].startswith(f"${hours * 0.05:,.2f}")
    assert "parameters" not in found  # nothing is trained


def test_what_a_fictional_web_can_not_tell_is_assumed_and_said(monkeypatch):
    small = REAL.__class__(**vars(REAL) | {"fictional": True, "warc_bytes": 1e9 / 330_000, "signed": 0.9, "kept": 0.9})
    monkeypatch.setattr("crawl2chat.plan.measure", lambda warc, settings: small)
    found = rows(plan(load_settings(Recipe, RECIPES / "cluster.toml")))
    assert "--warc" in found["measured on"]
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
    monkeypatch.setattr("crawl2chat.plan.refining.TinywebSettings", lambda: small)
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
    assert "time" in found
    assert "memory per core" not in found  # a manifest does not tell


def test_a_run_without_refine_gives_no_rates(tmp_path):
    with pytest.raises(StageError, match=r"--rates .*: has no finished refine stage"):
        rates_of_run(tmp_path)


def test_training_is_planned_from_the_model_s_sizes(capsys):
    shape = ["--pretrain.tokens", "1_000_000", "--pretrain.batch_tokens", "4096"]
    assert main(["plan", *shape, "--flops", "1e9"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["training steps"].startswith("244  of 4,096 tokens")
    assert found["training tokens"].startswith("999,424")
    flop = float(found["training FLOP"].split()[0])
    parameters = float(found["parameters"].split()[0]) * 1e6
    assert 6 * parameters * 1e6 < flop < 12 * parameters * 1e6  # six a parameter, and attention
    hours = found["time on 1 × the device"]
    assert float(hours.split()[0]) == pytest.approx(flop / 1e9 / 3600, rel=0.01)
    assert "given (--flops)" in hours


def test_unmeasured_devices_are_planned_at_a_rate_that_is_called_assumed(capsys):
    large = ["--pretrain.depth", "20", "--pretrain.tokens", "10_000_000_000"]
    assert main(["plan", *large]) == 0
    found = rows(capsys.readouterr().out)
    hours = {what: text for what, text in found.items() if " × NVIDIA" in what}
    assert len(hours) == 2 * len(DEVICES)
    assert all(text.count("assumed") == 2 for text in hours.values())  # the rate and the price
    assert main(["plan", *large, "--device", "h100", "--devices", "4", "--price", "2.5"]) == 0
    one = rows(capsys.readouterr().out)["time on 4 × NVIDIA H100"]
    flop = float(found["training FLOP"].split()[0])
    planned = flop / (4 * 0.4 * 989e12) / 3600
    assert float(one.split()[0]) == pytest.approx(planned, rel=0.01)
    dollars = re.match(r"\S+ hours  \$(\S+) at \$2.5 per hour;", one)[1]
    assert float(dollars) == pytest.approx(planned * 4 * 2.5, rel=0.01)


def test_a_training_of_hours_is_planned_on_this_machine_alone(monkeypatch, capsys):
    monkeypatch.setattr("crawl2chat.plan.training.matmul_rate", lambda device, dtype: 1e11)
    shape = ["--pretrain.device", "cpu", "--pretrain.depth", "4", "--pretrain.tokens", "10_000_000"]
    assert main(["plan", *shape]) == 0
    found = rows(capsys.readouterr().out)
    (planned,) = (text for what, text in found.items() if what.startswith("time on"))
    flop = float(found["training FLOP"].split()[0])
    assert found["time on 1 × this machine"] == planned
    unit = {"min": 1 / 60, "hours": 1.0}[planned.split()[1]]
    assert float(planned.split()[0]) * unit == pytest.approx(flop / (0.3 * 1e11) / 3600, rel=0.01)
    assert "assumed: 30% of its rate of matrix products, measured now" in planned


def test_the_memory_of_a_device_is_that_of_micro_batches_that_fit_it(capsys):
    shape = ["--pretrain.depth", "12", "--pretrain.seq_len", "2048", "--pretrain.batch_tokens", "262144"]
    assert main(["plan", *shape, "--device", "h100"]) == 0
    memory = rows(capsys.readouterr().out)["memory of a device"]
    assert float(memory.split()[0]) < 0.9 * 80
    assert "the most that fit NVIDIA H100" in memory


@pytest.mark.parametrize(
    ("hours", "text"), [(5.7e-5, "0.205 s"), (0.25, "15 min"), (2.6, "2.6 hours"), (1234.5, "1,234 hours")]
)
def test_times_are_in_units_that_can_be_imagined(hours, text):
    assert as_time(hours) == text


def test_a_micro_batch_that_does_not_fit_is_told_with_one_that_does(capsys):
    shape = ["--pretrain.depth", "20", "--pretrain.seq_len", "2048", "--pretrain.batch_tokens", "524288"]
    assert main(["plan", *shape, "--pretrain.micro_batch_tokens", "131072", "--device", "h100"]) == 0
    found = rows(capsys.readouterr().out)["time on 1 × NVIDIA H100"]
    assert "DOES NOT FIT" in found
    fitting = re.search(r"micro_batch_tokens = (\d+)", found)[1]
    assert main(["plan", *shape, "--pretrain.micro_batch_tokens", fitting, "--device", "h100"]) == 0
    assert "DOES NOT FIT" not in capsys.readouterr().out


def test_a_model_too_large_for_one_device_is_divided_among_them(capsys):
    shape = ["--pretrain.depth", "48", "--device", "h100"]
    assert main(["plan", *shape, "--devices", "8"]) == 0
    found = rows(capsys.readouterr().out)["time on 8 × NVIDIA H100"]
    assert "divided among 8 (fsdp)" in found
    assert "DOES NOT FIT" not in found
    assert main(["plan", *shape, "--devices", "1"]) == 0
    assert "nor does one row of 512" in capsys.readouterr().out


def test_the_rate_of_a_finished_run_is_taken(tmp_path):
    figures = {"tokens_per_second": 1000.0, "model_flop_utilisation": 0.3, "matmul_rate": 20e9}
    fields = {name: Figure(name, value).to_json() for name, value in figures.items()}
    write_json(
        tmp_path / "pretrain" / MANIFEST,
        vars(Manifest("pretrain", {}, {}, {}, fields, {}, "", 1.0, {})),
    )
    found = rows(plan(Recipe(), run=tmp_path))
    rate = next(text for what, text in found.items() if what.startswith("time on"))
    assert "0.006 TFLOP/s, measured" in rate
    with pytest.raises(StageError, match=r"--rates .*: has no finished pretrain stage"):
        plan(Recipe(), run=tmp_path / "other")


@pytest.mark.slow
def test_a_measured_rate_is_about_the_rate_of_training(tmp_path):
    settings = PretrainSettings(depth=3, seq_len=64, tokens=40_960, compile="off", device="cpu")
    measured = measured_rate(settings, 512, steps=10)
    assert measured.device == "this machine"
    assert "5 steps of 4,096 tokens at depth 3;" in measured.how
    model = Transformer(model_config(settings, 512))
    model.init_weights(0)
    batches = random_batches(512, settings.batch_rows, settings.seq_len)
    train(NextToken(model, batches, settings), 10, settings, tmp_path, label="test")
    speed = typical_speed(tmp_path / METRICS)[0].value
    assert measured.flops == pytest.approx(speed * model.flops_per_token(64), rel=0.8)  # of a machine with others on it


def test_what_takes_too_long_to_measure_is_measured_smaller_and_said():
    settings = PretrainSettings(depth=12, seq_len=512, batch_tokens=2**19, micro_batch_tokens=2**15, device="cpu")
    a_row = 512 * Transformer(model_config(settings, 4096)).flops_per_token(512)
    for flop, depth, rows_of_batch in ((2000 * a_row, 12, 1024), (70 * a_row, 12, 64), (3 * a_row, 12, 3)):
        small = affordable(settings, 4096, flop, memory=1e12, device="cpu")
        assert (small.depth, small.batch_rows) == (depth, rows_of_batch)
    assert affordable(settings, 4096, 0.5 * a_row, memory=1e12, device="cpu").depth < 12
    with pytest.raises(StageError, match=r"not one sequence of pretrain\.seq_len = 512 can be trained on here"):
        affordable(settings, 4096, 1000, memory=1e12, device="cpu")


@pytest.mark.parametrize(
    "flags",
    [["--warc", "a.warc.gz", "--rates", "run"], ["--measure", "--flops", "1e9"], ["--measure", "--device", "h100"]],
)
def test_of_two_sources_of_one_rate_none_is_passed_over(flags, capsys):
    assert main(["plan", *flags]) == 1
    told = capsys.readouterr().err
    assert all(flag in told for flag in flags if flag.startswith("--"))


def test_a_measurement_is_not_tracked(monkeypatch):
    seen = []

    def trained(objective, steps, settings, out, **options):
        seen.append(settings.track)

    lines = [{"step": step, "tokens_per_second": 1000} for step in range(1, 8)]
    monkeypatch.setattr("crawl2chat.plan.training.train", trained)
    monkeypatch.setattr("crawl2chat.plan.training.read_metrics", lambda file: lines)
    measured_rate(PretrainSettings(depth=1, seq_len=64, track="wandb", device="cpu"), 512, steps=10)
    assert seen == ["none"]


def test_the_command_line_knows_the_devices_that_can_be_planned():
    assert set(DEVICES) == set(PLANNED_DEVICES)


def test_where_there_is_nothing_to_plan_it_is_told(capsys):
    assert main(["plan", "--until", "refine"]) == 1
    assert "neither a crawl to refine nor a model to train" in capsys.readouterr().err


def test_fine_tuning_an_imported_model_with_an_adapter_is_planned_with_its_frozen_weights(tmp_path, tokenizer):
    model = Transformer(model_config(PretrainSettings(depth=3, device="cpu"), tokenizer.vocab_size))
    model.init_weights(0)
    save_stage_model(model, tokenizer, tmp_path / "pretrain")
    write_json(tmp_path / "pretrain" / MANIFEST, vars(Manifest("import", {}, {}, {}, {}, {}, "", 1.0, {})))
    whole, adapter = (
        rows(plan(load_settings(Recipe, RECIPES / "laptop.toml", flags), run=tmp_path))
        for flags in (["--sft.seq_len", "256"], ["--sft.seq_len", "256", "--sft.lora.rank", "2"])
    )
    name = "fine-tuning (sft) trains"
    assert next(iter(whole)) == next(iter(adapter)) == name  # no pretraining
    assert "all of" in whole[name]
    assert "an adapter of rank 2" in adapter[name]
    flop = [float(found["FLOP per token of it"].split()[0]) for found in (whole, adapter)]
    assert 0.6 < flop[1] / flop[0] < 0.8
