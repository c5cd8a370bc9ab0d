import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.data import Batch, RowBatches
from crawl2chat.train.guard import NOTHING_COUNTS, WINDOW, Guard
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.settings import TrainSettings

SHAPE = {"seq_len": 16, "batch_tokens": 128, "compile": "off", "precision": "fp32"}
NAN, INF = math.nan, math.inf


def model() -> Transformer:
    transformer = Transformer(ModelConfig(64, 32, 64, 2, 2, 1, 16, max_position_embeddings=16))
    transformer.init_weights(seed=0)
    return transformer


def rows() -> RowBatches:
    ids = np.random.default_rng(0).integers(0, 64, size=(40, 17))
    return RowBatches(ids, np.ones((40, 17), dtype=np.float32), rows=8, seed=0)


def broken_at(*steps):
    def batches(step):
        batch = rows()(step)
        if step not in steps:
            return batch
        weights_bt = batch.weights_bt.clone()
        weights_bt[-1, -1] = NAN
        return Batch(batch.inputs_bt, batch.targets_bt, weights_bt)

    return batches


def run(out, batches, steps=8, trained=None, **settings):
    out.mkdir(exist_ok=True)
    trained = trained or model()
    settings = TrainSettings(**(SHAPE | settings))
    train(NextToken(trained, batches, settings), steps, settings, out, label="pretrain")
    return trained, read_metrics(out / METRICS)


