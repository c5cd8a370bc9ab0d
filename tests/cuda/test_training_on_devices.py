"""On a GPU, too: bf16 and fp8 learn what fp32 learns, a killed run goes on, and RL draws from what it has learned."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from devices import CUDA, DEVICES, N_GPUS, bytes_tokenizer

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.attention import mask_within
from crawl2chat.rl.grpo import PolicyGradient
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.data import Batch, random_batches
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.settings import TrainSettings

VOCAB, SEQ_LEN, STEPS = 272, 64, 6
ON_RANKS = Path(__file__).parents[1] / "train" / "on_ranks.py"
COMPUTE_8_9 = pytest.mark.skipif(
    not N_GPUS or torch.cuda.get_device_capability() < (8, 9), reason="needs a GPU that multiplies fp8"
)


class Stopped(Exception):
    pass


def small_model() -> Transformer:
    model = Transformer(ModelConfig(VOCAB, 64, 192, 2, 4, 2, 16, max_position_embeddings=SEQ_LEN))
    model.init_weights(0)
    return model


def run(folder, device, stop_at=None, documents=False, steps=STEPS, **settings):
    """Train a small model on random tokens; returns the losses of all steps so far."""
    settings = TrainSettings(
        seq_len=SEQ_LEN, batch_tokens=8 * SEQ_LEN, device=device, **{"compile": "off", "precision": "fp32"} | settings
    )
    ready = random_batches(VOCAB, 8, SEQ_LEN)

    def batches(step: int) -> Batch:
        if step == stop_at:
            raise Stopped
        batch = ready(step)
        if not documents:
            return batch
        numbers = torch.arange(SEQ_LEN).expand(8, -1) // (10 + step)
        return Batch(batch.inputs_bt, batch.targets_bt, batch.weights_bt, numbers)

    train(NextToken(small_model(), batches, settings), steps, settings, folder, label="test")
    return [line["loss"] for line in read_metrics(folder / METRICS)]


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_has_the_losses_of_fp32_but_for_rounding(device, tmp_path):
    plain, halved = (run(tmp_path / precision, device, precision=precision) for precision in ("fp32", "bf16"))
    assert halved == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("device", [CUDA])
def test_a_gpu_has_the_losses_of_a_cpu(device, tmp_path):
    assert run(tmp_path / "gpu", device) == pytest.approx(run(tmp_path / "cpu", "cpu"), rel=2e-3)


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_blocks_have_the_losses_of_eager_ones(device, precision, tmp_path):
    eager, compiled = (run(tmp_path / way, device, compile=way, precision=precision) for way in ("off", "on"))
    assert compiled == pytest.approx(eager, rel=0.02)


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("way", ["off", "on"])
@COMPUTE_8_9
def test_fp8_has_about_the_losses_of_bf16(device, way, tmp_path):
    halved, quartered = (run(tmp_path / p, device, compile=way, precision=p) for p in ("bf16", "fp8"))
    assert quartered != halved
    assert quartered == pytest.approx(halved, rel=0.05)


@pytest.mark.parametrize("device", [CUDA])
def test_documents_attended_to_in_blocks_have_the_losses_of_the_whole_mask(device, tmp_path):
    """Compiled, FlexAttention computes them; with a mask that is another one in each step."""
    eager, compiled = (run(tmp_path / way, device, compile=way, documents=True) for way in ("off", "on"))
    assert compiled == pytest.approx(eager, rel=0.01)


@pytest.mark.parametrize("device", DEVICES)
def test_a_whole_mask_is_on_the_device_of_its_documents(device):
    assert mask_within(torch.zeros(2, 8, dtype=torch.long, device=device), blocks=False).device.type == device


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_that_was_stopped_goes_on_with_the_losses_of_one_that_was_not(device, tmp_path):
    """Through a checkpoint, copied from the GPU by pinned memory."""
    with pytest.raises(Stopped):
        run(tmp_path / "again", device, stop_at=4, checkpoint_every=2)
    resumed = run(tmp_path / "again", device, checkpoint_every=2)
    assert len(resumed) == STEPS
    assert resumed == pytest.approx(run(tmp_path / "whole", device), rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_checkpointing_and_micro_batches_change_no_loss(device, tmp_path):
    others = {"gradient_checkpointing": "on", "micro_batch_tokens": 2 * SEQ_LEN}
    whole, split = run(tmp_path / "whole", device), run(tmp_path / "split", device, **others)
    assert split == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_answers_are_drawn_from_the_model_that_was_just_trained(device, tmp_path):
    """Or the sampler's log-probabilities would not be the trainer's; on a GPU by graphs that were recorded before."""
    settings = PolicySettings(
        steps=4, prompts=3, answers=4, max_tokens=8, matrix_lr=0.05, embedding_lr=0.05, replay_weight=0, device=device
    )

    def reward(step, prompts, groups):
        return torch.tensor([[sum(i < 100 for i in c.ids) / len(c.ids) for c in group] for group in groups])

    objective = PolicyGradient(
        small_model(), bytes_tokenizer(), settings, lambda step: [[5, 6, 7], [8, 9], [10, 11, 12, 13]], reward
    )
    train(objective, settings.steps, settings, tmp_path, label="reinforce")
    gaps = [line["logprob_gap_max"] for line in read_metrics(tmp_path / METRICS)]
    assert len(gaps) == settings.steps
    assert max(gaps) < 1e-3
    assert bool(objective.engine and objective.engine.cached.graphs) == (device == "cuda")


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.skipif(N_GPUS < 2, reason="needs two GPUs")
def test_two_gpus_have_the_losses_of_one(device, parallel, tmp_path):
    losses = []
    for n in (1, 2):
        jobs = json.dumps([{"out": "run", "settings": {"parallel": parallel, "device": device}}])
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
        subprocess.run([*command, ON_RANKS, jobs, tmp_path / str(n), device], check=True, timeout=300)
        losses.append([line["loss"] for line in read_metrics(tmp_path / str(n) / "run" / METRICS) if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
