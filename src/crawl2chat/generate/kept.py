"""Answers kept in a file, so that a run that was killed does not ask again for what it had."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from crawl2chat.generate.request import Completion, Request
from crawl2chat.stages.files import StageError
from crawl2chat.stages.json_rows import JsonRows

COMPLETION = ("ids", "logprobs", "text", "finish_reason", "model_logprobs")  # fields that a file keeps


class KeptAnswers:
    """A file of JSON lines, `{"asked": key, "answer": …}`. Raises StageError for a line that is something else."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, Any] = {row["asked"]: row["answer"] for row in _whole_rows(file)}

    def add(self, answers: Mapping[str, Any]) -> None:
        self.known.update(answers)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a", encoding="utf-8") as lines:
            for key, answer in answers.items():
                lines.write(json.dumps({"asked": key, "answer": answer}, ensure_ascii=False) + "\n")


class KeptCompletions:
    """What an engine wrote, kept in a file. of: the model, such as a hash of its weights.

    A completion depends on nothing but the model, the prompt, the controls and the seed, so these are its key. What is
    drawn under a rule, or with candidates reported, is not kept.
    """

    def __init__(self, file: Path, of: str) -> None:
        self.answers, self.of = KeptAnswers(file), of

    def recall(self, request: Request) -> bool:
        """Complete a request as it was completed before, if it was."""
        row = self.answers.known.get(self._key(request)) if _can_keep(request) else None
        if row is None:
            return False
        request.completion = Completion(**dict(zip(COMPLETION, row, strict=True)))
        return True

    def keep(self, requests: list[Request]) -> None:
        """Write down requests that have ended."""
        self.answers.add(
            {
                self._key(request): [getattr(request.completion, name) for name in COMPLETION]
                for request in requests
                if _can_keep(request)
            }
        )

    def _key(self, request: Request) -> str:
        sampling = dataclasses.asdict(request.sampling)
        asked = [self.of, request.prompt, sampling, request.limit, request.seed]
        return xxhash.xxh3_128_hexdigest(json.dumps(asked).encode())


def _can_keep(request: Request) -> bool:
    return request.rule is None and not request.wants_prompt_logprobs and not request.sampling.top_logprobs


def _whole_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of answers; half a line at its end, which a killed run left, is cut off."""
    if not file.exists():
        return
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(file, "r+b") as handle:
            handle.truncate(whole)
    if whole:
        for number, row in JsonRows(file, lambda value: isinstance(value, dict)):
            if not (isinstance(row, dict) and row.keys() == {"asked", "answer"}):
                raise StageError(f"{file}: line {number} is not an answer that was asked for; move the file away")
            yield row
