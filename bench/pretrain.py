"""Pretraining speed at the laptop shape: ours against a plain transformers loop, in one run.

    python bench/pretrain.py [--steps 12]

Ours is the training loop that `crawl2chat run` uses (Muon and AdamW, compiled, bf16 where the hardware has it).
The peer is transformers' Qwen3ForCausalLM of the same shape with torch's AdamW, eager, in fp32 as it comes and in
bf16 autocast. Rounds alternate, so that a busy machine slows all of them; the figures are medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from crawl2chat.model import Transformer
from crawl2chat.run import METRICS
from crawl2chat.train.data import Batch
from crawl2chat.train.devices import uses_bf16
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings

VOCAB = 4096
SETTINGS = PretrainSettings(depth=4, seq_len=256, compile="on", device="cpu", checkpoint_every=10**6)
ROUNDS = 3


def random_batch(step: int) -> Batch:
    ids = torch.randint(
        VOCAB, (SETTINGS.batch_rows, SETTINGS.seq_len + 1), generator=torch.Generator().manual_seed(step)
    )
    return Batch(ids[:, :-1], ids[:, 1:], torch.ones(SETTINGS.batch_rows, SETTINGS.seq_len))


def ours(steps: int) -> list[float]:
    """Tokens/s of each step but the first, which compiles."""
    model = Transformer(model_config(SETTINGS, VOCAB))
    model.init_weights(0)
    with tempfile.TemporaryDirectory() as folder:
        train(model, random_batch, steps + 1, SETTINGS, Path(folder), label="ours")
        lines = read_metrics(Path(folder) / METRICS)
    return [line["tokens_per_second"] for line in lines[1:]]


def transformers_loop(bf16: bool) -> Callable[[int], list[float]]:
    def run(steps: int) -> list[float]:
        from transformers import Qwen3Config, Qwen3ForCausalLM

        model = Qwen3ForCausalLM(Qwen3Config(**model_config(SETTINGS, VOCAB).to_json()))
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        speeds = []
        for step in range(steps + 1):
            batch = random_batch(step)
            start = time.monotonic()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(batch.inputs_bt, use_cache=False).logits
            torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch.targets_bt.flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            speeds.append(SETTINGS.batch_tokens / (time.monotonic() - start))
        return speeds[1:]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="timed steps a round")
    steps = parser.parse_args().steps
    sides = {
        "crawl2chat": ours,
        "transformers fp32": transformers_loop(False),
        "transformers bf16": transformers_loop(True),
    }
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            speeds[name] += run(steps)
    shape = model_config(SETTINGS, VOCAB)
    print(f"{shape.hidden_size} wide, {shape.num_hidden_layers} layers, {SETTINGS.seq_len} tokens, "
          f"batch {SETTINGS.batch_tokens}, {torch.get_num_threads()} threads, ours in "
          f"{'bf16' if uses_bf16(SETTINGS, 'cpu') else 'fp32'}")  # fmt: skip
    median = {name: statistics.median(values) for name, values in speeds.items()}
    for name, value in median.items():
        print(f"{name:20} {value:9,.0f} tokens/s   ours / this: {median['crawl2chat'] / value:.2f}")


if __name__ == "__main__":
    main()
