import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.chat.calculator import calculator

NUMBERS = st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("347+86", "433"),
        (" 3 - 10 ", "-7"),
        ("(1+2)*3-4", "5"),
        ("0.1+0.2", "0.3"),
        ("-0.5*3", "-1.5"),
        ("1/3", "1/3"),
        ("2*-3", "-6"),
    ],
)
def test_values(expression, value):
    assert calculator(expression) == value


@given(NUMBERS, NUMBERS, NUMBERS)
def test_products_bind_closer_than_sums_and_values_are_exact(a, b, c):
    assert calculator(f"{a}+{b}*{c}-{b}") == str(a + b * c - b)
    if c:
        assert Fraction(calculator(f"({a}-{b})/{c}")) == Fraction(a - b, c)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("__import__('os')", "can't read __import__"),
        ("2**3", r"expected a number, found \*"),
        ("1/0", "division by zero"),
        ("(1+2", "bracket is not closed"),
        ("", "found the end"),
        ("1 2", "did not expect 2"),
        ("9" * 150 + "*9", "more than 50 digits"),
        ("1" * 300, "at most 200 characters"),
        (7, "expected a text"),
    ],
)
def test_what_is_no_arithmetic_is_refused_by_name(expression, problem):
    with pytest.raises(ValueError, match=problem):
        calculator(expression)


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_an_error_and_never_runs(text):
    with contextlib.suppress(ValueError):
        calculator(text)
