"""Where a worked answer first goes wrong: its equations, its digits and its calls of the calculator, one by one.

Whether an answer is right, judging says (`evals/judging.py`). This says why it is not: the first equation that is
false, the first digit or carry that was written down wrongly, or steps that are true but of another problem.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from crawl2chat.chat.calculator import calculator
from crawl2chat.tokenizer import Message

Kind = Literal["equation", "digit", "other", "call", "result", "unworked"]

_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_OPERATOR = r"(?:[-+*/×÷·−–]|\\times|\\cdot|x(?=\s*\d)|plus\b|minus\b|times\b)"
_TERM = rf"\({{0,3}}\$?{_NUMBER}\){{0,3}}"  # more brackets than anybody writes would make the search slow
_SIDE = rf"{_TERM}(?:\s*{_OPERATOR}\s*{_TERM})*"
_EQUALS = r"(?:=|≈|equals\b|makes\b|is\b)"
# Not a part of a longer number, a name, a time or a percentage.
_ENDS = r"(?![\w%:]|[.,]\d)"
_CHAIN = re.compile(rf"(?<![\w.:,$]){_SIDE}(?:\s*{_EQUALS}\s*{_SIDE})*{_ENDS}")
_EXPRESSION = re.compile(rf"(?<![\w.:,$]){_TERM}(?:\s*{_OPERATOR}\s*{_TERM})+{_ENDS}")
_PLAIN = {
    "×": "*", "·": "*", "\\times": "*", "\\cdot": "*", "x": "*", "times": "*", "÷": "/", "−": "-", "–": "-",
    "plus": "+", "minus": "-", "$": "",
}  # fmt: skip
_PLAIN_FORM = re.compile("|".join(map(re.escape, _PLAIN)))
# What a worked sum of the made-up web does with the result of a column.
_WRITES = re.compile(r",? so write (\d+)(?: and (?:carry|borrow) (\d+))?")
_LAST_CARRY = re.compile(r"The carry gives (\d+), so write (\d+)")
_ANSWER = re.compile(rf"\banswer is:?\s*\$?({_NUMBER})", re.IGNORECASE)
_MOST_DIGITS = 12  # of a number that is taken apart
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True)
class Fault:
    """What first goes wrong, in words; and where in the text, if it is there."""

    kind: Kind
    says: str
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Side:
    """One side of an equation; its value is None where the calculator can't read it."""

    text: str
    begin: int
    end: int

    @property
    def plain(self) -> str:
        """As the calculator reads it, without a bracket whose other half is elsewhere."""
        text = _PLAIN_FORM.sub(lambda found: _PLAIN[found[0]], re.sub(r"[\s,]", "", self.text))
        unclosed = text.count("(") - text.count(")")
        return text.replace("(", "", unclosed) if unclosed > 0 else text[: len(text) + unclosed] if unclosed else text

    @property
    def value(self) -> Fraction | None:
        try:
            return Fraction(calculator(self.plain))
        except ValueError:
            return None

    @property
    def numbers(self) -> list[str]:
        return re.findall(r"\d+(?:\.\d+)?", self.plain)

    @property
    def operators(self) -> str:
        return re.sub(r"[^-+*/]", "", self.plain)


def first_fault(
    question: str, answers: Sequence[str], text: str, right: bool, calls: Sequence[Message] = ()
) -> Fault | None:
    """Return where an answer first goes wrong; None where nothing is found, as for most right answers.

    A right answer may have a false equation on its way, but is not asked whose problem its steps are. calls: the
    messages with calls and results that came before the text.
    """
    asked = _expression_of(question)
    if not right and (wrong := _wrong_call(calls, asked, answers)):
        return wrong
    chains = list(_chains(text))
    found = [fault for chain in chains if (fault := _false_equation(chain))]
    if not right:
        found += _wrong_digits(text, chains)
        if asked and (fault := _other_problem(chains, asked)):
            found.append(fault)
    if found:
        return min(found, key=lambda fault: fault.place or (0, 0))
    return None if right else _wrong_result(text, answers, any(len(chain) > 1 for chain in chains), bool(calls))


