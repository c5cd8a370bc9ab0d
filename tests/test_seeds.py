"""`crawl2chat seeds`: the same recipe on several webs and with several seeds."""

import csv

import pytest

from crawl2chat.cli.main import main
from crawl2chat.stages.stage import read_manifest

RECIPE = 'until = "crawl"\n[crawl]\nsource = "tinyweb"\n[crawl.tinyweb]\npeople = 20\n'


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path / "tiny.toml"


def test_each_world_and_each_seed_is_a_run_and_the_next_call_skips_it(recipe, tmp_path, capsys):
    command = ["seeds", str(recipe), "--worlds", "2", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "run 3 of 3: world0-seed1" in said.err
    names = ("world0-seed0", "world1-seed0", "world0-seed1")
    manifests = [read_manifest(tmp_path / "out" / name / "crawl") for name in names]
    assert [manifest.settings["seed"] for manifest in manifests] == [0, 1, 0]
    assert manifests[0].outputs == manifests[2].outputs != manifests[1].outputs
    with open(tmp_path / "out" / "figures.csv") as file:
        assert {row["run"] for row in csv.DictReader(file)} == set(names)
    assert main(command) == 0
    assert [read_manifest(tmp_path / "out" / name / "crawl").started for name in names] == [
        manifest.started for manifest in manifests
    ]


def test_seeds_of_ones_own_are_refused(recipe, tmp_path, capsys):
    assert main(["seeds", str(recipe), "--out", str(tmp_path / "out"), "--sft.seed", "3"]) == 1
    assert "seeds --sft.seed: this command sets the seeds itself" in capsys.readouterr().err
