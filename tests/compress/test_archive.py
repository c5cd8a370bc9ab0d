import gzip
import io
import lzma
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import LINE, random_model, taught_model

from crawl2chat.compress import archive as archive_module
from crawl2chat.compress import coder
from crawl2chat.compress.archive import compress, decompress, exact_ids, read_block, read_header
from crawl2chat.compress.coder import TOTAL, cumulative_frequencies
from crawl2chat.evals.base.compression import archive_bits
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.stage import train_bpe

TOKENIZER = train_bpe([LINE, "„Straße“ und café, 東京 🙂"] * 4, vocab_size=420)
RANDOM = random_model("grouped heads", TOKENIZER.vocab_size)
TEXT = (LINE * 12 + "Nobody had told her: „Straße“, 東京 🙂.\r\n" + LINE * 12).encode()


@pytest.fixture(scope="module")
def model():
    return taught_model(TOKENIZER)


def archived(model, tokenizer, text):
    out = io.BytesIO()
    summary = compress(model, tokenizer, io.BytesIO(text), len(text), out, quiet=True)
    assert summary.archive == len(out.getvalue())
    return out.getvalue()


def restored(model, tokenizer, archive):
    out = io.BytesIO()
    decompress(model, tokenizer, io.BytesIO(archive), out, quiet=True)
    return out.getvalue()


def first_block(archive):
    source = io.BytesIO(archive)
    return read_block(source, read_header(source))


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_bytes_come_back(content):
    assert restored(RANDOM, TOKENIZER, archived(RANDOM, TOKENIZER, content)) == content


@given(st.lists(st.one_of(st.binary(max_size=5), st.text(max_size=10).map(str.encode))))
def test_any_bytes_have_tokens(parts):
    content = b"".join(parts)
    assert TOKENIZER.decode_bytes(exact_ids(TOKENIZER, content)) == content


def test_a_text_of_many_contexts_in_several_streams_comes_back_from_little(model):
    archive = archived(model, TOKENIZER, TEXT)
    block = first_block(archive)
    assert block.streams > 3
    assert block.tokens / block.streams > 2 * model.config.max_position_embeddings
    assert len(archive) < len(lzma.compress(LINE.encode() * 24)) < len(TEXT)
    assert restored(model, TOKENIZER, archive) == TEXT


def test_its_rate_is_that_of_the_models_probabilities(model):
    """Those of the plain forward pass, in contexts of half a window to a whole one."""
    text = (TEXT.decode() + "The miller's daughter went down to the river at dawn. " * 40).encode()
    archive = archived(model, TOKENIZER, text)
    assert first_block(archive).streams
    bits = archive_bits(model, TOKENIZER, text, archive)
    assert 8 * len(first_block(archive).message) == pytest.approx(bits, rel=0.01)


def test_a_text_of_several_blocks_comes_back(model, monkeypatch):
    monkeypatch.setattr(archive_module, "BLOCK_BYTES", 300)
    text = (LINE * 6 + "東京🙂" * 40).encode()
    archive = archived(model, TOKENIZER, text)
    assert first_block(archive).length <= 300
    assert restored(model, TOKENIZER, archive) == text
    assert archive_bits(model, TOKENIZER, text, archive) > 0


def test_blocks_are_cut_between_characters(monkeypatch):
    monkeypatch.setattr(archive_module, "BLOCK_BYTES", 16)
    for text in ("🙂" * 30, "x" + "東京" * 30, "ü" * 50, "x" * 64):
        blocks = list(archive_module._blocks(io.BytesIO(text.encode())))
        assert "".join(block.decode() for block in blocks) == text
    assert b"".join(archive_module._blocks(io.BytesIO(b"\x80\xff" * 50))) == b"\x80\xff" * 50


def test_what_the_model_would_make_longer_is_stored():
    noise = np.random.default_rng(0).bytes(500)
    archive = archived(RANDOM, TOKENIZER, noise)
    assert first_block(archive).streams == 0
    assert len(archive) < len(noise) + 45


def test_a_text_that_the_tokenizer_would_normalise_comes_back_as_it_was(model):
    composing = Tokenizer(TOKENIZER.ranks, TOKENIZER.controls, nfc=True)
    text = unicodedata.normalize("NFD", LINE + "café naïve Straße " + LINE).encode()
    archive = archived(model, composing, text)
    assert first_block(archive).streams
    assert restored(model, composing, archive) == text


