"""Pretraining against transformers: bits per byte and tokens/s for the same time, text, tokenizer and model size.

    python bench/pretrain.py [--text FILE] [--minutes 1.25] [--depth 4]

The text is FILE (plain or .gz; cut at empty lines into documents of 5,000 characters or more), by default
data/prose/prose.txt.gz below $CRAWL2CHAT_SHARED; without either the pages of a fictional web.

Ours is the training loop and the settings that `crawl2chat run` has. The peer is transformers' Qwen3ForCausalLM of the
same shape with torch's AdamW (betas 0.9 and 0.95, decay 0.1 of matrices), 5 % warm-up and a cosine to zero, the norm
clipped to 1. It gets `--minutes` for each of several peak rates in bf16 autocast, and the best one counts; with that
rate also as it comes (fp32), and compiled. Ours gets 0.4 of the time that the peer's best took, and all of it.

Each training is a process of its own. Its time begins with the model, so compilation is in it, and ends with the last
step; the bits per byte of documents that nobody trained on are measured after it.
"""

import argparse
import gzip
import itertools
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import cross_entropy

from crawl2chat.evals.bits_per_byte import bits_per_byte
from crawl2chat.model import Transformer
from crawl2chat.model.families import config_to_json
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer.shards import TokenizedDocuments, write_tokens
from crawl2chat.tokenizer.stage import train_bpe
from crawl2chat.train.data import DocumentBatches
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings

VOCAB = 4096
DOCUMENT = 5000  # characters
HELD_OUT = 50  # one document in so many
EVALUATED = 100_000  # tokens
PEAK_RATES = (1e-3, 2e-3, 4e-3, 8e-3)
SHARE = 0.4  # of the peer's time
ROUNDS, STEPS_A_ROUND = 3, 12


@dataclass(frozen=True)
class Job:
    """One training: whose, for how many steps, and how."""

    side: Literal["ours", "peer"]
    steps: int
    tokens: Path  # folder with training and held_out
    cache: Path  # of compiled code
    depth: int
    rate: float = 0.0  # the peer's peak
    bf16: bool = True  # the peer's
    compiled: bool = True  # the peer's
    evaluate: bool = True

    def settings(self) -> PretrainSettings:
        return PretrainSettings(depth=self.depth, compile="on", device="cpu", checkpoint_every=10**6)


