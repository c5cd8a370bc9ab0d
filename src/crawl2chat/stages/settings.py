"""Typed settings: defaults, a TOML file over them, dotted flags over that, checked once and as a whole."""

import copy
import difflib
import json
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.text_files import NotText, read_text

BOUNDS = {
    "ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "multiple_of": "multiple of {}",
    "min_length": "length ≥ {}", "max_length": "length ≤ {}", "pattern": "matches `{}`",
}  # fmt: skip


class Settings(BaseModel):
    """A table of a recipe. Each field's `description` is its documentation and its line in `--help`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    # Fields that say how the computer is used and not what comes out: a stage is not run again when they change.
    RUNTIME_ONLY: ClassVar[frozenset[str]] = frozenset()
    MOVED: ClassVar[Mapping[str, str]] = {}  # settings that were here in an earlier version: old name, new dotted name


def with_default(model: type["Settings"], name: str, default: Any, description: str | None = None) -> Any:
    """A field of `model` for a table built on it, with another default; its bounds and meaning are declared once.

    decay: float = with_default(TrainSettings, "decay", 0.95)
    """
    field = copy.copy(model.model_fields[name])
    field.default = default
    field.description = description or field.description
    return field


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value] if value else []
    return value


Words = Annotated[list[str], BeforeValidator(_as_list)]  # a single one may be written without brackets, "" means none


class RecipeError(StageError):
    """A recipe that can't be run; the message lists every problem, `problems` has each by itself."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = problems or [message]


@dataclass(frozen=True)
class SettingHelp:
    """What people are told of a setting, wherever it is shown."""

    name: str  # dotted, as on the command line
    kind: str  # `int`, `"a" or "b"`, `list of str`
    bounds: str  # `≥ 1, ≤ 200`, or nothing
    default: str  # as JSON; nothing for a setting that is optional
    help: str
    choices: tuple[str, ...]  # all values, as they are typed; none where there are too many to list


S = TypeVar("S", bound=Settings)


