"""Tokenizers without a tokenizer.json: those that say enough are imported with their ids, the others refused."""

import io
import json

import pytest
from models import random_model

from crawl2chat.model import save_model
from crawl2chat.release.importing import import_model
from crawl2chat.release.vocabularies import make_tokenizer
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.huggingface import printable

PROSE = [
    "The miller's daughter went down to the river at dawn; nobody had told her that the bridge was gone.",
    "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills.",
    "„Straße“ und café: naïve words, 東京, emoji 🙂 and tabs\tand\n\nempty lines.",
] * 4
TEXTS = [
    *PROSE[:3], "Don't  we'll\t1842 \n\n x", "東京 🙂 e\u0301 <s> <|im_end|>", " a leading space and  two", "▁", "",
]  # fmt: skip
NAMED = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"}


@pytest.fixture
def byte_level(tokenizer, tmp_path):
    """A folder as Qwen2's first ones."""
    folder = tmp_path / "byte-level"
    save_model(random_model("untied", tokenizer.vocab_size), folder, stop_ids=[tokenizer.end_of_turn], pad_id=0)
    (folder / "vocab.json").write_text(json.dumps({printable(token): id for token, id in tokenizer.ranks.items()}))
    merges = [f"{printable(left)} {printable(right)}" for left, right in tokenizer.merges]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    added = {id: {"content": name, "special": True} for name, id in tokenizer.controls.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMED | {"added_tokens_decoder": added}))
    return folder


def test_vocabulary_and_merges_are_imported_with_their_ids(byte_level, tokenizer, tmp_path):
    import_model(byte_level, tmp_path / "run")
    ours = Tokenizer.load(tmp_path / "run" / "pretrain")
    composed = ["é" if text == "e\u0301" else text.replace("e\u0301", "é") for text in TEXTS]
    assert [ours.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in composed]
    assert ours.controls == tokenizer.controls
    assert ours.end_of_turn == tokenizer.end_of_turn


def trained(**options):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    settings = {
        "model_type": "bpe", "vocab_size": 380, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "minloglevel": 2, "num_threads": 1, "hard_vocab_limit": False,
    }  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(PROSE), model_writer=model, **settings | options)
    return model.getvalue()


@pytest.mark.parametrize("prefix", [True, False])
def test_a_model_of_sentencepiece_is_imported_with_its_ids(prefix, tmp_path):
    raw = trained(add_dummy_prefix=prefix)
    theirs = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=raw)
    folder = tmp_path / "theirs"
    save_model(random_model("untied", len(theirs)), folder, stop_ids=[2], pad_id=0)
    (folder / "tokenizer.model").write_bytes(raw)
    import_model(folder, tmp_path / "run")
    ours = Tokenizer.load(tmp_path / "run" / "pretrain")
    assert [ours.encode(text) for text in TEXTS] == [theirs.encode(text) for text in TEXTS]
    assert (ours.bos_id, ours.end_of_text) == (theirs.bos_id(), theirs.eos_id())


REFUSED = {
    "unigrams": (
        lambda: trained(model_type="unigram", vocab_size=320), "tokenizer.model: is not BPE, not supported here; make",
    ),
    "normalised": (lambda: trained(normalization_rule_name="nmt_nfkc"), "normalises text, not supported"),
    "without bytes": (lambda: trained(byte_fallback=False), "has no byte fallback"),
    "cut short": (lambda: trained()[:-9], "its tokenizer is damaged: .*cut short.*; download it again"),
    "of noise": (lambda: bytes(range(256)) * 9, "its tokenizer is damaged|is not a model of SentencePiece"),
    "empty": (lambda: b"", "tokenizer.model: is empty"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "tokenizer.model: is a Git LFS pointer"),
    "tiktoken's": (lambda: b"IQ== 0\nIg== 1\n", "is in tiktoken's form, which does not say how to split text; make"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_other_models_are_refused_by_name(what, tmp_path):
    make, told = REFUSED[what]
    (tmp_path / "tokenizer.model").write_bytes(make())
    with pytest.raises(StageError, match=told):
        make_tokenizer(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokenizer_class": "CodeGenTokenizer"}, "tokenizer_class = 'CodeGenTokenizer' does not say how to split"),
        ({"add_prefix_space": True}, "without add_prefix_space"),
        ({"added_tokens_decoder": {"9999": {"content": "<far>"}}}, "do not have the ids from 0 to"),
        ({"added_tokens_decoder": [1]}, "its tokenizer is damaged"),
    ],
)
def test_vocabularies_that_say_too_little_are_refused(change, told, byte_level):
    file = byte_level / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(StageError, match=told):
        make_tokenizer(byte_level, byte_level)
