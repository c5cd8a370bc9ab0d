"""Where an answer's words come from, looked up by a process of its own: reading all documents takes its time.

`python -m crawl2chat.chat.trace` reads a `Wanted` as JSON from stdin and writes lines of JSON: how far it is, and in
the end what it found, or what is wrong. A server that runs it goes on answering meanwhile, and can end it at any time.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypedDict

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.match.matches import covered_words, cut_by_matches
from crawl2chat.match.sources import documents_of, find_sources
from crawl2chat.refine.documents import Document
from crawl2chat.stages.files import StageError

REPORT_SECONDS = 0.2
TAUGHT_BY = ("sft", "honesty")  # stages whose conversations hold answers to learn; later ones repeat these


class Wanted(TypedDict):
    """What to look for, and where: `place` is a run or documents, `conversations` are files it was tuned on."""

    text: str
    min_words: int
    place: str
    conversations: list[str]


def conversation_files(run: Path, stage: str | None) -> list[Path]:
    """The conversations of a run that the model of this stage has learned from; none of a base model."""
    if stage is None or stage == "pretrain":
        return []
    stages = TAUGHT_BY[: TAUGHT_BY.index(stage) + 1] if stage in TAUGHT_BY else TAUGHT_BY
    files = [run / name / "conversations.jsonl" for name in stages]
    return [file for file in files if file.is_file()]


def answers_in(files: Iterable[Path]) -> Iterator[Document]:
    """Each answer that is to be learned, as a document that is named after its place."""
    for file in files:
        for n, messages in enumerate(read_conversations(file), 1):
            for m, message in enumerate(messages, 1):
                if message["role"] == "assistant" and message["content"] and message.get("weight") != 0:
                    yield Document(f"{file.parent.name}/{file.name}, line {n}, message {m}", message["content"])


def trace(wanted: Wanted, report: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return the text in pieces with numbered matches, from the documents and from the conversations.

    `report` is given {"read": documents read so far, "of": "documents" or "conversations"} now and then.
    """
    return {
        "documents": _looked_up(wanted, lambda: documents_of(wanted["place"]), "documents", report),
        "conversations": _looked_up(
            wanted, lambda: answers_in(map(Path, wanted["conversations"])), "conversations", report
        ) if wanted["conversations"] else None,
    }  # fmt: skip


def _looked_up(
    wanted: Wanted, documents: Callable[[], Iterable[Document]], of: str, report: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    text, most = wanted["text"], 0

    def counted() -> Iterator[Document]:
        nonlocal most
        reported = time.monotonic()
        for n, document in enumerate(documents(), 1):
            yield document
            most = max(most, n)
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                report({"read": n, "of": of})

    sources = find_sources(text, counted, wanted["min_words"])
    matches = [source.match for source in sources]
    numbers: dict[int, int] = {}  # of the matches that are shown, in the order of their places
    pieces: list[list[Any]] = []
    for piece, match in cut_by_matches(text, matches):
        number = None if match is None else numbers.setdefault(matches.index(match), len(numbers) + 1)
        if piece:
            pieces.append([piece, number])
    covered, words = covered_words(text, matches)
    return {
        "read": most,
        "covered": covered,
        "words": words,
        "pieces": pieces,
        "matches": [
            {
                "number": number, "words": sources[i].match.words, "copies": sources[i].match.copies,
                "document": sources[i].match.document, "url": sources[i].match.url,
                "beginning": sources[i].beginning, "before": sources[i].before, "quoted": sources[i].quoted,
                "after": sources[i].after,
            }
            for i, number in numbers.items()
        ],
    }  # fmt: skip


def main() -> int:
    """Do what stdin asks for."""

    def report(event: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()

    try:
        report({"found": trace(json.load(sys.stdin), report)})
    except StageError as error:
        report({"error": {"message": str(error)}})
    return 0


if __name__ == "__main__":
    os.nice(10)  # answers that are being written come first
    sys.exit(main())
