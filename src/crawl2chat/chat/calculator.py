"""A calculator for models: a small parser of arithmetic, so that no text is ever run as code."""

import re
from fractions import Fraction

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([-+*/()]))")
MAX_LENGTH = 200  # characters
MAX_DIGITS = 50


def calculate(asked: str, expression: str) -> str:
    """The calculator as a tool: what was asked plays no part."""
    return calculator(expression)


def calculator(expression: str) -> str:
    """The value of sums, products, quotients and brackets, exact: `347+86` is `433`, `1/3` is `1/3`.

    Raises ValueError for anything else, with what was found where.
    """
    if not isinstance(expression, str) or len(expression) > MAX_LENGTH:
        raise ValueError(f"expression: expected a text of at most {MAX_LENGTH} characters")
    parser = _Parser(expression)
    value = parser.sum()
    if parser.token is not None:
        raise ValueError(f"{expression}: did not expect {parser.token}")
    if abs(value) >= 10**MAX_DIGITS:
        raise ValueError(f"{expression}: more than {MAX_DIGITS} digits")
    return _shown(value)


class _Parser:
    """Recursive descent, one token ahead: sum = product {(+|-) product}, product = factor {(*|/) factor}."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.next()

    def next(self) -> str | None:
        """Move to the next token and give back the one before it."""
        before = getattr(self, "token", None)
        found = _TOKEN.match(self.text, self.at)
        if not found and self.text[self.at :].strip():
            raise ValueError(f"{self.text}: can't read {self.text[self.at :].strip()[:20]}")
        self.token: str | None = found and (found[1] or found[2])
        self.at = found.end() if found else len(self.text)
        return before

    def sum(self) -> Fraction:
        value = self.product()
        while self.token in ("+", "-"):
            value = value + self.product() if self.next() == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.factor()
        while self.token in ("*", "/"):
            if self.next() == "*":
                value *= self.factor()
            elif divisor := self.factor():
                value /= divisor
            else:
                raise ValueError(f"{self.text}: division by zero")
        return value

    def factor(self) -> Fraction:
        token = self.next()
        if token == "-":
            return -self.factor()
        if token == "(":
            value = self.sum()
            if self.next() != ")":
                raise ValueError(f"{self.text}: a bracket is not closed")
            return value
        if token is None or not token[0].isdigit():
            raise ValueError(f"{self.text}: expected a number, found {token or 'the end'}")
        return Fraction(token)


def _shown(value: Fraction) -> str:
    """Whole numbers and finite decimals as such, others as a fraction."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if value.denominator == 1 or rest != 1:
        return str(value)
    places = next(n for n in range(1, value.denominator.bit_length() + 1) if 10**n % value.denominator == 0)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' * (value < 0)}{digits[:-places]}.{digits[-places:]}"
