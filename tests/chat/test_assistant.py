import pytest

from crawl2chat.api import find_model
from crawl2chat.chat.assistant import assistants, best_of
from crawl2chat.stages.files import StageError, write_json
from crawl2chat.stages.stage import MANIFEST, Manifest

GOOD = {"identity": 0.9, "wrong on people never met": 0.1, "sums step by step": 0.9}
BAD = {"identity": 0.5, "wrong on people never met": 0.6, "sums step by step": 0.9}
VAIN = {"identity": 0.9, "wrong on people never met": 1.0, "sums step by step": 0.9}  # knows no "I don't know"


@pytest.fixture
def run(tmp_path):
    def finish(stage: str, checkup: dict[str, float], prefix: str = "checkup/", **more: dict[str, float]):
        shares = {f"{prefix}{name}": value for name, value in checkup.items()} | more.get("before", {})
        figures = {name: {"value": value, "unit": "share"} for name, value in shares.items()}
        (tmp_path / stage).mkdir()
        manifest = Manifest(stage, {}, more.get("inputs", {}), {"a": stage}, figures, {}, "", 1.0, {})
        write_json(tmp_path / stage / MANIFEST, vars(manifest))

    finish.folder = tmp_path
    return finish


def chosen(run) -> str | None:
    best = best_of(assistants(run.folder))
    return best.folder.name if best else None


def test_the_last_stage_is_not_taken_if_its_checkup_is_worse(run):
    run("honesty", GOOD)
    run("reinforce", GOOD)
    run("prefer", BAD)
    assert chosen(run) == "reinforce", "the later of two that are equal"


def test_figures_that_should_be_low_count_from_the_other_end(run):
    run("honesty", GOOD)
    run("reinforce", VAIN)
    assert chosen(run) == "honesty"


def test_sft_is_scored_by_the_checkup_that_honesty_took_before_it_began(run):
    run("sft", {})
    run("honesty", BAD, before={f"before checkup/{name}": value for name, value in GOOD.items()})
    assert chosen(run) == "sft"


def test_without_checkups_the_latest_is_taken(run):
    assert chosen(run) is None
    run("sft", {})
    assert chosen(run) == "sft"
    run("reinforce", {})
    assert chosen(run) == "reinforce"


def test_a_stage_made_from_an_earlier_state_is_left_out(run, capsys):
    run("honesty", BAD)
    run("reinforce", GOOD, inputs={"honesty": "another hash"})
    assert chosen(run) == "honesty"
    folder, stage = find_model(run.folder)
    assert (folder.name, stage) == ("honesty", "honesty")
    assert "reinforce: made from an earlier state of the run" in capsys.readouterr().err
    with pytest.raises(StageError, match="made from an earlier state"):
        find_model(run.folder, "reinforce")


def test_the_choice_of_another_than_the_last_is_said(run, capsys):
    run("honesty", GOOD)
    run("prefer", BAD)
    assert find_model(run.folder)[0].name == "honesty"
    assert "the best assistant by the run's check-ups: honesty 90%, prefer 60%" in capsys.readouterr().err
    assert find_model(run.folder, "prefer")[0].name == "prefer"
    assert capsys.readouterr().err == ""


def test_a_run_without_an_assistant_has_its_base_model(run):
    run("pretrain", {})
    assert find_model(run.folder)[0].name == "pretrain"
