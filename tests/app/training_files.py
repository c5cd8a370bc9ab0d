"""Files of trainings as stages leave them, made up: metrics, samples by evaluation, rollouts."""

import json
import struct
from pathlib import Path

import numpy as np
import torch

from crawl2chat.evals.tasks import Problem
from crawl2chat.generate import Completion
from crawl2chat.rl.rollout_log import RolloutLog, Rollouts
from crawl2chat.rl.settings import ReinforceSettings

STEPS, EVALUATED = 60, 20
BEGINNINGS = ("The capital of", "<b>Once</b> upon")


def loss(step: int, seed: int) -> float:
    return 3 + seed - step / 100 + (step * 7919 + seed * 104729) % 13 / 20


def write_pretraining(folder: Path, seed: int = 0, first: int = 1, last: int = STEPS) -> None:
    """Append steps, of which the 30th is skipped, with an evaluation and samples every 20."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metrics.jsonl", "a") as metrics, open(folder / "samples-during.jsonl", "a") as samples:
        for step in range(first, last + 1):
            line = {"step": step, "loss": loss(step, seed), "tokens": 1000 * step, "grad_norm": 0.5, "seconds": 0.25,
                    "gflops_per_second": 8.0}  # fmt: skip
            if step == 30:
                line["skipped"] = "the loss of 9 is a spike, above 5"
            metrics.write(json.dumps(line) + "\n")
            if step % EVALUATED == 0:
                metrics.write(json.dumps({"step": step, "bits_per_byte": 2 - step / 100}) + "\n")
                for prompt in BEGINNINGS:
                    samples.write(json.dumps({"step": step, "prompt": prompt, "continuation": f" after {step}"}) + "\n")


def write_reinforcement(folder: Path, steps: int = 8, shift: float = 0.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metrics.jsonl", "w") as metrics:
        for step in range(1, steps + 1):
            line = {"step": step, "reward": step / 10 + shift, "answer_tokens": 10 + step, "seconds": 1.0}
            metrics.write(json.dumps(line) + "\n")


PROBLEMS = [Problem(f"What is {n}+{n}?", (str(2 * n),), "sum") for n in range(6)]


def write_rollouts(folder: Path, tokenizer, steps: int = 8, coin: bool = False, first: int = 1) -> RolloutLog:
    """Six groups of four answers per step, of which four groups are shown; in the last group all are rewarded alike."""
    folder.mkdir(parents=True, exist_ok=True)
    log = RolloutLog(folder, tokenizer, ReinforceSettings(steps=steps), lambda step: PROBLEMS)
    for step in range(first, steps + 1):
        groups = []
        for n in range(len(PROBLEMS)):
            texts = [f"<i>step {step}</i>: {n}+{n} is {2 * n + (k > 1)}" for k in range(4)]
            ids = [[*tokenizer.encode(text), tokenizer.end_of_turn] for text in texts]
            groups.append([
                Completion(one, [-0.01 * (i + step) for i in range(len(one))], text, "stop" if k else "length")
                for k, (one, text) in enumerate(zip(ids, texts, strict=True))
            ])  # fmt: skip
        rewards_pk = torch.tensor([[1.0, 1, 0, 0]] * 5 + [[1.0] * 4])
        if coin:
            rewards_pk = torch.from_numpy(np.random.default_rng(step).integers(0, 2, (6, 4))).float()
        advantages = (rewards_pk - rewards_pk.mean(dim=1, keepdim=True)).tolist()
        flat = [answer for group in groups for answer in group]
        entropies = {n: [0.15 * (i % 20) for i in range(len(answer.ids))] for n, answer in enumerate(flat) if n % 4}
        asked = [(step - 1, n) for n in range(len(PROBLEMS))]
        log.write(Rollouts(step, asked, groups, rewards_pk.tolist(), advantages, entropies))
    return log


def decode(body: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """A body of `tensors`: its header, and its arrays by name."""
    (length,) = struct.unpack("<I", body[:4])
    header = json.loads(body[4 : 4 + length])
    return header, {
        told["name"]: np.frombuffer(
            body, told["dtype"], int(np.prod(told["shape"])), 4 + length + told["offset"]
        ).reshape(told["shape"])
        for told in header["arrays"]
    }
