"""`metrics.jsonl`: what is watched while a model trains, a line a step."""

import contextlib
import json
import statistics
from pathlib import Path
from typing import Any

from crawl2chat.figures import Figure
from crawl2chat.run import replacing


class Metrics:
    """`metrics.jsonl`: a line a step (and an evaluation), appended as they come."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.latest: dict[str, Any] = {}

    def write(self, **values: Any) -> None:
        self.latest |= values
        with open(self.file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(values) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that a resumed run will do again, and a line that a kill cut short."""
        lines = read_metrics(self.file)
        with replacing(self.file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(line) + "\n" for line in lines if line["step"] <= step)

    def summary(self) -> str:
        """The latest of what a reader follows: the loss or the reward, how it is judged, the speed."""
        shown = self.latest
        formats = {
            "loss": "loss {:.3f}",
            "reward": "reward {:.3f}",
            "answer_tokens": "{:.0f} tok/answer",
            "entropy": "entropy {:.3f}",
            "bits_per_byte": "bpb {:.3f}",
        }
        parts = [text.format(shown[name]) for name, text in formats.items() if name in shown]
        return "  ".join([*parts, f"{shown['tokens_per_second'] / 1000:.1f}k tok/s"])


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; none if there is no such file."""
    if not file.exists():
        return []
    lines = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):  # the line that a kill cut short
            lines.append(json.loads(line))
    return lines


def typical_speed(file: Path) -> list[Figure]:
    """Median tokens/s over the steps of a `metrics.jsonl`; nothing when the file has been lost."""
    speeds = [line["tokens_per_second"] for line in read_metrics(file) if "tokens_per_second" in line]
    return [Figure("tokens_per_second", statistics.median(speeds), "tokens/s", count=len(speeds))] if speeds else []
