"""What a checkpoint costs: the trainer's wait and the writer's work, for a laptop's model and one of 100 M parameters.

    python bench/checkpoint.py [--folder DIR]

The state is a trainer's: weights, Muon's momenta, AdamW's means and squares, all fp32. The wait is the copying; the
rest is done beside the next steps. From the second checkpoint on, as the first one also takes its memory.
The last column is how often a checkpoint comes, so that writing takes 2 % of the time.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from crawl2chat.model import Transformer
from crawl2chat.train.checkpoint import LONGEST_PAUSE, PAUSE, Checkpoints
from crawl2chat.train.loop import training_state
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings

ROUNDS = 5
SHAPES = ((4, 4096), (12, 16384))  # depth, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="on the disk to measure (the one of temporary files)")
    parent = parser.parse_args().folder
    print(f"{'parameters':>12} {'state':>9} {'wait':>9} {'written after':>14} {'read':>9} {'one every':>10}")
    for depth, vocabulary in SHAPES:
        model = Transformer(model_config(PretrainSettings(depth=depth), vocabulary))
        model.init_weights(0)
        state = training_state(model, MuonAdamW(model.named_parameters(), 0.02, 0.02, 0.0))
        waits, writes = [], []
        with tempfile.TemporaryDirectory(dir=parent) as folder, Checkpoints(Path(folder)) as checkpoints:
            for step in range(ROUNDS + 1):
                start = time.monotonic()
                checkpoints.save(step, state, {})
                waits.append(time.monotonic() - start)
                checkpoints.wait()
                writes.append(time.monotonic() - start)
            start = time.monotonic()
            checkpoints.load(state)
            read = time.monotonic() - start
        wait, written = statistics.median(waits[1:]), statistics.median(writes[1:])
        megabytes = sum(tensor.nbytes for tensor in state.values()) / 1e6
        every = min(LONGEST_PAUSE, PAUSE * written)
        print(
            f"{model.n_parameters():12,} {megabytes:6.0f} MB {1000 * wait:6.1f} ms {1000 * written:11.1f} ms "
            f"{1000 * read:6.0f} ms {every:8.1f} s"
        )


if __name__ == "__main__":
    main()