def _expression_of(question: str) -> _Side | None:
    """The one expression that a question asks for, such as 347+86; None for a problem in words."""
    found = [_Side(match[0], *match.span()) for match in _EXPRESSION.finditer(question)]
    return found[0] if len(found) == 1 and found[0].value is not None else None


def _chains(text: str) -> Iterator[list[_Side]]:
    """Sides of equations, `a+b=c` or `a=b=c`, in their order; an expression without an equals sign is one side."""
    for match in _CHAIN.finditer(text):
        before = text[: match.start()].rstrip()[-1:]
        if before and before in "+-*/×÷·−–^":  # the rest of something with letters in it, such as y + 2 = 10
            continue
        sides = [_Side(side[0], *side.span()) for side in re.finditer(_SIDE, match[0])]
        sides = [replace(s, begin=s.begin + match.start(), end=s.end + match.start()) for s in sides]
        if any(side.operators for side in sides):
            yield sides


def _false_equation(chain: Sequence[_Side]) -> Fault | None:
    for left, right in pairwise(chain):
        if left.value is None or right.value is None or _agree(left.value, right):
            continue
        says = f"{left.text} is {calculator(left.plain)}, not {right.text}"
        if not left.operators:
            says = f"{right.text} is {calculator(right.plain)}, not {left.text}"
        return Fault("equation", says, (left.begin, right.end))
    return None


def _agree(value: Fraction, side: _Side) -> bool:
    """Equal, or equal when rounded to the decimals that are written."""
    if side.value == value:
        return True
    decimals = len(side.plain.partition(".")[2])
    return bool(decimals and not side.operators and side.value == round(value, decimals))


