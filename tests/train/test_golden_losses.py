"""Fifty steps whose losses are on record, so that no change moves training unseen.

Where they are meant to move, renew them and say in the commit why: `python tests/train/test_golden_losses.py`
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.data import RowBatches
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.settings import TrainSettings

FILE = Path(__file__).with_name("losses.json")
STEPS = 50
TOLERANCE = 1e-4  # relative; micro-batches of a row, which sum in another order, move none by more than 2e-6
EVERY_SETTING_THAT_DECIDES = {
    "seq_len": 32, "batch_tokens": 512, "matrix_lr": 0.02, "embedding_lr": 0.02, "embedding_momentum": 0.8,
    "momentum_warmup": 0.3, "weight_decay": 0.01, "warmup": 0.1, "decay": 0.5, "clip_norm": 1.0, "skip_spikes": 0.0,
    "stop_after_skipped": 5,
    "precision": "fp32", "seed": 0,
}  # fmt: skip


def train_anew(out: Path, **settings) -> list[float]:
    """On rows of a language of 64 words, each of which has four that may follow it."""
    generator = np.random.default_rng(0)
    followers = generator.integers(0, 64, size=(64, 4))
    ids = np.zeros((256, 33), dtype=np.int64)
    ids[:, 0] = generator.integers(0, 64, size=256)
    for t in range(1, 33):
        ids[:, t] = followers[ids[:, t - 1], generator.integers(0, 4, size=256)]
    weights = generator.random((256, 33)).astype(np.float32)
    model = Transformer(ModelConfig(64, 64, 128, 3, 4, 2, 16, max_position_embeddings=32, tie_word_embeddings=False))
    model.init_weights(seed=0)
    settings = {"compile": "off", "device": "cpu", "micro_batch_tokens": 512} | settings
    settings = TrainSettings(**EVERY_SETTING_THAT_DECIDES, **settings)
    rows = RowBatches(ids, weights, settings.batch_rows, seed=0)
    train(NextToken(model, rows, settings), STEPS, settings, out, label="golden")
    return [line["loss"] for line in read_metrics(out / METRICS)]


def test_the_losses_are_those_on_record(tmp_path):
    assert train_anew(tmp_path) == pytest.approx(json.loads(FILE.read_text()), rel=TOLERANCE)


def test_the_record_is_of_a_model_that_learns_and_covers_all_that_decides():
    losses = json.loads(FILE.read_text())
    assert len(losses) == STEPS
    assert losses[0] == pytest.approx(np.log(64), rel=0.05)
    assert losses[-1] < 0.6 * losses[0]
    assert set(EVERY_SETTING_THAT_DECIDES) == set(TrainSettings.model_fields) - TrainSettings.RUNTIME_ONLY


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(json.dumps([round(loss, 6) for loss in train_anew(Path(folder))], indent=0) + "\n")