def load_settings(
    model: type[S],
    file: AnyPath | None = None,
    flags: Sequence[str] = (),
    *,
    table: str = "",
    values: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> S:
    """Read `file` (TOML) and lay dotted flags (`--pretrain.depth 6` or `--pretrain.depth=6`) over it.

    table: only that table of the file counts, and all flags must be of it. values: laid over both, by names that may be
    dotted, tables as dictionaries. seed: of every table whose `seed` nothing else sets.
    Raises RecipeError naming every unknown key, wrong type and impossible value at once.
    """
    file = None if file is None else Path(file)
    source = f"recipe {file}" if file else "settings"
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = tomllib.loads(read_text(file))
        except (OSError, NotText) as error:
            raise RecipeError(f"{source}: can't be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{source}: not valid TOML: {error}") from error
    problems: list[str] = []
    for key, value in [*_parse_flags(flags), *dotted(values or {})]:
        problem = _put(given, key.split("."), value)
        if table and not key.startswith(f"{table}."):
            problem = f"{key}: this command takes settings of the table {table} alone"
        if problem:
            problems.append(problem)
    taken = given.get(table, {}) if table else given
    if seed is not None:
        for of_table, values_of_table in [(model, taken)] if table else _tables(model, taken):
            if "seed" in of_table.model_fields and isinstance(values_of_table, dict):
                values_of_table.setdefault("seed", seed)
    try:
        settings = model.model_validate(taken)
    except ValidationError as error:
        problems += [_describe(model, problem, f"{table}." if table else "") for problem in error.errors()]
    if problems:
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise RecipeError("\n".join([f"{source}: {many}", *(f"  {p}" for p in problems)]), problems)
    return settings


def to_toml(settings: Settings) -> str:
    """The settings as TOML that `load_settings` reads back to an equal value."""
    return "\n".join(_toml_lines(settings.model_dump(mode="json"), ())) + "\n"


def settings_help(recipe: type[Settings], *, table: str | None = None, word: str = "") -> str:
    """Return the settings of a recipe or of one of its tables: dotted flag, default and meaning of each.

    word: only those that have it in their name or meaning; without it, settings that an earlier table has by the same
    name and with the same meaning are listed by their names alone.
    """
    groups: dict[str, list[str]] = {}
    repeated: dict[tuple[str, str], list[str]] = {}
    first: dict[tuple[str, str], str] = {}
    for setting in describe_settings(recipe):
        name, default, text = setting.name, setting.default, setting.help
        group, field = name.split(".", 1) if "." in name else ("", name)
        if table not in (None, group) or word.lower() not in f"{name} {text}".lower():
            continue
        origin = first.setdefault((field, text), group)
        if origin != group and not (word or table):
            repeated.setdefault((group, origin), []).append(f"{field} {default}".strip())
        else:
            groups.setdefault(group, []).append(f"  --{name} {default}\n      {text}")
    for (group, origin), fields in repeated.items():
        listed = textwrap.fill(", ".join(fields), 110, initial_indent="      ", subsequent_indent="      ")
        groups.setdefault(group, []).append(f"  --{group}.NAME, as of {origin}, with these defaults:\n{listed}")
    return "\n\n".join("\n".join([group, *lines] if group else lines) for group, lines in groups.items())


def describe_settings(model: type[Settings], prefix: str = "") -> Iterator[SettingHelp]:
    """Yield every setting of a recipe or of one of its tables, in their order. prefix: the table's name and a dot."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            yield from describe_settings(annotation, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "" if default is None else json.dumps(default, default=str, ensure_ascii=False)
        kind, bounds = _type_name(annotation), _bounds(field)
        yield SettingHelp(prefix + name, kind, bounds, shown, field.description or "", _choices(annotation))


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as dotted names, as they are typed on the command line."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _tables(model: type[Settings], values: dict[str, Any]) -> Iterator[tuple[type[Settings], Any]]:
    """The tables of a recipe, each with its values, which may be a mistake that validation reports."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield field.annotation, values.setdefault(name, {})


def _parse_flags(flags: Sequence[str]) -> Iterator[tuple[str, Any]]:
    rest = list(flags)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or len(flag) == 2:
            raise RecipeError(f"{flag!r}: expected a setting such as --pretrain.depth 6")
        key, equals, text = flag[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"--{key}: a value is missing; write --{key} VALUE")
            text = rest.pop(0)
        yield key.replace("-", "_"), _parse_value(text)


def _parse_value(text: str) -> Any:
    """A TOML value (3, 0.5, true, ["a"]) where it is one, otherwise the text itself (a path, a word)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(table: dict[str, Any], path: Sequence[str], value: Any) -> str | None:
    for i, key in enumerate(path[:-1]):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            return f"{'.'.join(path)}: {'.'.join(path[: i + 1])} is a value, not a table"
    table[path[-1]] = value
    return None


def _describe(model: type[Settings], problem: Any, prefix: str = "") -> str:
    path = [str(part) for part in problem["loc"]]
    name = (prefix + ".".join(path)).removesuffix(".") or "the recipe"
    if problem["type"] == "extra_forbidden":
        if moved := _table_of(model, path[:-1]).MOVED.get(path[-1]):
            return f"{name}: no such setting any more; it is {moved} now"
        known = [field.name for field in describe_settings(model, prefix)] + list(model.model_fields)
        table = name.rpartition(".")[0]
        rates = [field for field in known if field.rpartition(".")[0] == table and field.endswith("_lr")]
        if path[-1] in ("lr", "learning_rate") and rates:
            return f"{name}: no such setting; there are {', '.join(rates)}"
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        return f"{name}: no such setting" + (f"; did you mean {close[0]}?" if close else "")
    if problem["type"] == "missing":
        return f"{name}: must be given"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if isinstance(problem["input"], dict):  # a rule over several settings of a table
        return f"{name}: {message}"
    return f"{name} = {json.dumps(problem['input'], default=str)}: {message}"


def _table_of(model: type[Settings], path: Sequence[str]) -> type[Settings]:
    for part in path:
        table = model.model_fields[part].annotation
        model = table if isinstance(table, type) and issubclass(table, Settings) else Settings
    return model


def _type_name(annotation: object) -> str:
    """Return a type as one would write it in a recipe's documentation: `int`, `"a" or "b"`, `list of str`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(json.dumps(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(part) for part in arguments if part is not type(None))
    if origin in (list, tuple, set, frozenset, dict):
        inner = (" to " if origin is dict else ", ").join(_type_name(part) for part in arguments if part is not ...)
        return f"{origin.__name__} of {inner}"
    return getattr(annotation, "__name__", str(annotation))


def _choices(annotation: object) -> tuple[str, ...]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        return "true", "false"
    if origin is typing.Literal:
        return tuple(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        parts = [_choices(part) for part in arguments if part is not type(None)]
        return parts[0] if len(parts) == 1 else ()
    return ()


def _bounds(field: FieldInfo) -> str:
    return ", ".join(
        pattern.format(value)
        for rule in field.metadata
        for name, pattern in BOUNDS.items()
        if (value := getattr(rule, name, None)) is not None
    )


def _toml_lines(table: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    scalars = {k: v for k, v in table.items() if not isinstance(v, dict) and v is not None}
    if path and scalars:
        yield f"[{'.'.join(path)}]"
    for key, value in scalars.items():
        yield f"{key} = {json.dumps(value, ensure_ascii=False)}"  # JSON's scalars and lists are TOML's
    if scalars:
        yield ""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _toml_lines(value, (*path, key))
