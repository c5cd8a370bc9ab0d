"""CORE: 22 tasks for base models, answered from a few examples (DCLM, arXiv 2406.11794, section 3.5).

The score is the mean over tasks of the centred accuracy, (accuracy − baseline) / (1 − baseline): 0 is chance, 1 all
right. It is only DCLM's number when all 22 tasks are there; what is missing is named.

The conventions are those of nanochat's core_eval.py, which restate llm-foundry's in-context-learning tasks:

- The rows of a task are shuffled once, by random.Random(1337). Row i has its examples drawn from all other rows by
  random.Random(1234 + i). (llm-foundry draws those of all rows from one generator, in the file's order. Unlike
  nanochat, a limit cuts what is asked, not what examples are drawn from.)
- An example is context, delimiter, answer; an empty line follows each. Contexts of language modelling are stripped,
  nothing else is. (llm-foundry strips every field: of these tasks that changes piqa and language identification.)
- A prompt begins with the token that documents begin with.
- Multiple choice: the texts differ in their ends. Scored are the tokens after their common beginning, and the choice
  with the lowest mean loss wins, of equal ones the first.
- Schema: the texts differ in the middle. Scored are the tokens of their common end, decided likewise.
- Language modelling: right if each token of the continuation is the most probable one. Where it begins is found by
  encoding the prompt without it, stripped, since a trailing space would become part of its first word.
- A text longer than the model's context loses tokens at its left. How many were cut is a figure.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crawl2chat.evals.scoring import Score, Span, score
from crawl2chat.evals.suites.rows import Row, json_lines
from crawl2chat.model import Transformer
from crawl2chat.model.ragged import common_prefix
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import StageError
from crawl2chat.stages.progress import Progress
from crawl2chat.stages.text_files import read_text
from crawl2chat.tokenizer import Tokenizer

TASKS = "core.json"
AT_ONCE = 512  # rows whose prompts are made together and sorted by length
Kind = Literal["multiple_choice", "schema", "language_modeling"]
FIELDS: dict[str, dict[str, type]] = {  # of a row, by its task's type
    "multiple_choice": {"query": str, "choices": list, "gold": int},
    "schema": {"context_options": list, "continuation": str, "gold": int},
    "language_modeling": {"context": str, "continuation": str},
}
OPTIONS = {"multiple_choice": "choices", "schema": "context_options"}


@dataclass(frozen=True)
class Task:
    """One of CORE's tasks, as `core.json` lists it."""

    name: str
    file: Path
    shots: int
    kind: Kind
    delimiter: str  # between context and answer
    baseline: float  # accuracy of chance

    def centred(self, accuracy: float) -> float:
        return (accuracy - self.baseline) / (1 - self.baseline)


def read_tasks(folder: Path) -> tuple[list[Task], list[str]]:
    """The tasks whose file is there, and the names of the others. Raises StageError where there are none."""
    try:
        listed = json.loads(read_text(folder / TASKS))
        tasks = [
            Task(
                entry["task"], folder / entry["file"], int(entry["shots"]), entry["type"], entry["delimiter"],
                float(entry["random_baseline_percent"]) / 100,
            )
            for entry in listed
        ]  # fmt: skip
    except OSError as error:
        raise StageError(f"{folder / TASKS}: can't be read ({error.strerror}); --data names CORE's folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{folder / TASKS}: {error!r}; expected a list of objects with task, file, shots, type, delimiter and "
            "random_baseline_percent"
        ) from error
    for task in tasks:
        if task.kind not in FIELDS:
            raise StageError(f"{folder / TASKS}: {task.name} has type {task.kind!r}; expected {', '.join(FIELDS)}")
        if task.shots < 0 or not 0 <= task.baseline < 1:
            raise StageError(
                f"{folder / TASKS}: {task.name} has {task.shots} shots and a random_baseline_percent of "
                f"{100 * task.baseline:g}; expected shots of at least 0, and a baseline from 0 to below 100"
            )
    present = [task for task in tasks if task.file.exists()]
    if not present:
        raise StageError(f"{folder}: holds none of the files that its {TASKS} names")
    return present, [task.name for task in tasks if task not in present]


def read_rows(task: Task) -> list[Row]:
    """A task's rows in the order in which they are asked."""
    rows = json_lines(task.file)
    for i, row in enumerate(rows):
        _check(row, task, i)
    if len(rows) <= task.shots:
        raise StageError(f"{task.file}: has {len(rows)} rows, too few for {task.shots} examples and a question")
    random.Random(1337).shuffle(rows)
    return rows


def _check(row: Row, task: Task, i: int) -> None:
    for name, kind in FIELDS[task.kind].items():
        if not isinstance(row.get(name), kind) or row[name] in ("", []):
            raise StageError(f"{task.file}, row {i}: a task of type {task.kind} needs {name}, a {kind.__name__}")
    if task.kind != "language_modeling" and not 0 <= row["gold"] < len(row[OPTIONS[task.kind]]):
        raise StageError(f"{task.file}, row {i}: gold = {row['gold']} is not one of the {OPTIONS[task.kind]}")


