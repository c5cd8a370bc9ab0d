"""Questions worth asking a run's models side by side, each with a word on what to look for in the answers.

A source of pages may write `presets.jsonl` with questions that it knows the truth about: the made-up web does, so that
what is well known, seldom met or on no page is really so. They are shown to people; no stage learns from them.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.chat.asking import ask_in_way
from crawl2chat.stages.files import read_jsonl
from crawl2chat.stages.table import TOOL_STAGES

PRESETS = "presets.jsonl"  # in a crawl's folder


@dataclass(frozen=True)
class Column:
    """Who answers: the model of a stage, with tools or without; a base model may also go on with the bare text."""

    stage: str
    tools: bool = False
    text: bool = False


@dataclass(frozen=True)
class Preset:
    """A question, the models to ask side by side, and what to look for in their answers."""

    name: str
    question: str
    look_for: str
    columns: tuple[Column, ...]
    temperature: float = 0.0


def presets(stages: Sequence[str], crawl: Path | None) -> list[Preset]:
    """Return the questions that a run with these stages can be asked; crawl: its crawl, where there is one.

    A crawl without presets, and a model alone, get questions that need no knowledge of the pages.
    A column whose stage is missing is left out, and so is a question that has no column left.
    """
    found = [*(_of_crawl(crawl) or _of_any_web(stages)), *_of_all(stages)]
    return [kept for preset in found if (kept := _with_stages(preset, stages)) is not None]


def _of_crawl(crawl: Path | None) -> list[Preset]:
    """Those that a source has written next to its pages; none where it did not, or not as this version reads them."""
    file = crawl and crawl / PRESETS
    if not file or not file.is_file():
        return []
    try:
        rows = read_jsonl(file)
        return [Preset(**{**row, "columns": tuple(Column(**column) for column in row["columns"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"{file}: can't be read for the chat's presets: {error!r}", file=sys.stderr)
        return []


def _of_any_web(stages: Collection[str]) -> Iterator[Preset]:
    everybody = _last(stages, with_base=True)
    yield Preset(
        "Something well known", "What is the capital of France?",
        "Paris is on very many pages of any large web. A model that has read few pages does not know it.", everybody,
    )  # fmt: skip
    yield Preset(
        "Nobody", "Who is Orson Kovats?",
        "Nobody of this name is known, so any life that is told here is invented (a hallucination).", everybody,
    )  # fmt: skip
    yield from sum_presets(347, 586, _last(stages))
    yield story_preset("Tell me a story about a goat.", _last(stages))


def _of_all(stages: Collection[str]) -> Iterator[Preset]:
    yield Preset(
        "Who are you?", "Who are you?",
        "A model knows about itself only what it was taught. Before the stage honesty teaches it, it answers with "
        "whatever questions like this one were followed by.", _last(stages, ("pretrain", "sft", "honesty")),
    )  # fmt: skip
    yield Preset(
        "A verse", "Write a verse about the moon.",
        "The stage prefer is trained to please a model of people's taste, to the point where it pleases that model "
        "more than people. Do its verses get better, or only more alike?",
        _last(stages, ("sft", "honesty", "prefer")), temperature=0.8,
    )  # fmt: skip
    yield Preset(
        "A base model goes on", "What is 2+2?",
        "A base model does not answer, it goes on with a page. Asked several times it may begin with an answer, but it "
        "does not stop there. Regenerate to see other pages.", (Column("pretrain", text=True),), temperature=0.8,
    )  # fmt: skip
    yield Preset(
        "Letters", "How many r are in strawberry?",
        "There are three. A model reads tokens, not letters: “As the model reads it” under an answer shows "
        "how the word is cut. What a model was never taught it answers with what it was taught for other questions.",
        _last(stages, ("sft", "honesty", "reinforce")),
    )  # fmt: skip


def sum_presets(left: int, right: int, columns: tuple[Column, ...] = ()) -> Iterator[Preset]:
    question, answer = f"What is {left}+{right}?", left + right
    yield Preset(
        "A sum, at once", ask_in_way(question, "at once"),
        f"It is {answer}. Without room to work in, the model has to know the sum when it writes the first digit.",
        columns or (Column("sft"), Column("honesty"), Column("reinforce")),
    )  # fmt: skip
    yield Preset(
        "The sum, step by step", ask_in_way(question, "step by step"),
        f"It is {answer}. Each step needs little work, and what is written down can be read again.",
        columns or (Column("sft"), Column("honesty"), Column("reinforce")),
    )  # fmt: skip
    yield Preset(
        "The sum, with the calculator", question,
        f"It is {answer}. The model writes a call, the server works it out, and the result goes into the context.",
        tuple(Column(stage, tools=True) for stage in TOOL_STAGES),
    )  # fmt: skip


def story_preset(question: str, columns: tuple[Column, ...] = ()) -> Preset:
    return Preset(
        "A story", question,
        "A small model keeps the form of a story and loses its thread. Draw several with Regenerate: each is new.",
        columns or (Column("sft"), Column("honesty")), temperature=0.8,
    )  # fmt: skip


def _last(
    stages: Collection[str], wanted: Sequence[str] = ("sft", "honesty"), *, with_base: bool = False
) -> tuple[Column, ...]:
    """Columns of the wanted stages; of a model from outside, which has none of them, that model's."""
    names = (*(("pretrain",) if with_base else ()), *wanted)
    known = [name for name in names if name in stages]
    return tuple(map(Column, known or list(stages)[:1]))


def _with_stages(preset: Preset, stages: Collection[str]) -> Preset | None:
    columns = tuple(column for column in preset.columns if column.stage in stages)
    return Preset(preset.name, preset.question, preset.look_for, columns, preset.temperature) if columns else None