def test_a_million_spaces_have_tokens():
    content = b" " * 1_000_000
    assert TOKENIZER.decode_bytes(exact_ids(TOKENIZER, content)) == content


def test_it_is_restored_with_other_threads_and_leaves_them_as_they_were(monkeypatch):
    monkeypatch.setattr(archive_module, "SMALL_MODEL", 0)  # as if it were a large model, whose sums threads share
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        archive = archived(RANDOM, TOKENIZER, LINE.encode())
        torch.set_num_threads(2)
        assert restored(RANDOM, TOKENIZER, archive) == LINE.encode()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_another_model_or_tokenizer_is_refused(model):
    archive = archived(model, TOKENIZER, TEXT)
    other = Tokenizer(TOKENIZER.ranks, TOKENIZER.controls, r"\w+|\W+")
    with pytest.raises(StageError, match="made by another model or tokenizer"):
        restored(random_model("tied", TOKENIZER.vocab_size), TOKENIZER, archive)
    with pytest.raises(StageError, match="made by another model or tokenizer"):
        restored(model, other, archive)


def test_a_damaged_archive_never_gives_another_text(model):
    text = (LINE + "Nobody 17 Straße").encode()
    archive = archived(model, TOKENIZER, text)
    assert first_block(archive).streams
    refused = 0
    for place in range(len(archive)):
        damaged = bytearray(archive)
        damaged[place] ^= 0x41
        try:
            assert restored(model, TOKENIZER, bytes(damaged)) == text
        except StageError:
            refused += 1
    assert refused >= len(archive) - 8  # but where nothing depends on it, as on the hash of the environment


def test_one_cut_short_or_with_something_behind_it_is_refused(model):
    archive = archived(model, TOKENIZER, TEXT)
    for n in (0, 3, 8, 20, 30, len(archive) - 1):
        with pytest.raises(StageError, match="cut short|not an archive"):
            restored(model, TOKENIZER, archive[:n])
    with pytest.raises(StageError, match="damaged"):
        restored(model, TOKENIZER, archive + b"x")
    with pytest.raises(StageError, match="not an archive"):
        restored(model, TOKENIZER, TEXT)


def test_where_numbers_differ_the_error_names_the_cause(model, monkeypatch):
    archive = archived(model, TOKENIZER, TEXT)
    exact = coder.cumulative_frequencies
    monkeypatch.setattr(coder, "cumulative_frequencies", lambda logits: exact(logits * 1.001))
    with pytest.raises(StageError, match="is damaged"):
        restored(model, TOKENIZER, archive)
    monkeypatch.setattr(archive_module, "_environment", lambda model: b"else")
    with pytest.raises(StageError, match="another kind of processor or with other library versions"):
        restored(model, TOKENIZER, archive)


def test_a_text_that_grows_while_it_is_read_is_refused(model):
    with pytest.raises(StageError, match="changed its length"):
        compress(model, TOKENIZER, io.BytesIO(TEXT), len(TEXT) - 5, io.BytesIO(), quiet=True)


def test_frequencies_are_the_softmax_and_none_is_zero():
    logits = torch.tensor([[0.0, 1.0, 2.0, -200.0], [5.0, 5.0, 5.0, 5.0]])
    cumulative = cumulative_frequencies(logits)
    assert cumulative[:, 0].tolist() == [0, 0]
    assert cumulative[:, -1].tolist() == [TOTAL, TOTAL]
    frequencies = np.diff(cumulative)
    assert frequencies.min() == 1
    np.testing.assert_allclose(frequencies / TOTAL, logits.softmax(dim=1), atol=1e-7)
    with pytest.raises(StageError, match="not finite"):
        cumulative_frequencies(torch.full((1, 4), torch.nan))


@pytest.mark.slow
@pytest.mark.skipif("CRAWL2CHAT_SHARED" not in os.environ, reason="CRAWL2CHAT_SHARED names no folder with real prose")
def test_real_prose_comes_back(model):
    with gzip.open(Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "prose" / "prose.txt.gz") as prose:
        text = prose.read(100_000)
    assert restored(model, TOKENIZER, archived(model, TOKENIZER, text)) == text
