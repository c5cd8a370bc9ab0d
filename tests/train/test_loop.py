import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.data import RowBatches
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.settings import TrainSettings

SHAPE = {"seq_len": 16, "batch_tokens": 128, "micro_batch_tokens": 128, "compile": "off", "precision": "fp32"}
STEPS = 6


def model() -> Transformer:
    transformer = Transformer(ModelConfig(64, 32, 64, 2, 2, 1, 16, max_position_embeddings=16))
    transformer.init_weights(seed=0)
    return transformer


def batches(rows=8):
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 64, size=(40, 17))
    weights = generator.random((40, 17)).astype(np.float32)
    weights[:, :9] = 0  # as a prompt's
    return RowBatches(ids, weights, rows=rows, seed=0)


def learn(model, batches, settings, out, steps=STEPS, **others):
    train(NextToken(model, batches, settings), steps, settings, out, label="pretrain", **others)


def run(out, trained=None, **settings):
    trained = trained or model()
    learn(trained, batches(), TrainSettings(**(SHAPE | settings)), out)
    return trained, [line["loss"] for line in read_metrics(out / METRICS)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    out_model, losses = run(out)
    return out_model, losses


def test_the_loss_is_the_weighted_mean_over_the_batch(whole):
    batch = batches()(0)
    with torch.no_grad():
        losses = F.cross_entropy(model()(batch.inputs_bt).mT, batch.targets_bt, reduction="none")
    expected = (losses * batch.weights_bt).sum() / batch.weights_bt.sum()
    assert whole[1][0] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("micro_batch_tokens", [16, 64, 100])
def test_losses_are_the_same_under_any_split_into_micro_batches(tmp_path, whole, micro_batch_tokens):
    _, losses = run(tmp_path, micro_batch_tokens=micro_batch_tokens)
    assert losses == pytest.approx(whole[1], rel=1e-4)


def test_training_lowers_the_loss_on_what_it_trains_on(tmp_path):
    settings = TrainSettings(**SHAPE)
    trained = model()
    learn(trained, batches(), settings, tmp_path, steps=60)
    losses = [line["loss"] for line in read_metrics(tmp_path / METRICS)]
    assert losses[0] > math.log(64) * 0.9
    assert losses[-1] < losses[0] / 2


class Killed(Exception):
    pass


def test_a_run_that_was_killed_ends_with_the_same_weights_and_losses(tmp_path, whole):
    def killed_batches(step):
        if step == 5:
            raise Killed
        return batches()(step)

    settings = TrainSettings(**SHAPE, checkpoint_every=2)
    with pytest.raises(Killed):
        learn(model(), killed_batches, settings, tmp_path)
    other_start = model()
    with torch.no_grad():
        other_start.model.embed_tokens.weight.fill_(0.123)  # must not matter: the checkpoint does
    resumed, losses = run(tmp_path, other_start, checkpoint_every=2)
    assert losses == whole[1]
    for ours, theirs in zip(resumed.parameters(), whole[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_a_run_saves_the_step_it_is_at_and_goes_on_from_there(tmp_path, whole, number):
    evaluated = []

    def evaluate(done):  # not the batches, which are made ahead
        evaluated.append(done)
        if done == 3:
            os.kill(os.getpid(), number)
        return {}

    def trained():
        settings = TrainSettings(**SHAPE, checkpoint_every=100, evaluate_every=1)
        learn(model(), batches(), settings, tmp_path, evaluate=evaluate)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        trained()
    assert signal.getsignal(number) == handler
    assert evaluated == [1, 2, 3]  # it stops after step 4, whose evaluation has to wait
    trained()
    assert evaluated == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in read_metrics(tmp_path / METRICS) if "loss" in line] == whole[1]


def test_checkpoints_of_other_settings_are_an_error(tmp_path):
    run(tmp_path)
    with pytest.raises(StageError, match=r"checkpoints are of a run with matrix_lr = 0\.02; give the same settings"):
        run(tmp_path, matrix_lr=0.01)


def test_asked_to_stop_in_the_last_step_a_run_still_evaluates_and_does_not_go_on_as_if_nothing_was_said(tmp_path):
    evaluated = []

    def evaluate(done):
        evaluated.append(done)
        if done == STEPS - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # heard in the step after this one, the last
        return {}

    settings = TrainSettings(**SHAPE, evaluate_every=1)
    with pytest.raises(KeyboardInterrupt):
        learn(model(), batches(), settings, tmp_path, evaluate=evaluate)
    assert evaluated == list(range(1, STEPS + 1))


def test_a_metrics_line_cut_short_by_a_kill_is_dropped(tmp_path):
    file = tmp_path / METRICS
    file.write_text(json.dumps({"step": 1, "loss": 2.0}) + '\n{"step": 2, "lo')
    assert read_metrics(file) == [{"step": 1, "loss": 2.0}]


@pytest.mark.no_cover  # tracing costs half as much again, and other tests reach all lines
@pytest.mark.slow
def test_compiled_runs_follow_the_losses_of_one_that_is_not_and_end_with_equal_weights(tmp_path):
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    # few different tokens in many rows: their gradients meet in the same places, summed by several threads
    ids = np.random.default_rng(0).integers(0, 4, size=(64, 65))
    settings = {"seq_len": 64, "batch_tokens": 4096, "micro_batch_tokens": 4096, "precision": "fp32"}
    ends, losses = [], []
    for name, compiled in (("plain", "off"), ("one", "on"), ("other", "on")):
        (tmp_path / name).mkdir()
        trained = Transformer(ModelConfig(64, 32, 64, 1, 2, 1, 16, max_position_embeddings=64))
        trained.init_weights(seed=0)
        rows = RowBatches(ids, np.ones_like(ids, dtype=np.float32), rows=64, seed=0)
        learn(trained, rows, TrainSettings(**settings, compile=compiled), tmp_path / name, steps=12)
        ends.append([p.detach().clone() for p in trained.parameters()])
        losses.append([line["loss"] for line in read_metrics(tmp_path / name / METRICS)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(*ends[1:], strict=True))
