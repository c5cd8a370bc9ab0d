import math
import random

from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.compress.coder import TOTAL, Decoder, Encoder

Symbol = tuple[int, int]


@st.composite
def intervals(draw) -> Symbol:
    """Any, and often those at the edges: of one number, of nearly all, the first, the last."""
    start = draw(st.one_of(st.integers(0, TOTAL - 1), st.sampled_from([0, 1, TOTAL // 2, TOTAL - 2, TOTAL - 1])))
    end = draw(st.one_of(st.integers(start + 1, TOTAL), st.sampled_from([start + 1, TOTAL])))
    return start, end


def encoded(symbols: list[Symbol]) -> bytes:
    encoder = Encoder()
    for start, end in symbols:
        encoder.encode(start, end)
    return encoder.finish()


def assert_restored(symbols: list[Symbol], message: bytes) -> None:
    decoder = Decoder(message)
    for start, end in symbols:
        assert start <= decoder.target() < end
        decoder.take(start, end)


def information(symbols: list[Symbol]) -> float:
    return sum(-math.log2((end - start) / TOTAL) for start, end in symbols)


@given(st.lists(intervals(), max_size=200))
def test_any_symbols_come_back(symbols):
    assert_restored(symbols, encoded(symbols))


@given(st.lists(intervals(), max_size=200))
def test_a_message_takes_its_information_and_two_bytes_at_most(symbols):
    assert 8 * len(encoded(symbols)) <= information(symbols) + 16 + len(symbols) * 2**-17


def test_a_long_message_of_skewed_symbols_takes_its_information():
    draw = random.Random(0)
    widths = [1, 1000, TOTAL // 10, TOTAL - TOTAL // 10 - 1001]
    starts = [sum(widths[:i]) for i in range(4)]
    symbols = [(starts[i], starts[i] + widths[i]) for i in draw.choices(range(4), [1, 2, 20, 200], k=20_000)]
    message = encoded(symbols)
    assert information(symbols) - 8 <= 8 * len(message) <= information(symbols) + 16.5
    assert_restored(symbols, message)


def test_a_carry_runs_through_any_number_of_full_bytes():
    """An interval around one half: low stays just below it until the last symbol tips it over."""
    middle = (TOTAL // 2 - 1, TOTAL // 2 + 1)
    for n in range(1, 40):
        for last in ((0, 1), (TOTAL - 1, TOTAL)):
            symbols = [*[middle] * n, last]
            assert_restored(symbols, encoded(symbols))


def test_certain_symbols_take_nothing():
    assert encoded([(0, TOTAL)] * 1000) == b""
