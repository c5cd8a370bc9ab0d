"""Types of options, and options that several commands share."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crawl2chat.api import Model, load
from crawl2chat.generate.settings import CONTROLS, DEFAULTS
from crawl2chat.stages.files import StageError

if TYPE_CHECKING:
    from crawl2chat.generate import Sampling

Add = Callable[..., argparse.ArgumentParser]  # `main.Commands.add`
Number = TypeVar("Number", int, float)

MODEL_STAGES = ("base", "sft", "honesty", "reinforce", "prefer")  # that leave a model; base is pretrain's
ANSWER_TOKENS = 200
TOOL_NAMES = ("search", "calculator", "python")  # chat.toolbox.BUILT_IN, without importing torch
WEIGHT_FORMS = ("float32", "bfloat16", "int8")  # model.WeightForm's, without importing torch


def within(kind: type[Number], least: float, most: float = math.inf) -> Callable[[str], Number]:
    """A type for argparse: a number from `least` to `most`, so that no other one gets as far as a traceback."""

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not least <= value <= most or value == math.inf:
            bounds = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r}: expected a {'whole ' * (kind is int)}number {bounds}")
        return value

    return parse


def size(text: str) -> int:
    """A type for argparse: a number of bytes, with KB, MB or GB (powers of a thousand) after it or nothing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", text.strip(), re.IGNORECASE)
    n_bytes = round(float(match[1]) * 1000 ** " KMG".index(match[2].upper() or " ")) if match else 0
    if n_bytes < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 500MB or 5GB")
    return n_bytes


def bias(text: str) -> tuple[int, float]:
    """A type for argparse: a token's id and what is added to its logit."""
    id, _, value = text.partition("=")
    try:
        return int(id), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected ID=VALUE, such as 42=-100") from None


def add_model(
    parser: argparse.ArgumentParser,
    help: str = "a run's folder, a stage's, or a Hugging Face folder",
    *,
    stages: Sequence[str] = MODEL_STAGES,
) -> None:
    """The model that a command is about, for `find_model` and `load`."""
    parser.add_argument("model", type=Path, metavar="RUN", help=help)
    parser.add_argument("--stage", choices=stages, help="which of the run's models (default: the best by its check-up)")


def add_weights(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The form of a model's weights while it generates, for `load` and `read_engine`."""
    parser.add_argument(
        "--weights", choices=WEIGHT_FORMS,
        help="form in which matrices are kept: bfloat16 takes half the memory of float32 and is the fastest, int8 "
        "takes a quarter and changes about one token in 25 (default: as they are stored)",
    )  # fmt: skip


def tool_names(text: str) -> list[str]:
    """A type for argparse: names of the package's own tools."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in TOOL_NAMES]
    if wrong or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong) or text!r}: expected some of {','.join(TOOL_NAMES)}")
    return names


def add_documents(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """What a search looks in, and how."""
    parser.add_argument(
        "--documents", type=Path, metavar="FOLDER",
        help="documents to search: Parquet, JSON lines, text or Markdown (default: the run's); their index is kept "
        "next to them and made again when they change",
    )  # fmt: skip
    parser.add_argument(
        "--vectors", type=Path, metavar="FOLDER",
        help="rank by these embeddings, too: a folder of model2vec's (the extra `search`); nothing is downloaded",
    )  # fmt: skip
    parser.add_argument(
        "--search", choices=("tool", "always"), default="tool",
        help="tool: the model decides what to search for; always: each question is searched for and the model reads "
        "what was found with it; a model that can't call tools always works like this (tool)",
    )  # fmt: skip


def open_model(options: argparse.Namespace, max_batch: int | None = None) -> Model:
    """The model that `add_model`'s options name, in the form of `add_weights`' where the command has it."""
    return load(options.model, options.stage, max_batch=max_batch, weights=getattr(options, "weights", None))


def add_sampling(parser: argparse.ArgumentParser, temperature: float) -> None:
    """Controls of sampling, as `generate.settings` has them; which values are possible is for Sampling to say."""
    group = parser.add_argument_group("how the next token is drawn")
    defaults = DEFAULTS | {"temperature": temperature, "max_tokens": ANSWER_TOKENS}
    for name, control in CONTROLS.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "stop":
            group.add_argument(flag, action="append", default=[], metavar="TEXT", help=control.help)
        elif name == "logit_bias":
            group.add_argument(flag, type=bias, action="append", default=[], metavar="ID=VALUE", help=control.help)
        else:
            value = defaults[name]
            group.add_argument(flag, type=type(value), default=value, metavar="N", help=f"{control.help} ({value})")


def sampling_of(options: argparse.Namespace, top_logprobs: int = 0) -> "Sampling":
    """The settings that `add_sampling`'s options make. Raises StageError for impossible ones."""
    from crawl2chat.generate import Sampling

    given: dict[str, Any] = {name: getattr(options, name) for name in CONTROLS}
    given |= {"stop": tuple(options.stop), "logit_bias": dict(options.logit_bias), "top_logprobs": top_logprobs}
    try:
        return Sampling(**given)
    except ValueError as error:
        raise StageError(str(error)) from error


def text_of(command: str, argument: str) -> str:
    """An argument in which bytes that are not UTF-8, which Python keeps as halves of surrogate pairs, are U+FFFD."""
    text = argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if text != argument:
        print(f"{command}: the text is not UTF-8; each byte that is not became U+FFFD", file=sys.stderr)
    return text


def read_stdin(command: str) -> str:
    """All of it, without the line end that editors and echo put last."""
    from crawl2chat.stages.text_files import NotText, decode

    try:
        return decode(sys.stdin.buffer.read()).removesuffix("\n")
    except NotText as error:
        raise StageError(f"{command} -: stdin can't be read as text: {error}") from error


def key_of(command: str, variable: str | None) -> str | None:
    """The key that the environment variable holds; None where no variable was named."""
    if variable and not os.environ.get(variable):
        raise StageError(f"{command} --key-variable {variable}: there is no such environment variable")
    return os.environ[variable] if variable else None


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="a TOML file, or a recipe of the package by name (laptop)"
    )


def add_seed(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--seed", type=within(int, 0), metavar="N", help=help)


def add_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="print all figures, not only those that matter most")


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings", action=_ShowSettings, nargs="?", metavar="WORD",
        help="list the settings with their defaults, all or those with WORD in their name or meaning, and exit",
    )  # fmt: skip


class _ShowSettings(argparse.Action):
    """Prints the settings of a command with their defaults and meanings, as --help does for options."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option: str | None = None,
    ) -> None:
        from crawl2chat.stages.pipeline import Recipe
        from crawl2chat.stages.settings import settings_help
        from crawl2chat.stages.table import STAGE_NAMES

        name = parser.prog.split()[-1]
        found = settings_help(Recipe, table=name if name in STAGE_NAMES else None, word=str(values or ""))
        if not found:
            parser.error(f"--settings {values}: no setting has this in its name or meaning")
        print(found)
        parser.exit()