def texts_of(task: Task, rows: Sequence[Row], i: int) -> list[str]:
    """The texts that row i is decided by: one per option, or of language modelling without and with the answer."""
    chosen = random.Random(1234 + i).sample(range(len(rows) - 1), task.shots)  # of the others, as they are numbered
    examples = "".join(_example(task, rows[j + (j >= i)]) + "\n\n" for j in chosen)
    row, delimiter = rows[i], task.delimiter
    if task.kind == "multiple_choice":
        return [f"{examples}{row['query']}{delimiter}{choice}" for choice in row["choices"]]
    if task.kind == "schema":
        return [f"{examples}{option}{delimiter}{row['continuation']}" for option in row["context_options"]]
    prompt = f"{examples}{row['context'].strip()}{delimiter}"
    return [prompt.strip(), prompt + row["continuation"]]


def _example(task: Task, row: Row) -> str:
    if task.kind == "multiple_choice":
        return f"{row['query']}{task.delimiter}{row['choices'][row['gold']]}"
    if task.kind == "schema":
        return f"{row['context_options'][row['gold']]}{task.delimiter}{row['continuation']}"
    return f"{row['context'].strip()}{task.delimiter}{row['continuation']}"


def spans_of(task: Task, ids: Sequence[list[int]]) -> list[Span]:
    """What of a row's texts is scored. An option that is the beginning of another still has its last token scored."""
    shortest = min(map(len, ids))
    if task.kind == "schema":
        length = max(1, min(shortest - 1, common_prefix([sequence[::-1] for sequence in ids])))
        return [Span(sequence, len(sequence) - length) for sequence in ids]
    start = common_prefix(ids)
    if task.kind == "multiple_choice":
        return [Span(sequence, min(start, shortest - 1)) for sequence in ids]
    return [Span(ids[1], start)]


def cut(span: Span, context: int) -> Span:
    """The last `context` tokens; of an answer longer than that, the first one left is context."""
    excess = max(0, len(span.ids) - context)
    return Span(span.ids[excess:], max(1, span.start - excess))


def is_right(task: Task, row: Row, scores: Sequence[Score]) -> bool:
    if task.kind == "language_modeling":
        return scores[0].greedy
    losses = [found.mean for found in scores]
    return bool(losses.index(min(losses)) == row["gold"])


def measure_core(
    model: Transformer, tokenizer: Tokenizer, folder: Path, limit: int | None = None
) -> tuple[list[Figure], list[str]]:
    """Figures of the tasks in a folder, and the names of the tasks that are not there.

    limit: maximum number of rows asked of each task.
    """
    tasks, absent = read_tasks(folder)
    figures, centred, variances = [], [], []
    n_rows, n_cut = 0, 0
    rows = {task: read_rows(task) for task in tasks}
    asked = {task: min(len(of), limit or len(of)) for task, of in rows.items()}
    with Progress("core", sum(asked.values()), "question") as progress:
        for task in tasks:
            right, cuts = 0, 0
            for begin in range(0, asked[task], AT_ONCE):
                some = range(begin, min(begin + AT_ONCE, asked[task]))
                marks, n = _ask(model, tokenizer, task, rows[task], some, progress, n_rows)
                right, cuts, n_rows = right + sum(marks), cuts + n, n_rows + len(some)
            n_cut += cuts
            accuracy = share(f"core_accuracy/{task.name}", right, asked[task])
            centred.append(task.centred(accuracy.value))
            variances.append(_variance(right, asked[task]) / (1 - task.baseline) ** 2)
            figures += [accuracy, Figure(f"core_centred/{task.name}", centred[-1], count=asked[task])]
    core = math.fsum(centred) / len(tasks)
    half = 1.96 * math.sqrt(math.fsum(variances)) / len(tasks)
    first = [
        Figure("core", core, "", (core - half, core + half), n_rows),
        Figure("core_tasks_present", len(tasks), f"of {len(tasks) + len(absent)}"),
        share("core_questions_cut_to_the_context", n_cut, n_rows),
    ]
    return first + figures, absent


def _variance(right: int, count: int) -> float:
    """Of a share, as if two cases more were right and two wrong (Agresti and Coull 1998): never 0."""
    adjusted = (right + 2) / (count + 4)
    return adjusted * (1 - adjusted) / (count + 4)


def _ask(
    model: Transformer,
    tokenizer: Tokenizer,
    task: Task,
    rows: Sequence[Row],
    asked: range,
    progress: Progress,
    done: int,
) -> tuple[list[bool], int]:
    """Whether each of these rows is answered right, and how many did not fit into the context.

    done: questions of all tasks that came before, for the progress.
    """
    context = model.config.max_position_embeddings
    texts = [texts_of(task, rows, i) for i in asked]
    encoded = iter(tokenizer.encode_batch([text for group in texts for text in group]))
    whole = [spans_of(task, [[tokenizer.bos_id, *next(encoded)] for _ in group]) for group in texts]
    spans = [[cut(span, context) for span in group] for group in whole]
    n_spans, scored = sum(map(len, spans)), 0

    def advance(n: int) -> None:
        nonlocal scored
        scored += n
        progress.update(done + len(asked) * scored // n_spans, task.name)

    scores = score(model, spans, advance)
    marks = [is_right(task, rows[i], found) for i, found in zip(asked, scores, strict=True)]
    return marks, sum(any(len(span.ids) > context for span in group) for group in whole)
