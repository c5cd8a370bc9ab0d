"""`rollouts.jsonl`: what reinforcement learning drew, step by step, to look at.

A logged step is a line with the rewards, advantages and lengths of all its answers, and after it one line per shown
group with its answers token by token. `rollouts.index` has 24 bytes per logged step: its number, where its first line
begins and how long that is, so that any step is read without the rest of the file.

Both files are only ever appended to, the index last. What a kill tore off no entry points to. Steps that a resumed run
does again are appended again, and of several entries of a step the last one counts.
"""

import codecs
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crawl2chat.evals.tasks import Problem
from crawl2chat.generate import Completion
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.rl.tool_use import ToolAnswer
from crawl2chat.stages.stage import ROLLOUTS, ROLLOUTS_INDEX
from crawl2chat.tokenizer import Tokenizer

ENTRY = np.dtype([("step", "<u8"), ("at", "<u8"), ("bytes", "<u8")])
TOKENS_OF_END = 500  # that are kept of an answer's beginning and of its end; what is between them is left out
BEGINNING = 160  # characters of a question in a step's line


@dataclass(frozen=True)
class Rollouts:
    """The answers of one step. groups, rewards and advantages: (P, K); rewards are without a penalty for divergence.

    asked: of each group the step and the place of its prompt, which may be a later step's (dynamic sampling).
    entropies: of each answer's tokens, by the answer's number; only of those that were learned from.
    """

    step: int
    asked: Sequence[tuple[int, int]]
    groups: Sequence[Sequence[Completion]]
    rewards: list[list[float]]
    advantages: list[list[float]]
    entropies: dict[int, list[float]]


class RolloutLog:
    """Appends steps to the log in `folder`; one that can't be written is given up with a word, and training goes on."""

    def __init__(
        self, folder: Path, tokenizer: Tokenizer, settings: ReinforceSettings,
        problems_of: Callable[[int], Sequence[Problem]],
    ) -> None:  # fmt: skip
        self.folder, self.tokenizer, self.problems_of = folder, tokenizer, problems_of
        self.shown, self.updates = settings.logged_groups, settings.updates
        self.rounds = math.ceil(settings.steps / settings.updates)
        self.every = math.ceil(self.rounds / settings.logged_steps) if settings.logged_steps else 0
        self.failed = False

    def wants(self, step: int) -> bool:
        """Whether this step is to be logged, of those in which answers are drawn."""
        now = step // self.updates
        return bool(self.every) and not self.failed and (now % self.every == 0 or now == self.rounds - 1)

    def write(self, rollouts: Rollouts) -> None:
        try:
            head, *groups = self._lines(rollouts)
            with open(self.folder / ROLLOUTS, "ab") as log, open(self.folder / ROLLOUTS_INDEX, "ab") as index:
                at = log.tell()
                log.write(b"".join([head, *groups]))
                log.flush()
                index.truncate(index.tell() // ENTRY.itemsize * ENTRY.itemsize)  # an entry that a kill tore off
                index.write(np.array([(rollouts.step, at, len(head))], ENTRY).tobytes())
        except Exception as error:  # a log must not end what it watches
            self.failed = True
            print(f"{self.folder / ROLLOUTS}: can't be written ({error}); training goes on without it", file=sys.stderr)

    def _lines(self, rollouts: Rollouts) -> list[bytes]:
        problems = [self.problems_of(step)[place] for step, place in rollouts.asked]
        groups = [
            _line({
                "step": rollouts.step,
                "group": n,
                "question": problem.text,
                "expected": problem.expected,
                "answers": [
                    self._answer(answer, rollouts.entropies.get(n * len(group) + k)) for k, answer in enumerate(group)
                ],
            })
            for n, (problem, group) in enumerate(zip(problems, rollouts.groups, strict=True))
            if n < self.shown
        ]  # fmt: skip
        head = {
            "step": rollouts.step,
            "rewards": [_rounded(group) for group in rollouts.rewards],
            "advantages": [_rounded(group) for group in rollouts.advantages],
            "lengths": [[len(answer.ids) for answer in group] for group in rollouts.groups],
            "cut": [[int(answer.finish_reason == "length") for answer in group] for group in rollouts.groups],
            "questions": [problem.text[:BEGINNING] for problem in problems],
            "shown": [len(line) for line in groups],  # bytes of the lines that follow
        }
        return [_line(head), *groups]

    def _answer(self, answer: Completion, entropies: list[float] | None) -> dict[str, Any]:
        """Tokens as pieces of text that together are the whole, with what each was worth to the model, in nats."""
        kept = kept_of(len(answer.ids))
        pieces = pieces_of(self.tokenizer, answer.ids)
        told: dict[str, Any] = {
            "pieces": [pieces[i] for i in kept],
            "logprobs": _rounded([answer.logprobs[i] for i in kept]),
        }
        if entropies is not None:
            told["entropies"] = _rounded([entropies[i] for i in kept])
        if isinstance(answer, ToolAnswer):
            told["calls"] = answer.calls
        return told | {"left_out": len(answer.ids) - len(kept)}


def kept_of(n: int) -> list[int]:
    """The places of n tokens that are logged: all, or of a long answer the beginning and the end."""
    return [*range(min(n, TOKENS_OF_END)), *range(max(n - TOKENS_OF_END, TOKENS_OF_END), n)]


def pieces_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The text that each token adds: a character of several tokens comes with its last one."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(tokenizer.decode_bytes([id])) for id in ids]


def _rounded(values: Sequence[float]) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [round(value, 4) if math.isfinite(value) else None for value in values]


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class RolloutReader:
    """The log in a folder, also while it is written; no step costs more to read than its own lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            content = (folder / ROLLOUTS_INDEX).read_bytes()
        except OSError:
            content = b""
        entries = np.frombuffer(content[: len(content) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)[::-1]
        self.steps, last = np.unique(entries["step"], return_index=True)  # of equal ones the first: the newest
        self._entries = entries[last]

    def head(self, step: int) -> dict[str, Any] | None:
        """A logged step's rewards, advantages, lengths and questions; None where the step is not there."""
        place = np.searchsorted(self.steps, step)
        if place == len(self.steps) or self.steps[place] != step:
            return None
        at, size = int(self._entries[place]["at"]), int(self._entries[place]["bytes"])
        return self._read(at, size, step)

    def group(self, step: int, n: int) -> dict[str, Any] | None:
        """The nth group of a step, token by token; None where it was not logged."""
        head = self.head(step)
        if head is None or not 0 <= n < len(head["shown"]):
            return None
        entry = self._entries[np.searchsorted(self.steps, step)]
        at = int(entry["at"]) + int(entry["bytes"]) + sum(head["shown"][:n])
        return self._read(at, head["shown"][n], step)

    def _read(self, at: int, size: int, step: int) -> dict[str, Any] | None:
        """None for what a failing disk has lost: an entry may have outlived its line."""
        try:
            with open(self.folder / ROLLOUTS, "rb") as log:
                log.seek(at)
                found: dict[str, Any] = json.loads(log.read(size))
        except (OSError, ValueError):
            return None
        return found if found.get("step") == step else None
