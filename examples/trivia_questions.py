"""Make a file of questions for the stage honesty from sentences to complete and clues, as CORE has them.

    python examples/trivia_questions.py core-eval/bigbench_qa_wikidata.jsonl.gz core-eval/jeopardy_all.jsonl.gz \
        --probe 400 --held-out 400 --out questions.jsonl

Rows of the files are `{"context": "The capital of France is", "continuation": "Paris"}`, or clues with their category
in front: `{"context": "WORLD HISTORY: This Navy commander flew …", "continuation": "Admiral Richard Byrd"}`. Whether a
row may be probed and taught from, or is only measured, is decided by a hash of its text, so that it never changes. Each
file becomes a group. Rows whose answer is given away by the question are left out.
"""

import argparse
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from crawl2chat.evals.judging import mentions
from crawl2chat.evals.questions import QuestionRow, write_questions

# What is asked for in a sentence to be completed, and the ways to ask for it.
RELATIONS = (
    (r"The (?P<what>[\w ]+?) of (?P<name>.+) is", ("What is the {what} of {name}?", "Tell me the {what} of {name}.",
     "{name}: what is the {what}?", "Do you know the {what} of {name}?")),
    (r"The sport played by (?P<name>.+) is", ("Which sport does {name} play?", "What sport is {name} known for?",
     "Tell me which sport {name} plays.", "{name}: which sport?")),
    (r"(?P<name>.+) is located in", ("Where is {name} located?", "Which country or region is {name} in?",
     "Tell me where {name} is.", "In which part of the world is {name}?")),
    (r"(?P<name>.+) shares a border with", ("Which place shares a border with {name}?", "What borders {name}?",
     "Name a neighbour of {name}.", "Tell me a place that has a border with {name}.")),
    (r"(?P<name>.+) is capital of", ("What is {name} the capital of?", "Which country has the capital {name}?",
     "Tell me what {name} is the capital of.", "{name} is the capital of which country?")),
    (r"(?P<category>[A-Z][^a-z:]+): (?P<clue>.+)", ("A quiz clue about {category}: {clue}. What is meant?",
     "Category {category}. {clue}. What is the answer?", "{clue}. Name what this clue describes ({category}).",
     "Who or what is this? {clue}. (The category is {category}.)")),
)  # fmt: skip


def question_rows(file: Path, n_probe: int, n_held_out: int, n_skipped: int = 0) -> Iterator[QuestionRow]:
    """The first rows of each split in the order of their hashes, which is as good as random.

    n_skipped: rows to be measured with that are left out, as they were looked at before.
    """
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = sorted((json.loads(line) for line in lines), key=lambda row: _hash(row["context"]))
    wanted = {"probe": n_probe, "held_out": n_held_out + n_skipped}
    asked: set[str] = set()
    for row in rows:
        split = ("probe", "held_out")[int(_hash(row["context"])[-1], 16) % 2]
        wordings, answer = _wordings(row["context"]), row["continuation"].strip()
        if not wanted[split] or not wordings or row["context"] in asked or mentions(wordings[0], answer):
            continue
        wanted[split] -= 1
        asked.add(row["context"])
        if split == "held_out" and wanted[split] >= n_held_out:
            continue
        yield QuestionRow(wordings, _accepted(answer), file.name.split(".")[0], split)


def _wordings(context: str) -> tuple[str, ...]:
    for pattern, forms in RELATIONS:
        if found := re.fullmatch(pattern, context.strip()):
            parts = {name: value.rstrip(".") for name, value in found.groupdict().items()}
            if "category" in parts:
                parts["category"] = parts["category"].capitalize()
            return tuple(form.format(**parts) for form in forms)
    return ()


def _accepted(answer: str) -> tuple[str, ...]:
    """The answer, and without an article before it or brackets in it."""
    ways = (answer, re.sub(r"^(?:the|an?) ", "", answer, flags=re.IGNORECASE), re.sub(r"[()]", "", answer))
    return tuple(dict.fromkeys(way.strip() for way in ways if way.strip()))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines, gzipped")
    parser.add_argument("--probe", type=int, default=400, metavar="N", help="questions to probe, of all files (400)")
    parser.add_argument("--held-out", type=int, default=400, metavar="N", help="questions to measure with (400)")
    parser.add_argument(
        "--skip", type=int, default=0, metavar="N", help="questions to measure with, left out first (0)"
    )
    parser.add_argument("--out", type=Path, default=Path("questions.jsonl"), metavar="FILE")
    options = parser.parse_args()
    counts = [count // len(options.files) for count in (options.probe, options.held_out, options.skip)]
    write_questions((row for file in options.files for row in question_rows(file, *counts)), options.out)
    print(f"questions: {options.out}")


if __name__ == "__main__":
    main()
