"""The file of questions: one fact per row, in several wordings, with the answers that are accepted.

`{"wordings": ["Where was Ada born?", …], "answers": ["Telm"], "group": "…", "split": "train" | "probe" | "held_out",
"source": "…"}`. No answers: nobody can know, and a model should say so. `group`: what figures are reported by.
`split`: train rows are taught from, probe rows are asked first and then taught from, held_out rows are only measured.
`source`: the url or id of a document that holds the answer, or a passage of text. Also read: `check`, how an answer
is judged ("mentions", the default: it contains an accepted answer; "story": it is a story), and `shown`, true for rows
that every model of a run is asked so that their answers can be read next to each other.
For conversations: `subject`, a name that rows about one thing share, and `follow_ups`, wordings of the question as it
is asked once the subject has been named ("And when was she born?"); in a row without answers, of any further question.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl2chat.stages.files import AnyPath, StageError, write_jsonl
from crawl2chat.stages.json_rows import BadRows, JsonRows, NotJson, RowError

SPLITS = ("train", "probe", "held_out")
CHECKS = ("mentions", "story")
EXPECTED = '{"wordings": ["…"], "answers": ["…"], "group": "…", "split": "train", "probe" or "held_out"}'


@dataclass(frozen=True)
class QuestionRow:
    """One fact that can be asked for; no answers: nobody can know it."""

    wordings: tuple[str, ...]
    answers: tuple[str, ...]
    group: str
    split: str
    source: str | None = None
    check: str = "mentions"
    shown: bool = False
    subject: str | None = None
    follow_ups: tuple[str, ...] = ()


def read_questions(file: AnyPath) -> list[QuestionRow]:
    """Read a file of questions. Raises StageError that names what is wrong with which lines."""
    file = Path(file)
    rows, bad, found, n_rows = JsonRows(file, _is_row), BadRows(file), [], 0
    for number, value in rows:
        n_rows += 1
        try:
            found.append(_read_row(value))
        except RowError as error:
            bad.add(number, error)
    bad.raise_any(n_rows, rows.unit)
    if not found:
        raise StageError(f"{file}: holds no question; expected lines of {EXPECTED}")
    return found


def write_questions(rows: Iterable[QuestionRow], file: AnyPath) -> None:
    """Write one line of JSON per row, without the fields that have their default."""
    write_jsonl(Path(file), map(_to_json, rows))


def of_split(rows: Iterable[QuestionRow], *splits: str, check: str = "mentions") -> list[QuestionRow]:
    """The rows of these splits whose answers are judged in this way."""
    return [row for row in rows if row.split in splits and row.check == check]


def _is_row(value: object) -> bool:
    return isinstance(value, dict) and "wordings" in value


def _to_json(row: QuestionRow) -> dict[str, Any]:
    value: dict[str, Any] = {
        "wordings": list(row.wordings),
        "answers": list(row.answers),
        "group": row.group,
        "split": row.split,
    }
    optional: dict[str, Any] = {"source": row.source, "check": row.check, "shown": row.shown}
    optional |= {"subject": row.subject, "follow_ups": list(row.follow_ups)}
    return value | {n: v for n, v in optional.items() if v not in (None, "mentions", False, [])}


def _read_row(value: object) -> QuestionRow:
    if isinstance(value, NotJson):
        raise RowError(f"is not JSON ({value.problem}): it begins with {value.begin!r}; expected {EXPECTED}", "JSON")
    if not isinstance(value, dict):
        raise RowError(f"found {_shown(value)}; expected {EXPECTED}", "no object")
    if missing := [name for name in ("wordings", "answers", "split") if name not in value]:
        raise RowError(f"has no {', '.join(missing)} but {', '.join(value) or 'nothing'}; expected {EXPECTED}")
    if unknown := set(value) - set(QuestionRow.__dataclass_fields__):
        raise RowError(f"{', '.join(sorted(unknown))}: no such field; there are {', '.join(_FIELDS)}")
    wordings, answers = _texts(value, "wordings"), _texts(value, "answers")
    if not wordings:
        raise RowError('"wordings" is empty; expected one or more ways to ask')
    for name, choices in (("split", SPLITS), ("check", CHECKS)):
        if value.get(name, "mentions") not in choices:
            raise RowError(f'"{name}" is {_shown(value[name])}; expected {" or ".join(choices)}', name)
    group, shown, check = value.get("group", "questions"), value.get("shown", False), value.get("check", "mentions")
    if isinstance(group, int) and not isinstance(group, bool):
        group = str(group)
    if not isinstance(group, str) or not group.strip():
        raise RowError(f'"group" is {_shown(group)}; expected a name', "group")
    for name, expected in (("source", "a url or a passage of text"), ("subject", "a name")):
        text = value.get(name)
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise RowError(f'"{name}" is {_shown(text)}; expected {expected}', name)
    if not isinstance(shown, bool):
        raise RowError(f'"shown" is {_shown(shown)}; expected true or false', "shown")
    follow_ups = _texts(value, "follow_ups") if "follow_ups" in value else ()
    source, subject = value.get("source"), value.get("subject")
    return QuestionRow(wordings, answers, group, value["split"], source, check, shown, subject, follow_ups)


_FIELDS = tuple(QuestionRow.__dataclass_fields__)


def _texts(value: dict[str, Any], name: str) -> tuple[str, ...]:
    texts = value[name]
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise RowError(f'"{name}" is {_shown(texts)}; expected a list of texts that are not empty', name)
    return tuple(texts)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
