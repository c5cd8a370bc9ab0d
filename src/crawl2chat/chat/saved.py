"""A conversation in a file, to be gone on with or learned from; and settings of sampling that people typed."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.chat.formats import is_row
from crawl2chat.generate import Sampling
from crawl2chat.stages.files import StageError, atomic_write
from crawl2chat.stages.json_rows import JsonRows
from crawl2chat.tokenizer import Message


@dataclass(frozen=True)
class Saved:
    """A conversation without its system messages; `system` is what the person set, `sampling` may be absent."""

    messages: list[Message]
    system: str | None
    sampling: Sampling | None


def save_chat(
    file: Path, opening: Sequence[Message], messages: Sequence[Message], system: str | None, sampling: Sampling
) -> None:
    """Write one line of JSON: `messages`, as `crawl2chat sft` reads them, and next to them `system` and `sampling`.

    An existing file that is not a saved chat is never overwritten. Raises StageError when it can't be written.
    """
    row = {"messages": [*opening, *messages], "system": system, "sampling": describe(sampling)}
    if file.is_dir():
        raise StageError(f"{file}: is a folder; name a file")
    try:
        if file.exists() and not _is_saved_chat(file):
            raise StageError(f"{file}: exists and is not a saved chat, so it stays as it is; name another file")
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StageError(f"{file}: can't be written: {error}") from error


def _is_saved_chat(file: Path) -> bool:
    """One line of JSON with `messages`."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        line, more = stream.readline(), stream.read(1)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return not more and isinstance(row, dict) and "messages" in row


def load_chat(file: Path) -> Saved:
    """Read what `save_chat` wrote, or a file with one conversation to learn from.

    Raises StageError for a file that is not a saved chat, and for unknown or impossible settings.
    """
    conversations = read_conversations(file)
    if len(conversations) != 1:
        raise StageError(f"{file}: holds {len(conversations)} conversations; expected one")
    rows = [value for _, value in JsonRows(file, is_row)]
    row = rows[0] if isinstance(rows[0], dict) else {}
    given = row.get("sampling")
    try:
        if given is not None and not isinstance(given, dict):
            raise ValueError("sampling: expected an object of settings")
        sampling = None if given is None else change(Sampling(), given)
        system = row.get("system", _spoken_system(conversations[0]))
        if not isinstance(system, str | None):
            raise ValueError("system: expected a text")
    except ValueError as error:
        raise StageError(f"{file}: {error}") from error
    return Saved([m for m in conversations[0] if m["role"] != "system"], system, sampling)


def describe(sampling: Sampling) -> dict[str, Any]:
    """The settings as JSON has them."""
    values = {field.name: getattr(sampling, field.name) for field in fields(sampling)}
    return values | {"stop": list(sampling.stop), "logit_bias": dict(sampling.logit_bias)}


def change(sampling: Sampling, values: Mapping[str, object]) -> Sampling:
    """Sampling with these values, which may be texts.

    Raises ValueError for a name that there is not, and as Sampling does for values that are impossible.
    """
    names = [field.name for field in fields(Sampling)]
    for name in values:
        if name not in names:
            raise ValueError(f"{name}: no such setting; there are {', '.join(names)}")
    return replace(sampling, **{name: _convert(name, value) for name, value in values.items()})


def _convert(name: str, value: object) -> Any:
    if name == "stop":
        return _texts(value)
    if name == "logit_bias":
        if isinstance(value, str):  # as it is typed: ID=VALUE, several with spaces between; nothing removes them
            value = {id: bias for id, _, bias in (pair.partition("=") for pair in value.split())}
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} = {value}: must be an object of ids and numbers")
        return {_number(f"{name}'s id", id, int): _number(name, bias, float) for id, bias in value.items()}
    return _number(name, value, type(getattr(Sampling(), name)))


def _number(name: str, value: object, kind: type[int] | type[float]) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            if kind is float or not isinstance(value, float):
                return kind(value)
    raise ValueError(f"{name} = {value}: must be a {'whole ' * (kind is int)}number")


def _texts(value: object) -> tuple[str, ...]:
    """Texts from JSON, or typed: as they are, or in JSON's quotes or brackets for line ends and for several."""
    if isinstance(value, str) and value[:1] in ('"', "["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"stop = {value}: begins like JSON and is not valid ({error})") from error
    texts = ([value] if value else []) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"stop = {value}: must be a text or a list of texts")
    return tuple(texts)


def _spoken_system(messages: Sequence[Message]) -> str | None:
    return "\n".join(m["content"] for m in messages if m["role"] == "system") or None
