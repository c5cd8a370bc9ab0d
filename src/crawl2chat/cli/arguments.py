"""Types and groups of options that several commands share."""

import argparse
import math
import re
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


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
    """A type for argparse: a number of bytes, with KB, MB or GB (powers of a thousand) behind it or nothing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", text.strip(), re.IGNORECASE)
    n_bytes = round(float(match[1]) * 1000 ** " KMG".index(match[2].upper() or " ")) if match else 0
    if n_bytes < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 500MB or 5GB")
    return n_bytes


def licence(text: str) -> str:
    """A type for argparse: a licence's identifier in the form that hubs and SPDX write."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected an identifier such as apache-2.0 or cc-by-4.0; `other` for a licence of your own"
        )
    return text


def add_sampling(parser: argparse.ArgumentParser, temperature: float) -> None:
    """Controls of sampling. Which values are possible is for Sampling to say."""
    controls = parser.add_argument_group("how the next token is drawn")

    def number(flag: str, default: float, help: str) -> None:
        controls.add_argument(flag, type=type(default), default=default, metavar="N", help=f"{help} ({default})")

    number(
        "--temperature",
        temperature,
        "divide the logits by N: below 1 is safer, above 1 wilder; 0 takes the most probable token",
    )
    number("--top-k", 0, "keep the N most probable tokens; 0 keeps all")
    number("--top-p", 1.0, "keep the smallest set of tokens whose probabilities add up to N; 1 keeps all")
    number("--min-p", 0.0, "keep tokens with at least N times the probability of the most probable one; 0 keeps all")
    number("--repetition-penalty", 1.0, "above 1, make tokens that occur in prompt or answer less probable")
    number("--presence-penalty", 0.0, "subtract N from the logit of every token that occurs in the answer")
    number("--frequency-penalty", 0.0, "subtract N once per occurrence of the token in the answer")
    controls.add_argument(
        "--logit-bias", type=bias, action="append", default=[], metavar="ID=VALUE",
        help="add VALUE to a token's logit: -100 forbids it, 100 forces it; `crawl2chat tokens` shows ids; repeatable",
    )  # fmt: skip
    number("--max-tokens", 200, "maximum length of the answer, in tokens")
    controls.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end the answer before this text; repeatable"
    )
    number("--seed", 0, "seed of the draws")


def bias(text: str) -> tuple[int, float]:
    id, _, value = text.partition("=")
    try:
        return int(id), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected ID=VALUE, such as 42=-100") from None