@dataclass(frozen=True)
class Result:
    seconds: float  # from the model's making to the last step's end
    speeds: list[float]  # tokens/s of each step but the first
    setup: float  # seconds of the first step and what comes before it
    bits_per_byte: float  # nan if not asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="plain or .gz")
    parser.add_argument("--minutes", type=float, default=1.25, help="of each of the peer's trainings")
    parser.add_argument("--depth", type=int, default=4, help="layers of the model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options.text, options.minutes * 60, options.depth)


def compare(folder: Path, text: Path | None, seconds: float, depth: int) -> None:
    name = prepare(text, folder / "tokens")
    ours = Job("ours", STEPS_A_ROUND + 1, folder / "tokens", folder / "cache", depth, evaluate=False)
    compiled_peer = replace(ours, side="peer", rate=1e-3)
    peer = replace(compiled_peer, compiled=False)
    plain_peer = replace(peer, bf16=False)
    shape = model_config(ours.settings(), VOCAB)
    print(f"{name}; {Transformer(shape).n_parameters():,} parameters: {shape.hidden_size} wide, "
          f"{shape.num_hidden_layers} layers, {ours.settings().seq_len} tokens, batch {ours.settings().batch_tokens}; "
          f"{torch.get_num_threads()} threads", flush=True)  # fmt: skip

    sides = {"ours": ours, "peer bf16": peer, "peer fp32": plain_peer, "peer bf16 compiled": compiled_peer}
    cold = {side: run(job).setup for side, job in sides.items() if job.compiled}
    rounds = [{side: run(job) for side, job in sides.items()} for _ in range(ROUNDS)]
    speed = {side: statistics.median(itertools.chain(*(r[side].speeds for r in rounds))) for side in sides}
    setup = {side: statistics.median(r[side].setup for r in rounds) for side in sides}
    print(f"\n{'':20} tokens/s   ours / this   first step, cold and warm cache")
    for side, value in speed.items():
        first = f"{cold[side]:.0f} s, {setup[side]:.0f} s" if side in cold else f"{setup[side]:.0f} s"
        print(f"{side:20} {value:8,.0f} {speed['ours'] / value:13.2f}   {first}", flush=True)

    def full(side: str, rate: float, budget: float) -> Result:
        steps = max(2, round((budget - setup[side]) * speed[side] / ours.settings().batch_tokens))
        result = run(replace(sides[side], steps=steps, rate=rate, evaluate=True))
        label = f"{side} {rate:g}" if rate else side
        print(f"{label:25} {result.seconds:7.1f} s {steps:6} steps {result.bits_per_byte:15.4f}", flush=True)
        return result

    print(f"\n{'peak rate':25} {'time':>9} {'':12} {'bits per byte':>15}")
    tuned = {rate: full("peer bf16", rate, seconds) for rate in PEAK_RATES}
    rate, best = min(tuned.items(), key=lambda item: item[1].bits_per_byte)
    full("peer fp32", rate, best.seconds)
    full("peer bf16 compiled", rate, best.seconds)
    short = full("ours", 0.0, SHARE * best.seconds)
    full("ours", 0.0, best.seconds)
    print(f"\nin {short.seconds / best.seconds:.2f} of the time of the peer's best, ours has "
          f"{short.bits_per_byte / best.bits_per_byte:.3f} of its bits per byte")  # fmt: skip


def prepare(text: Path | None, folder: Path) -> str:
    """Write training and held-out documents as tokens of a tokenizer made from the former; returns the text's name."""
    documents = list(read(text)) if text or "CRAWL2CHAT_SHARED" in os.environ else list(fictional())
    parts = {
        "training": [d for i, d in enumerate(documents) if i % HELD_OUT],
        "held_out": documents[::HELD_OUT],
    }
    tokenizer = train_bpe(parts["training"], VOCAB)
    folder.mkdir()
    for name, part in parts.items():
        write_tokens(part, tokenizer, folder / name)
    return f"{sum(map(len, documents)) / 1e6:.1f} M characters in {len(documents):,} documents"


def read(text: Path | None) -> Iterator[str]:
    file = text or Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "prose" / "prose.txt.gz"
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8", errors="replace") as lines:
        document = ""
        for line in lines:
            document += line
            if not line.strip() and len(document) >= DOCUMENT:
                yield document
                document = ""
    if document:
        yield document


def fictional() -> Iterator[str]:
    from crawl2chat.tinyweb import TinywebSettings, write_tinyweb
    from crawl2chat.tinyweb.ledger import Ledger

    with tempfile.TemporaryDirectory() as folder:
        write_tinyweb(Path(folder), 1, TinywebSettings())
        yield from (page.text for page in Ledger.load(Path(folder)).pages if page.outcome == "keep")


def run(job: Job) -> Result:
    """The job in a process of its own, so that nothing compiled or allocated is left of others."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, job).result()


def work(job: Job) -> Result:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.cache / job.side)
    training, held_out = (TokenizedDocuments.load(job.tokens / name) for name in ("training", "held_out"))
    settings = job.settings()
    batches = DocumentBatches(
        training, settings.seq_len, settings.batch_rows, settings.seed, packing=settings.packing, attend=settings.attend
    )
    start = time.monotonic()
    model, speeds = (train_ours if job.side == "ours" else train_peer)(job, batches)
    seconds = time.monotonic() - start
    value = bits_per_byte(model, held_out.first(EVALUATED)).value if job.evaluate else math.nan
    return Result(seconds, speeds, seconds - sum(settings.batch_tokens / speed for speed in speeds), value)


def train_ours(job: Job, batches: DocumentBatches) -> tuple[Transformer, list[float]]:
    """The model, and tokens/s of each step but the first."""
    settings = job.settings()
    model = Transformer(model_config(settings, VOCAB))
    model.init_weights(settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        train(NextToken(model, batches, settings), job.steps, settings, Path(folder), label="ours")
        return model, [line["tokens_per_second"] for line in read_metrics(Path(folder) / METRICS)][1:]


def train_peer(job: Job, batches: DocumentBatches) -> tuple[Transformer, list[float]]:
    from transformers import Qwen3Config, Qwen3ForCausalLM, get_cosine_schedule_with_warmup

    torch.manual_seed(0)
    config = model_config(job.settings(), VOCAB)
    model = Qwen3ForCausalLM(Qwen3Config(**config_to_json(config)))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=job.rate, betas=(0.9, 0.95),
    )  # fmt: skip
    schedule = get_cosine_schedule_with_warmup(optimiser, math.ceil(0.05 * job.steps), job.steps)
    forward = torch.compile(model, dynamic=False) if job.compiled else model
    speeds = []
    for step in range(job.steps):
        start = time.monotonic()
        batch = batches(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=job.bf16):
            logits = forward(batch.inputs_bt, use_cache=False).logits
        losses = cross_entropy(logits.float().flatten(0, 1), batch.targets_bt.flatten(), reduction="none")
        ((losses * batch.weights_bt.flatten()).sum() / batch.weights_bt.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        speeds.append(batch.inputs_bt.numel() / (time.monotonic() - start))
    ours = Transformer(config)
    ours.load_state_dict(model.state_dict())
    return ours.eval(), speeds[1:]


if __name__ == "__main__":
    main()