def same(one: Transformer, other: Transformer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_step_whose_loss_is_no_number_moves_nothing_and_is_recorded(tmp_path, capfd):
    before, _ = run(tmp_path / "before", rows(), steps=1, warmup=0, decay=0)
    skipping, lines = run(tmp_path / "skipping", broken_at(1), steps=2, warmup=0, decay=0)
    assert same(before, skipping)
    assert "skipped" not in lines[0]
    assert lines[1]["skipped"] == "the loss is nan"
    assert "loss" not in lines[1]
    assert "step 2 is skipped: the loss is nan" in capfd.readouterr().err


def test_the_momenta_of_a_skipped_step_stay_as_they_were(tmp_path):
    steady = {"warmup": 0, "decay": 0}
    run(tmp_path / "before", rows(), steps=2, **steady)
    run(tmp_path / "skipping", broken_at(2), steps=3, **steady)
    before, after = (
        load_file(sorted((tmp_path / name / "checkpoints").glob("step-*/*.safetensors"))[-1])
        for name in ("before", "skipping")
    )
    assert any(name.startswith("momentum.") for name in before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_metrics_stay_json_that_others_read(tmp_path):
    run(tmp_path, broken_at(1, 2), steps=4)

    def refuse(constant):
        raise AssertionError(constant)

    for line in (tmp_path / METRICS).read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_several_steps_in_a_row_that_are_no_numbers_end_training_and_say_what_to_lower(tmp_path):
    with pytest.raises(StageError, match=r"the loss is nan at step 5, as in 3 .* lower pretrain\.matrix_lr and pretr"):
        run(tmp_path, broken_at(0, 2, 3, 4), stop_after_skipped=3)


def test_weights_that_are_no_numbers_end_training(tmp_path):
    broken = model()
    with torch.no_grad():
        broken.model.embed_tokens.weight[0, 0] = NAN
    with pytest.raises(StageError, match=r"pretrain: the loss is nan at step 5"):
        run(tmp_path, rows(), trained=broken)


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [3, 4, 5, 6])
def test_a_run_killed_around_skipped_steps_ends_with_the_same_weights_and_lines(tmp_path, killed_at):
    settings = {"checkpoint_every": 1, "stop_after_skipped": 4}
    whole, lines = run(tmp_path / "whole", broken_at(3, 4, 5), **settings)

    def killed(step):
        if step == killed_at:
            raise Killed
        return broken_at(3, 4, 5)(step)

    with pytest.raises(Killed):
        run(tmp_path / "killed", killed, **settings)
    resumed, resumed_lines = run(tmp_path / "killed", broken_at(3, 4, 5), **settings)
    assert same(whole, resumed)
    watched = ("step", "loss", "grad_norm", "skipped", "tokens", "lr_scale")
    assert [[line.get(name) for name in watched] for line in resumed_lines] == [
        [line.get(name) for name in watched] for line in lines
    ]


def test_steps_in_a_row_are_counted_across_a_kill(tmp_path):
    settings = {"checkpoint_every": 1, "stop_after_skipped": 3}

    def killed(step):
        if step == 4:
            raise Killed
        return broken_at(2, 3)(step)

    with pytest.raises(Killed):
        run(tmp_path, killed, **settings)
    with pytest.raises(StageError, match="step 5, as in 3"):
        run(tmp_path, broken_at(2, 3, 4), **settings)


def test_a_run_resumed_without_its_metrics_says_that_spikes_are_judged_anew(tmp_path, capfd):
    def killed(step):
        if step == 4:
            raise Killed
        return rows()(step)

    with pytest.raises(Killed):
        run(tmp_path, killed, checkpoint_every=2)
    assert "judged afresh" not in capfd.readouterr().err
    (tmp_path / METRICS).unlink()
    run(tmp_path, rows(), checkpoint_every=2)
    assert "lacks step 4, of the checkpoint; spikes are judged afresh" in capfd.readouterr().err


def guard_for(**settings) -> Guard:
    return Guard("pretrain", TrainSettings(**settings))


def calm(n: int, seed: int = 0) -> list[tuple[float, float]]:
    generator = np.random.default_rng(seed)
    return [(3 + 0.05 * a, 0.5 + 0.02 * b) for a, b in generator.normal(size=(n, 2))]


def test_a_spike_of_loss_or_of_gradients_is_skipped_and_the_next_step_is_not():
    for loss, norm, reason in ((4.0, 0.5, "the loss of 4 is a spike"), (3.0, 2.0, "the gradient norm of 2 is a spike")):
        guard = guard_for(skip_spikes=6)
        assert not any(guard.judge(i, loss=x, grad_norm=y) for i, (x, y) in enumerate(calm(WINDOW)))
        assert guard.judge(WINDOW, loss=loss, grad_norm=norm).startswith(reason)
        assert guard.judge(WINDOW + 1, loss=3.0, grad_norm=0.5) is None


def test_nothing_is_a_spike_before_half_a_window_has_been_seen_or_when_turned_off():
    early, off = guard_for(skip_spikes=6), guard_for(skip_spikes=0)
    for i, (loss, norm) in enumerate(calm(WINDOW // 2 - 1)):
        assert early.judge(i, loss=loss, grad_norm=norm) is off.judge(i, loss=loss, grad_norm=norm) is None
    assert early.judge(WINDOW, loss=50.0, grad_norm=50.0) is off.judge(WINDOW, loss=50.0, grad_norm=50.0) is None


def test_a_level_that_stays_risen_is_accepted_and_never_ends_training():
    guard = guard_for(skip_spikes=6, stop_after_skipped=1)
    for i, (loss, norm) in enumerate(calm(WINDOW)):
        guard.judge(i, loss=loss, grad_norm=norm)
    judged = [guard.judge(WINDOW + i, loss=loss + 2, grad_norm=norm) for i, (loss, norm) in enumerate(calm(20, seed=1))]
    assert judged[0]
    assert 1 <= sum(reason is not None for reason in judged) <= 5
    assert judged[5:] == [None] * 15


def test_a_guard_told_the_lines_of_a_run_judges_as_the_one_that_saw_it():
    seen = calm(90)
    seen[70] = (NAN, INF)
    seen[71] = (9.0, 0.5)
    seen[80] = (3.0, INF)
    one = guard_for(skip_spikes=6, stop_after_skipped=2)
    lines = []
    for i, (loss, norm) in enumerate(seen):
        reason = one.judge(i, loss=loss, grad_norm=norm)
        finite = {k: v for k, v in (("loss", loss), ("grad_norm", norm)) if math.isfinite(v)}
        lines += [{"step": i, **finite, **({"skipped": reason} if reason else {})}, {"step": i, "bits_per_byte": 1.0}]
    assert "skipped" in lines[2 * 71]
    other = guard_for(skip_spikes=6, stop_after_skipped=2)
    other.replay_metrics(json.loads(json.dumps(lines)))
    assert (other.last, other.not_numbers) == (one.last, one.not_numbers)


def test_a_spike_where_there_is_no_loss_as_in_learning_from_rewards_is_not_replayed_as_nan():
    one, other = (guard_for(skip_spikes=6, stop_after_skipped=2) for _ in range(2))
    lines = []
    for i, norm in enumerate([norm for _, norm in calm(WINDOW)] + [2.0]):
        reason = one.judge(i, grad_norm=norm)
        lines.append({"step": i, "grad_norm": norm, **({"skipped": reason} if reason else {})})
    assert "skipped" in lines[-1]
    other.replay_metrics(lines)
    assert (other.last, other.not_numbers) == (one.last, one.not_numbers)
    assert other.judge(WINDOW + 1, grad_norm=NAN) == "the gradient norm is nan"


def test_a_spike_in_training_leaves_the_weights_and_a_kill_after_it_changes_nothing(tmp_path):
    n = WINDOW // 2 + 6

    def spiked(step):
        batch = rows()(step)
        if step != n - 3:
            return batch
        return Batch(batch.inputs_bt, batch.inputs_bt.flip(1), batch.weights_bt)  # learned rows, other targets

    def killed(step):
        if step == n - 1:
            raise Killed
        return spiked(step)

    slow = {"matrix_lr": 0.001, "embedding_lr": 1e-4, "checkpoint_every": n - 2, "warmup": 0, "decay": 0}
    trained, lines = run(tmp_path / "whole", spiked, steps=n, skip_spikes=1.5, **slow)
    skipped = [line["step"] for line in lines if "skipped" in line]
    assert skipped, [line["loss"] for line in lines]
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed, steps=n, skip_spikes=1.5, **slow)
    resumed, again = run(tmp_path / "killed", spiked, steps=n, skip_spikes=1.5, **slow)
    assert same(trained, resumed)
    assert [line["step"] for line in again if "skipped" in line] == skipped


def test_a_batch_of_which_no_token_counts_moves_nothing_and_is_not_the_rates_fault(tmp_path):
    def silent_at(*silent):
        def batch(step):
            whole = rows()(step)
            return replace(whole, weights_bt=torch.zeros_like(whole.weights_bt)) if step in silent else whole

        return batch

    settings = {"stop_after_skipped": 2, "warmup": 0, "decay": 0}
    trained, lines = run(tmp_path / "silent", silent_at(2, 3, 4), steps=5, **settings)
    assert [line.get("skipped") for line in lines] == [None, None, *[NOTHING_COUNTS] * 3]
    before, _ = run(tmp_path / "before", rows(), steps=2, **settings)
    assert same(trained, before)
