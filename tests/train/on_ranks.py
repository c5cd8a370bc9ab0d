"""What the ranks of test_distributed run: trainings one after the other, as a JSON list of jobs says.

python on_ranks.py JOBS FOLDER
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.parallel import torchrun
from crawl2chat.stages.files import StageError
from crawl2chat.train.data import RowBatches
from crawl2chat.train.distributed import SINGLE_PROCESS, process_group
from crawl2chat.train.loop import train
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.settings import TrainSettings

SHAPE = {"seq_len": 16, "compile": "off", "precision": "fp32", "checkpoint_every": 1000, "evaluate_every": 4}
STEPS = 8


class Stopped(Exception):
    pass


def batches(rows: int, stop_at: int | None, kill: tuple[int, int] | None, broken_at: int | None):
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 65, size=(40, 17))
    weights = generator.random((40, 17)).astype(np.float32)
    weights[::2, :9] = 0  # as prompts have
    ready = RowBatches(ids, weights, rows=rows, seed=0)

    def at(step):
        if step == stop_at:
            raise Stopped
        if kill == (torchrun.rank(), step):
            os.kill(os.getpid(), signal.SIGKILL)
        batch = ready(step)
        if step == broken_at:
            batch.weights_bt[-1, -1] = torch.nan  # among the last rank's rows
        return batch

    return at


def run(job: dict, folder: Path, together=SINGLE_PROCESS) -> None:
    """Train a small model; every rank leaves its weights' sum, the first one the trained model's weights."""
    settings = SHAPE | {"batch_tokens": 128, "micro_batch_tokens": 128} | job.get("settings", {})
    settings = TrainSettings(**settings)
    model = Transformer(ModelConfig(65, 24, 40, 3, 3, 1, 8, max_position_embeddings=16))  # sizes that don't divide well
    model.init_weights(seed=0)
    out = folder / job["out"]
    out.mkdir(exist_ok=True, parents=True)
    kill = tuple(job["kill"]) if "kill" in job else None
    inputs = torch.arange(16)[None]

    def evaluate(step):
        with torch.no_grad():
            return {"logit": model(inputs)[0, -1, 3].item()}

    try:
        made = batches(settings.batch_rows, job.get("stop_at"), kill, job.get("broken_at"))
        objective = NextToken(model, made, settings)
        train(objective, STEPS, settings, out, label="pretrain", evaluate=evaluate, ranks=together)
    except Stopped:
        return
    if together.first:
        torch.save(model.state_dict(), out / "weights.pt")


def main() -> None:
    folder = Path(sys.argv[2])
    try:
        with process_group("cpu") as together:
            for job in json.loads(sys.argv[1]):
                run(job, folder, together)
    except StageError as error:
        if torchrun.is_first_to_fail():
            print(error, file=sys.stderr)
        torchrun.leave(1)
    torchrun.leave(0)


if __name__ == "__main__":
    main()
