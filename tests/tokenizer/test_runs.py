"""Runs of one kind of character, however long, are encoded; what is shorter has the ids that it always had."""

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer import encoding as runs
from crawl2chat.tokenizer.stage import train_bpe

MILLION = 1_000_000
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
draw = random.Random(0).choices
RUNS = {
    "spaces": " " * MILLION,
    "spaces within": "Table" + " " * MILLION + "end",
    "tabs": "\t" * MILLION,
    "no-break spaces": "\u00a0" * MILLION,
    "thin spaces": "\u2009" * MILLION,
    "ideographic spaces": "\u3000" * MILLION,
    "mixed white space": " \t\u3000\u00a0" * (MILLION // 4),
    "indented line end": "\n" + " " * MILLION + "x",
    "line ends": "\n" * MILLION,
    "CRLF": "\r\n" * (MILLION // 2),
    "blank lines": " \n" * (MILLION // 2),
    "line separators": "\u2028" * MILLION,
    "zeros": "0" * MILLION,
    "dashes": "-" * MILLION,
    "quotes": "'" * MILLION,
    "letters": "a" * MILLION,
    "capitals": "A" * MILLION,
    "random letters": "".join(draw("abcdefghijklmnopqrstuvwxyz", k=MILLION)),
    "base64": "".join(draw("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", k=MILLION)),
    "Chinese": "".join(map(chr, draw(range(0x4E00, 0x9FFF), k=MILLION))),
    "emoji": "🙂" * (MILLION // 4),
    "combining marks": "e" + "\u0301\u0316" * (MILLION // 2),
    "zero-width spaces": "\u200b" * MILLION,
    "NUL": "\0" * MILLION,
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_million_of_a_kind_are_encoded_and_come_back(tokenizer, kind):
    assert tokenizer.decode(tokenizer.encode(RUNS[kind])) == RUNS[kind]


@pytest.mark.parametrize("pattern", [GPT2, GPT4, GPT4O], ids=["gpt2", "gpt4", "gpt4o"])
@pytest.mark.parametrize("kind", ["spaces within", "mixed white space", "indented line end", "capitals", "dashes"])
def test_other_split_patterns_take_them_too(tokenizer, pattern, kind):
    other = Tokenizer(tokenizer.ranks, tokenizer.controls, pattern)
    assert other.decode(other.encode(RUNS[kind])) == RUNS[kind]


def test_batches_chats_and_texts_with_controls_take_them_too(tokenizer):
    text = RUNS["spaces within"]
    assert tokenizer.encode_batch(["a", text, "b"]) == [tokenizer.encode(t) for t in ("a", text, "b")]
    ids, mask = tokenizer.encode_chat([{"role": "user", "content": text}])
    assert tokenizer.decode(ids) == f"<|im_start|>user\n{text}<|im_end|>\n"
    assert len(ids) == len(mask)
    ids = tokenizer.encode_with_controls(f"{text}<|im_end|>{text}")
    assert ids.count(tokenizer.end_of_turn) == 1
    assert tokenizer.decode(ids) == f"{text}<|im_end|>{text}"


@pytest.mark.parametrize(
    "kind", ["spaces", "spaces within", "tabs", "ideographic spaces", "mixed white space", "zeros"]
)
def test_a_tokenizer_is_trained_on_them(kind):
    trained = train_bpe(["The miller went down to the river. " * 20, RUNS[kind]], 350)
    assert len(trained.encode(" river")) == 1
    assert trained.decode(trained.encode(RUNS[kind])) == RUNS[kind]


@given(st.lists(st.tuples(st.sampled_from(["\n", " ", "\t", "\u3000", "\r\n", "a", "Ab", "7", "é", "東", "…", "'ll"]),
                          st.integers(1, 30))))  # fmt: skip
def test_ids_are_those_of_tiktoken_where_runs_are_shorter_than_the_bound(tokenizer, fragments):
    text = "".join(part * times for part, times in fragments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "MAX_SPACE_RUN", 1 + _longest_white_space(text))
        assert tokenizer.encode(text) == tokenizer.encoding.encode_ordinary(text)
        patch.setattr(runs, "MAX_SPACE_RUN", 5)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert all(_longest_white_space(stretch) < 10 for stretch in runs.cut_white_space(text))


@given(st.text(alphabet="eoA\u0301\u0316\u0327\u1100\u1161\u11a8한é ", max_size=40))
def test_composing_in_stretches_is_composing_where_marks_are_few(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "MAX_MARK_RUN", 41)
        assert runs.to_nfc(text) == unicodedata.normalize("NFC", text)
        patch.setattr(runs, "MAX_MARK_RUN", 1 + _most_marks(text))
        assert runs.to_nfc(text) == unicodedata.normalize("NFC", text)


def test_a_million_marks_are_composed(tokenizer):
    """unicodedata alone would sort them for an hour."""
    composing = Tokenizer(tokenizer.ranks, tokenizer.controls, nfc=True)
    decoded = composing.decode(composing.encode(RUNS["combining marks"]))
    assert decoded.count("\u0301") + decoded.count("\u0316") + decoded.count("é") == MILLION
    assert decoded.startswith("\u00e9\u0316")


def test_tiktoken_still_needs_this(tokenizer):
    """Once it no longer fails, cutting white space can go."""
    with pytest.raises(BaseException, match="StackOverflow"):
        tokenizer.encoding.encode_ordinary(" " * MILLION)


def _longest_white_space(text: str) -> int:
    return max((len(run) for run in "".join(c if c.isspace() else "." for c in text).split(".")), default=0)


def _most_marks(text: str) -> int:
    return max(len(run) for run in "".join("m" if unicodedata.combining(c) else "." for c in text).split("."))
