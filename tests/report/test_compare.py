import csv
import math
import re

import pyarrow.parquet as pq
import pytest

from crawl2chat.cli.main import main
from crawl2chat.report.compare import compare_runs, over_runs, read_figures, t_quantile, unlike_settings
from crawl2chat.stages.files import write_json
from crawl2chat.stages.stage import MANIFEST, Manifest


@pytest.fixture
def make_run(tmp_path):
    def make(name: str, seed: int, **stages: dict[str, float]):
        for i, (stage, values) in enumerate(stages.items()):
            figures = {
                figure: {"value": value, "unit": "share", "interval": [value - 0.1, value + 0.1], "count": 50}
                for figure, value in values.items()
            }
            settings = {"seed": seed} if stage == "sft" else {}
            manifest = Manifest(stage, settings, {}, {"a": name}, figures, {}, f"2026-11-28T10:0{i}:00", 1.0, {})
            write_json(tmp_path / name / stage / MANIFEST, vars(manifest))
        return tmp_path / name

    return make


def test_quantiles_of_student_s_t_are_those_of_the_tables():
    for degrees, expected in {1: 12.706, 2: 4.303, 10: 2.228, 11: 2.201, 20: 2.086, 120: 1.980}.items():
        assert t_quantile(degrees) == pytest.approx(expected, abs=5e-4)


def test_the_interval_over_few_runs_is_student_s():
    figure, spread = over_runs("x", [1.0, 2.0, 3.0])
    assert (figure.value, spread, figure.count) == (2, 1, 3)
    half = 4.3027 / math.sqrt(3)
    assert figure.interval == pytest.approx((2 - half, 2 + half))
    alone, unknown = over_runs("x", [0.5])
    assert (alone.value, alone.interval, unknown) == (0.5, None, None)


def test_a_figure_is_averaged_over_the_runs_that_have_it(make_run):
    runs = [
        make_run("a", 1, sft={"answers_that_end": 0.5}),
        make_run("b", 2, sft={"answers_that_end": 0.7, "x": 0.1}),
    ]
    ended, only_one = compare_runs(read_figures(runs))
    assert ended.figure.value == pytest.approx(0.6)
    assert (ended.least, ended.most, ended.figure.count) == (0.5, 0.7, 2)
    assert (only_one.figure.name, only_one.figure.count, only_one.spread) == ("x", 1, None)


def test_runs_that_differ_in_more_than_their_seeds_have_no_interval_from_there_on(tmp_path, capsys):
    for name, seed, width in (("a", 1, 64), ("b", 2, 128)):
        stages = {"refine": {"workers": 1}, "pretrain": {"width": width, "seed": seed}, "sft": {"seed": seed}}
        for i, (stage, settings) in enumerate(stages.items()):
            figures = {"speed": {"value": float(seed), "unit": "", "interval": None, "count": None}}
            manifest = Manifest(stage, settings, {}, {"a": name}, figures, {}, f"2026-11-28T10:0{i}:00", 1.0, {})
            write_json(tmp_path / name / stage / MANIFEST, vars(manifest))
    runs = [tmp_path / "a", tmp_path / "b"]
    unlike = unlike_settings(runs)
    assert unlike == {"pretrain": ["pretrain.width"], "sft": ["pretrain.width"]}
    intervals = {one.stage: one.figure.interval for one in compare_runs(read_figures(runs), unlike)}
    assert intervals["refine"] is not None
    assert (intervals["pretrain"], intervals["sft"]) == (None, None)
    assert main(["compare", *map(str, runs), "--stage", "sft", "--all"]) == 0
    shown = capsys.readouterr().out
    assert "no intervals, since these runs are not alike but for their seeds; they differ in pretrain.width" in shown
    assert not re.search(r"1\.5 \[", shown)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_file_has_one_line_per_run_and_figure(make_run, tmp_path, ending, capsys):
    stages = {"tokenizer": {"vocab_size": 0.3}, "sft": {"answers_that_end": 0.5}}
    runs = [make_run(name, seed, **stages) for seed, name in enumerate("ab")]
    file = tmp_path / f"figures.{ending}"
    assert main(["compare", *map(str, runs), "--out", str(file)]) == 0
    rows = list(csv.DictReader(file.open())) if ending == "csv" else pq.read_table(file).to_pylist()
    assert list(rows[0]) == ["run", "seed", "stage", "figure", "value", "unit", "low", "high", "count"]
    assert [(row["run"], row["stage"]) for row in rows] == [
        ("a", "tokenizer"), ("a", "sft"), ("b", "tokenizer"), ("b", "sft")
    ]  # fmt: skip
    assert [row["seed"] for row in rows] == (["", "0", "", "1"] if ending == "csv" else [None, 0, None, 1])
    assert float(rows[1]["low"]) == pytest.approx(0.4)
    shown = capsys.readouterr().out
    assert re.search(r"^answers that end +50\.0 % \[50\.0, 50\.0\] +0\.0 % +50\.0 % +50\.0 % +2$", shown, re.MULTILINE)
    assert "Student's t" in shown


def test_runs_of_one_name_are_told_apart_and_one_stage_can_be_picked(make_run):
    runs = [make_run("x/laptop", 1, sft={"f": 0.1}, honesty={"f": 0.2}), make_run("y/laptop", 2, sft={"f": 0.3})]
    assert {row.run for row in read_figures(runs)} == {"x/laptop", "y/laptop"}
    assert {row.stage for row in read_figures(runs, "sft")} == {"sft"}
    assert [row.value for row in read_figures([runs[0] / "honesty"])] == [0.2], "a stage's own folder"


def test_what_can_not_be_compared_is_named(make_run, tmp_path, capsys):
    run = make_run("a", 1, sft={"f": 0.5})
    (tmp_path / "empty").mkdir()
    cases = [
        ([tmp_path / "empty"], "empty: no finished stage in it"),
        ([tmp_path / "absent"], "absent: no finished stage in it"),
        ([run, "--stage", "prefer"], "a: no finished stage prefer in it"),
        ([run, run], "a: is named twice"),
        ([run, "--out", tmp_path / "figures.xlsx"], "expected a file that ends in .csv or .parquet"),
    ]
    for arguments, told in cases:
        assert main(["compare", *map(str, arguments)]) == 1
        assert told in capsys.readouterr().err
