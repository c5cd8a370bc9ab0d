"""What verses are asked for, from a file of prompts: some to rank and train on, others only to measure on."""

from dataclasses import dataclass
from pathlib import Path

from crawl2chat.stages.files import StageError, read_jsonl


@dataclass(frozen=True)
class VersePrompt:
    """A request for a verse, and the noun that the verse should be about."""

    topic: str
    text: str


def verse_prompts(file: Path) -> tuple[list[VersePrompt], list[VersePrompt]]:
    """Prompts to rank and train on, and prompts about other topics to measure on, in the order of the file."""
    if not file.is_file():
        raise StageError(f"{file}: no such file; expected JSON lines of prompt, group and split")
    parts: tuple[list[VersePrompt], list[VersePrompt]] = ([], [])
    for row in read_jsonl(file):
        parts[row["split"] == "held_out"].append(VersePrompt(row["group"], row["prompt"]))
    return parts
