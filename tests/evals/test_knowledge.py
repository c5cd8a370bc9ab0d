from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.evals.knowledge import ends_with_number, final_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3+4=7, so 7. The answer is 12.", "12"),
        ("16 - 3 - 4 = 9 eggs a day, 9 * 2 = 18.\n#### 18", "18"),
        ("The answer is 42.0", "42"),
        ("The answer is **1,200** pears, sold in 3 weeks.", "1200"),
        ("That makes $1,234.50.", "1234.5"),
        ("The answer is -5.", "-5"),
        ("It falls to −5 degrees.", "-5"),
        ("She has 12-7", "7"),
        ("(3+4)-5", "5"),
        ("First 7, then 9", "9"),
        ("The answer is 7. No: the answer is 8.", "8"),
        ("The answer is 12, not 13.", "12"),
        ("1234,567", "567"),
    ],
)
def test_a_text_comes_to_its_marked_number_or_else_its_last(text, value):
    assert final_number(text) == Decimal(value)
    assert ends_with_number(text, value)


@pytest.mark.parametrize("text", ["I can't say.", "", "It is twelve.", "The answer is 120.", "The answer is -12."])
def test_another_number_or_none_is_wrong(text):
    assert not ends_with_number(text, "12")


def test_without_a_number_to_compare_with_nothing_is_right():
    assert not ends_with_number("no number", "none here")


@given(st.integers(-(10**9), 10**9), st.text(alphabet="abc .,!?", max_size=20))
def test_any_whole_number_is_found_with_and_without_commas(number, around):
    for written in (f"{number}", f"{number:,}", f"{number}.0"):
        assert ends_with_number(f"{around} The answer is {written}. {around}", str(number))


@given(st.text())
def test_any_text_can_be_judged(text):
    assert isinstance(ends_with_number(text, "7"), bool)