def _wrong_digits(text: str, chains: Sequence[Sequence[_Side]]) -> Iterator[Fault]:
    """What follows a true equation of a column: the digit that is put before the others, and the carry or borrow."""
    written = ""
    for chain in chains:
        follows = _WRITES.match(text, chain[-1].end)
        total = chain[-1].value
        if follows is None or total is None or not chain[0].operators:
            continue
        subtracts = "-" in chain[0].operators
        carry = int(len(chain[0].numbers[0]) > 1) if subtracts else int(total // 10)
        wanted = f"{total % 10}{written}"
        if follows[1] != wanted:
            yield Fault("digit", f"after {chain[-1].text} it should write {wanted}, not {follows[1]}", follows.span(1))
            return
        if follows[2] is not None and follows[2] != str(carry):
            word = "borrow" if subtracts else "carry"
            yield Fault("digit", f"after {chain[0].text} it should {word} {carry}, not {follows[2]}", follows.span(2))
            return
        written = follows[1]
    last = _LAST_CARRY.search(text)
    if last and last[2] != last[1] + written:
        yield Fault("digit", f"it should write {last[1]}{written}, not {last[2]}", last.span(2))


def _other_problem(chains: Sequence[Sequence[_Side]], asked: _Side) -> Fault | None:
    """The first expression that does not belong to the problem that was asked for."""
    if len(asked.numbers) == 2 and asked.operators in ("+", "-") and _works_in_columns(chains, asked):
        return _wrong_column(chains, asked)
    known = {part for number in asked.numbers for part in _parts(number)} | {"0", "1", "10"}
    for chain in chains:
        side = next(side for side in chain if side.operators)
        strange = [number for number in side.numbers if number not in known]
        if strange:
            says = f"the steps up to here are true, but of another problem: {side.text} has {strange[0]}"
            return Fault("other", says, (side.begin, side.end))
        known |= {part for end in chain for number in end.numbers for part in _parts(number)}
    return None


def _works_in_columns(chains: Sequence[Sequence[_Side]], asked: _Side) -> bool:
    """Whether every equation has the digits of one place, as on paper: 7+6=13, 4+8+1=13; 12-7=5."""
    columns = [chain[0] for chain in chains if len(chain) > 1]
    return len(asked.numbers[0]) > 1 and bool(columns) and all(
        len(side.numbers) > 1 and set(side.operators) == {asked.operators[0]}
        and len(side.numbers[0]) <= 2 and all(len(number) == 1 for number in side.numbers[1:])
        for side in columns
    )  # fmt: skip


def _wrong_column(chains: Sequence[Sequence[_Side]], asked: _Side) -> Fault | None:
    left, right = (number[::-1] for number in asked.numbers)  # the ones first
    place, carry = 0, 0
    for chain in chains:
        side = chain[0]
        if len(chain) == 1:  # the problem, said once more
            same = side.plain == asked.plain
            if not same:
                return Fault("other", f"it works on {side.text}, not on {asked.text}", (side.begin, side.end))
            continue
        here = left[place : place + 1] or "0", right[place : place + 1] or "0"
        digits = side.numbers[0][-1], side.numbers[1]
        if place >= max(len(left), len(right)) or digits != here:
            says = f"{side.text} is true, but of another problem: here {asked.text} has {' and '.join(here)}"
            return Fault("other", says, (side.begin, side.end))
        if sum(map(int, side.numbers[2:])) != carry:
            says = f"{side.text} should have the {carry} that was carried" if carry else f"{side.text} has too much"
            return Fault("digit", says, (side.begin, side.end))
        if asked.operators == "+":
            carry = (int(here[0]) + int(here[1]) + carry) // 10
        else:
            carry = int(int(here[0]) < int(here[1]) + carry)
        place += 1
    return None


def _parts(number: str) -> set[str]:
    """What a number may be taken apart into: its digits, its beginnings and ends, with zeros for what is left out."""
    n = len(number)
    if n > _MOST_DIGITS:
        return {number}
    cuts = {(i, j) for i in range(n) for j in range(i + 1, n + 1)}
    return {number[i:j].lstrip("0") or "0" for i, j in cuts} | {
        (number[i:j] + "0" * (n - j)).lstrip("0") or "0" for i, j in cuts
    }


def _wrong_call(calls: Sequence[Message], asked: _Side | None, answers: Sequence[str]) -> Fault | None:
    """The first call of the calculator that asks for something else, or that it can't carry out."""
    results = [message["content"] for message in calls if message["role"] == "tool"]
    called = [call["function"] for message in calls for call in message.get("tool_calls", ())]
    for function, result in zip(called, results, strict=False):
        expression = str(function["arguments"].get("expression", ""))
        if function["name"] != "calculator" or not expression:
            return Fault("call", f"it called {function['name']} with {function['arguments']}, and read: {result}")
        value = _Side(expression, 0, 0).value
        if value is None:
            return Fault("call", f"the calculator can't work out {expression}: {result}")
        if asked and value != asked.value:
            return Fault("call", f"it asked the calculator for {expression}, not for {asked.text}")
        if not asked and len(called) == 1 and _value_of(answers) not in (None, value):
            return Fault("call", f"it asked the calculator for {expression}, which is not what the problem comes to")
    return None


def _wrong_result(text: str, answers: Sequence[str], worked: bool, called: bool) -> Fault | None:
    """All that led to it is true, or nothing did: where the number itself differs from the right one."""
    if _value_of(answers) is None:
        return None
    numbers = list(_ANSWER.finditer(text)) or list(re.finditer(f"({_NUMBER})", text))
    if not numbers:
        return Fault("unworked", "The answer ends without a number")
    said, wanted = numbers[-1], next((answer for answer in answers if re.fullmatch(_NUMBER, answer)), None)
    begin, end = said.span(1)
    difference = ""
    if wanted and said[1] != wanted:
        same = next((i for i, (a, b) in enumerate(zip(said[1], wanted, strict=False)) if a != b), None)
        same = min(len(said[1]), len(wanted)) if same is None else same
        begin = min(begin + same, end - 1)
        which = _ORDINALS[same] if same < len(_ORDINALS) else f"{same + 1}th"
        difference = f"wrong from its {which} digit on" if same < len(said[1]) else "too short"
    if called or worked:
        before = "the calculator was asked rightly" if called else "no step is false"
        answer = f"{said[1]}, {difference}" if difference else said[1]
        return Fault("result", f"{before}, but the answer is {answer}", (begin, end))
    says = f"{said[1]} was written without a step that could be checked{difference and f', and is {difference}'}"
    return Fault("unworked", says, (begin, end))


def _value_of(answers: Sequence[str]) -> Fraction | None:
    return next((value for answer in answers if (value := _Side(answer, 0, 0).value) is not None), None)
