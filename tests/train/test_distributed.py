"""Two processes on this machine train as one does."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import on_ranks
import pytest
import torch

from crawl2chat.rl.rollout_log import RolloutReader
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.metrics import read_metrics

pytestmark = pytest.mark.slow  # processes that import torch

SCRIPT = Path(on_ranks.__file__)
TOLERANCE = 1e-5  # relative, of losses in fp32: sums are taken in another order


def start(jobs, folder, size=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    command = [sys.executable, SCRIPT, json.dumps(jobs), folder]
    return [
        subprocess.Popen(command, env=common | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]


def finish(processes, seconds=600):
    """What they said, and their exit codes; none outlives the time."""
    try:
        said = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return said, [process.returncode for process in processes]


def run(jobs, folder, seconds=600):
    said, codes = finish(start(jobs, folder), seconds)
    assert codes == [0, 0], said
    return said


def losses(folder):
    return [line["loss"] for line in read_metrics(folder / METRICS) if "loss" in line]


def logits(folder):
    return [line["logit"] for line in read_metrics(folder / METRICS) if "logit" in line]


def weights(folder):
    return torch.load(folder / "weights.pt")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    on_ranks.run({"out": "whole"}, folder)
    on_ranks.run({"out": "odd", "settings": {"batch_tokens": 144}}, folder)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Many trainings by two ranks, one after the other."""
    folder = tmp_path_factory.mktemp("together")
    jobs = []
    for parallel in ("ddp", "fsdp"):
        for name, settings in [
            ("whole", {}), ("again", {}), ("split", {"micro_batch_tokens": 16}),
            ("odd", {"batch_tokens": 144, "micro_batch_tokens": 32}),
        ]:  # fmt: skip
            jobs.append({"out": f"{parallel}-{name}", "settings": settings | {"parallel": parallel}})
    run(jobs, folder)
    return folder


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize(("name", "same_as"), [("whole", "whole"), ("split", "whole"), ("odd", "odd")])
def test_two_ranks_have_the_losses_norms_and_weights_of_one(alone, together, parallel, name, same_as):
    ours, theirs = together / f"{parallel}-{name}", alone / same_as
    assert losses(ours) == pytest.approx(losses(theirs), rel=TOLERANCE)
    norms = [[line["grad_norm"] for line in read_metrics(f / METRICS) if "loss" in line] for f in (ours, theirs)]
    assert norms[0] == pytest.approx(norms[1], rel=3e-4)
    assert logits(ours) == pytest.approx(logits(theirs), rel=1e-3)
    for key, weight in weights(theirs).items():
        torch.testing.assert_close(weights(ours)[key], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_runs_of_two_ranks_are_equal(together, parallel):
    assert losses(together / f"{parallel}-whole") == losses(together / f"{parallel}-again")
    one, other = weights(together / f"{parallel}-whole"), weights(together / f"{parallel}-again")
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++"))), reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_ranks_have_the_same_losses(tmp_path):
    one_layer = {"layers": 1}  # compiling three takes three times as long
    jobs = [one_layer | {"out": way, "settings": {"parallel": way, "compile": "on"}} for way in ("ddp", "fsdp")]
    run(jobs, tmp_path)
    on_ranks.run(one_layer | {"out": "alone"}, tmp_path)
    for parallel in ("ddp", "fsdp"):
        assert losses(tmp_path / parallel) == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)


def test_a_step_that_is_no_number_on_one_rank_is_skipped_by_both(tmp_path):
    jobs = [{"out": parallel, "broken_at": 3, "settings": {"parallel": parallel}} for parallel in ("ddp", "fsdp")]
    run(jobs, tmp_path)
    on_ranks.run({"out": "alone", "broken_at": 3}, tmp_path)
    for parallel in ("ddp", "fsdp"):
        skipped = [line["step"] for line in read_metrics(tmp_path / parallel / METRICS) if "skipped" in line]
        assert skipped == [4]
        assert losses(tmp_path / parallel) == pytest.approx(losses(tmp_path / "alone"), rel=TOLERANCE)
        assert len(losses(tmp_path / parallel)) == on_ranks.STEPS - 1


def test_checkpoints_go_from_one_rank_to_two_and_back_and_between_ddp_and_fsdp(alone, tmp_path):
    every = {"checkpoint_every": 2}

    def job(parallel, stop_at=None):
        return {"out": "moved", "stop_at": stop_at, "settings": every | {"parallel": parallel}}

    on_ranks.run(job("ddp", stop_at=2), tmp_path)
    run([job("fsdp", stop_at=4), job("ddp", stop_at=5), job("fsdp", stop_at=6)], tmp_path)
    on_ranks.run(job("ddp"), tmp_path)
    assert losses(tmp_path / "moved") == pytest.approx(losses(alone / "whole"), rel=TOLERANCE)


def test_without_the_file_of_one_rank_both_go_back_to_the_checkpoint_before(alone, tmp_path):
    job = {"out": "torn", "settings": {"parallel": "fsdp", "checkpoint_every": 2}}
    run([job | {"stop_at": 5}], tmp_path)
    next((tmp_path / "torn/checkpoints/step-00000004").glob("rank-1-of-2-*")).unlink()
    said = run([job], tmp_path)
    assert "step-00000004: not complete (without the file of rank 1 of 2); going back" in said[0]
    assert "step-00000004" not in said[1]
    assert losses(tmp_path / "torn") == pytest.approx(losses(alone / "whole"), rel=TOLERANCE)


