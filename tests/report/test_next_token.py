import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from crawl2chat.report.next_token import Row, next_token_table, rows, visible


def completion(drawn, model, controlled, *, drawn_model=0.0, drawn_controlled=0.0):
    """One step, from shares instead of logarithms."""

    def logs(shares):
        return [(id, math.log(share) if share else -math.inf) for id, share in shares.items()]

    return SimpleNamespace(
        ids=[drawn], top=[logs(model)], top_controlled=[logs(controlled)],
        model_logprobs=[math.log(drawn_model or model[drawn])],
        logprobs=[math.log(drawn_controlled or controlled[drawn])],
    )  # fmt: skip


def show(tokenizer, table_rows):
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        console.print(next_token_table(tokenizer, table_rows))
    return captured.get().splitlines()


def same(row, other):
    return [row.id, row.rank, row.drawn] == [other.id, other.rank, other.drawn] and all(
        a == b or (a and b and math.isclose(a, b))
        for a, b in ((row.model, other.model), (row.controlled, other.controlled))
    )


@pytest.mark.parametrize("left_out", [{7: 0.0}, {}])  # named with nothing, or not named at all
def test_tokens_that_the_controls_leave_out_are_told_from_those_that_are_only_less_probable(left_out):
    table = rows(completion(6, {5: 0.5, 6: 0.2, 7: 0.1}, {5: 0.7, 6: 0.3, **left_out}), 0, 3)
    expected = [Row(5, 1, 0.5, 0.7, False), Row(6, 2, 0.2, 0.3, True), Row(7, 3, 0.1, 0.0, False)]
    assert all(map(same, table, expected))
    full = rows(completion(6, {5: 0.5, 6: 0.2, 7: 0.1}, {9: 0.5, 5: 0.3, 6: 0.1}), 0, 3)
    expected = [
        Row(5, 1, 0.5, 0.3, False), Row(6, 2, 0.2, 0.1, True),
        Row(7, 3, 0.1, None, False), Row(9, None, None, 0.5, False),
    ]  # fmt: skip
    assert all(map(same, full, expected))


def test_a_drawn_token_that_is_not_among_the_first_is_shown_too():
    (*_, last) = rows(completion(9, {5: 0.5}, {5: 0.4}, drawn_model=0.01, drawn_controlled=0.02), 0, 1)
    assert same(last, Row(9, None, 0.01, 0.02, True))


def test_the_table_fits_80_columns_and_marks_what_was_drawn(tokenizer):
    long = max(tokenizer.ranks.items(), key=lambda item: len(item[0]))[1]
    lines = show(
        tokenizer,
        [
            Row(tokenizer.end_of_turn, 1, 1.0, 1.0, True), Row(long, 2, 0.25, None, False),
            Row(3, 3, 0.0001, 0.0, False),
            Row(4, None, None, 0.5, False),
        ],
    )  # fmt: skip
    header, first, second, third, fourth = lines
    assert header.split() == ["rank", "token", "id", "the", "model", "controlled"]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert first.split() == ["1", "<|im_end|>", str(tokenizer.end_of_turn), *["100.0", "%", "█" * 11] * 2, "drawn"]
    assert "25.0 % ██▊" in second
    assert "<50.0 %" in second  # less than the least that is known
    assert "<0.1 %" in third
    assert "left out" in third
    assert [line for line in lines if "drawn" in line] == [first]
    assert fourth.split()[0] == "–"


def test_tokens_are_shown_as_python_writes_them(tokenizer):
    assert visible(tokenizer, tokenizer.ranks[b"\n"]) == r"'\n'"
    assert visible(tokenizer, tokenizer.ranks[b"\xe2"]) == r"b'\xe2'"
    assert visible(tokenizer, tokenizer.ranks[b" the"]) == "' the'"
    assert visible(tokenizer, tokenizer.end_of_turn) == "<|im_end|>"
