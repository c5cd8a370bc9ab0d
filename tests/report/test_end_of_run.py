"""What a run says at its end."""

import pytest

from crawl2chat.report import print_run
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.stage import Manifest


def made(stage, *figures):
    return Manifest(stage, {}, {}, {}, {f.name: f.to_json() for f in figures}, {}, "2026-11-30T10:00:00+0000", 1.0, {})


def test_a_run_ends_with_a_sentence_per_stage_and_what_can_be_done_with_it(tmp_path, capsys):
    sums = [share(f"{how}/3 digits", n, 200) for how, n in (("at once", 2), ("step by step", 184), ("calculator", 200))]
    print_run(tmp_path / "mine", [made("tokenizer"), made("pretrain", Figure("parameters", 2)), made("honesty", *sums)])
    said = " ".join(capsys.readouterr().out.split())
    assert "Tokenizer A model reads tokens, not letters." in said
    assert "step by step, 100 %" in said.replace(" [98.1, 100]", "")
    assert f"crawl2chat chat {tmp_path}/mine # talk to it" in said


@pytest.mark.parametrize(
    ("stages", "commands"), [(["crawl", "refine"], []), (["pretrain"], ["generate", "app", "export"])]
)
def test_only_what_can_be_done_is_offered(stages, commands, tmp_path, capsys):
    print_run(tmp_path, [made(stage) for stage in stages])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("crawl2chat ")] == commands