@pytest.mark.parametrize("dying", [0, 1])
def test_a_rank_that_dies_ends_the_others_with_a_word(tmp_path, dying):
    processes = start([{"out": "dying", "kill": [dying, 3]}], tmp_path)
    assert processes[dying].wait(300) == -9
    said, codes = finish(processes)  # long before the half hour that a collective operation may take
    assert codes[1 - dying] == 1
    assert "lost another process of this run" in said[1 - dying]
    assert "Traceback" not in said[1 - dying]


ADAPTERS = {"lora": {}, "dora": {"dora": True}, "bf16": {"bf16": True}}


def test_two_ranks_train_an_adapter_as_one_does_and_go_on_after_a_kill(tmp_path):
    def job(name, parallel, **more):
        settings = {"parallel": parallel, "checkpoint_every": 2, "micro_batch_tokens": 32}
        return {"out": f"{name}-{parallel}", "adapter": ADAPTERS[name], "settings": settings} | more

    killed = job("dora", "ddp", out="killed")
    for name, adapter in ADAPTERS.items():
        on_ranks.run({"out": name, "adapter": dict(adapter)}, tmp_path)
    processes = start([*(job(name, way) for name in ADAPTERS for way in ("ddp", "fsdp")), killed | {"kill": [1, 5]}],
                      tmp_path)  # fmt: skip
    assert processes[1].wait(300) == -9
    finish(processes)
    run([killed], tmp_path)
    for name in ADAPTERS:
        expected = weights(tmp_path / name)
        for way in ("ddp", "fsdp"):
            folder = tmp_path / f"{name}-{way}"
            assert losses(folder) == pytest.approx(losses(tmp_path / name), rel=1e-4 if name == "bf16" else TOLERANCE)
            for key, weight in weights(folder).items():
                torch.testing.assert_close(weight, expected[key], rtol=1e-3, atol=1e-4)
    assert losses(tmp_path / "killed") == losses(tmp_path / "dora-ddp")
    whole, resumed = weights(tmp_path / "dora-ddp"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_two_ranks_reinforce_and_rank_as_one_does(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer")
    jobs = [
        {"kind": "policy", "out": "policy", "prompts": 3},
        {"kind": "policy", "out": "one prompt", "prompts": 1},
        {"kind": "rankings", "out": "rankings"},
    ]
    run([*jobs, {"kind": "sending", "out": "sent"}], tmp_path)
    first, other = (torch.load(tmp_path / "sent" / f"{rank}.pt") for rank in range(2))
    assert first["frozen"] == other["frozen"] == ["model.norm.weight"]
    for name, tensor in first["weights"].items():
        assert torch.equal(other["weights"][name], tensor), name
    assert [(t.dtype, t.tolist()) for t in other["odd"]] == [(t.dtype, t.tolist()) for t in first["odd"]]
    for job in jobs:
        on_ranks.RUNS[job["kind"]](job | {"out": f"alone/{job['out']}"}, tmp_path)
        ours, theirs = ([*read_metrics(tmp_path / f"{folder}{job['out']}" / METRICS)] for folder in ("", "alone/"))
        varying = {"seconds", "tokens_per_second", "sampled_per_second", "memory_mb"}
        assert len(ours) == len(theirs)
        for line, expected in zip(ours, theirs, strict=True):
            assert line.keys() == expected.keys()
            shared = line.keys() - varying - {"logprob_gap", "logprob_gap_max"}  # these are rounding
            assert [line[name] for name in shared] == pytest.approx([expected[name] for name in shared], rel=1e-3)
        for key, weight in weights(tmp_path / "alone" / job["out"]).items():
            torch.testing.assert_close(weights(tmp_path / job["out"])[key], weight, rtol=1e-3, atol=1e-4)
    logs = [RolloutReader(tmp_path / folder / "policy") for folder in ("", "alone")]
    assert logs[0].steps.tolist() == logs[1].steps.tolist() == [1, 2, 3, 4]
    for n in range(3):  # whose entropies come from both ranks
        together, alone = (log.group(4, n)["answers"] for log in logs)
        for answer, expected in zip(together, alone, strict=True):
            assert answer["pieces"] == expected["pieces"]
            assert answer["entropies"] == pytest.approx(expected["entropies"], abs=1e-3)


def torchrun(folder, *arguments):
    """What it and two ranks said, and the exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "crawl2chat", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return ended.stdout + ended.stderr, ended.returncode


def test_the_command_runs_under_torchrun_and_says_an_error_once(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer")
    texts = [{"text": f"Mill {i} stands by river {i * 7 % 50}. " * 5} for i in range(60)]
    (tmp_path / "documents.jsonl").write_text("\n".join(map(json.dumps, texts)))
    small = "--pretrain.depth 1 --pretrain.seq_len 16 --pretrain.batch_tokens 64 --pretrain.tokens 640".split()
    command = ["pretrain", "documents.jsonl", "tokenizer", "--out", "out", *small]
    said, code = torchrun(tmp_path, *command)
    assert code == 0, said
    assert said.count("held out bits per byte") == 1
    assert len(losses(tmp_path / "out")) == 10
    said, code = torchrun(tmp_path, "pretrain", "documents.jsonl", "nowhere", "--out", "other")
    assert code != 0
    assert said.count("its input tokenizer (nowhere) does not exist; make it first") == 1
