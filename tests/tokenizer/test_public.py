"""The encodings of GPT-2, GPT-4 and GPT-4o, as they are shipped."""

import gzip
from functools import cache

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe
from tiktoken_ext import openai_public

from crawl2chat.tokenizer.public import FOLDER, PUBLIC, load_public, tiktoken_file

BY_NAME = pytest.mark.parametrize("name", PUBLIC)
ours = cache(load_public)
# runs of all that split patterns look at: cases, contractions, digits, marks, line ends, white space
PARTS = ["don't", "HE'LL", "ſ", "'S", "12345", "½", "é", "e\u0301", "नमस्ते", "ก็", "東京", "🙂", "👩‍👩‍👧",
         "\u00a0", "\u2028", "  ", "\t", "\n",
         "\r\n", "//", "...", "<|endoftext|>", "Dž", "\x00", "\ufeff", "İ", "ß"]  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=4))).map("".join))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """tiktoken's own encodings, of the files that we write again; tiktoken checks their hashes as after a download."""
    folder = tmp_path_factory.mktemp("ranks")

    def load(address: str, expected_hash: str) -> dict[bytes, int]:
        name = next(name for name, public in PUBLIC.items() if public.sha256 == expected_hash)
        (folder / name).write_bytes(tiktoken_file(name))
        return load_tiktoken_bpe(str(folder / name), expected_hash)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        patch.setattr(openai_public, "load_tiktoken_bpe", load)
        arguments = {name: getattr(openai_public, public.file)() for name, public in PUBLIC.items()}
    for name, public in PUBLIC.items():
        assert arguments[name]["pat_str"] == public.pattern
        assert arguments[name]["special_tokens"] == public.controls
    return {name: tiktoken.Encoding(**arguments[name]) for name in PUBLIC}


@BY_NAME
@given(text=TEXTS)
def test_ids_equal_those_of_tiktoken(theirs, name, text):
    ids = ours(name).encode(text)
    assert ids == theirs[name].encode_ordinary(text)
    assert ours(name).decode(ids) == text


@BY_NAME
def test_ids_equal_those_of_tiktoken_in_prose(theirs, name):
    prose = (FOLDER / "LICENSE-tiktoken.txt").read_text() + "".join(map(chr, range(0x20, 0x3000, 7)))
    assert ours(name).encode(prose) == theirs[name].encode_ordinary(prose)


@pytest.mark.parametrize(("name", "size"), [("gpt2", 50257), ("gpt4", 100277), ("gpt4o", 200019)])
def test_sizes_of_the_vocabularies(name, size):
    assert ours(name).vocab_size == PUBLIC[name].vocab_size == size


def test_what_is_shipped_is_small_and_has_its_licence():
    assert sum(len(gzip.compress(file.read_bytes())) for file in FOLDER.glob("*.xz")) < 1_700_000
    assert "OpenAI" in (FOLDER / "LICENSE-tiktoken.txt").read_text()
