import itertools
import lzma
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from models import LINE, taught_model

from crawl2chat.cli.main import main
from crawl2chat.compress import coder
from crawl2chat.evals.base.compression import KneserNey, measure_archive, measure_compression
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.evals.bits_per_byte import bits_per_byte, unigram_bits_per_byte
from crawl2chat.generate import Engine
from crawl2chat.refine.documents import Document
from crawl2chat.tinyweb.ledger import PageTruth
from crawl2chat.tokenizer.shards import write_tokens
from crawl2chat.tokenizer.stage import train_bpe
from crawl2chat.train.pretrain import save_stage_model

TEXTS = [LINE * 3, LINE * 2 + "Nobody knew who had built it.", LINE + "Zwei Mühlen.", LINE * 4, LINE]
URLS = ["http://a.example/1", "http://b.example/1", "http://b.example/2", "http://[b/3", "http://a.example/2"]
LANGUAGES = ["en", "en", "de", "en", "en"]


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("subject")
    tokenizer = train_bpe([LINE, "Zwei Mühlen. Nobody knew who had built it."] * 4, vocab_size=420)
    documents = [Document(str(i), *given) for i, given in enumerate(zip(TEXTS, URLS, LANGUAGES, strict=True))]
    return ModelUnderTest(
        Engine(taught_model(tokenizer), tokenizer),
        write_tokens([LINE * 5] * 4, tokenizer, folder / "training"),
        write_tokens(TEXTS, tokenizer, folder / "held_out"),
        documents, None, BaseSettings(archive_bytes=600), folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def figures(subject):
    return {figure.name: figure for figure in measure_compression(subject)}


def test_models_are_measured_as_pretraining_measures_them(subject, figures):
    expected = bits_per_byte(subject.model, subject.held_out)
    assert figures["bits_per_byte/model"].value == pytest.approx(expected.value)
    assert figures["bits_per_byte/model"].interval == pytest.approx(expected.interval)
    expected = unigram_bits_per_byte(subject.training, subject.held_out, subject.model.config.vocab_size)
    assert figures["bits_per_byte/unigram"].value == pytest.approx(expected.value)


def test_n_grams_learn_from_training_and_are_measured_on_the_held_out(subject, figures):
    nats = KneserNey(subject.training.ids, subject.model.config.vocab_size).nats(subject.held_out.ids)
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert figures["bits_per_byte/5_gram"].value == pytest.approx(nats.sum() / np.log(2) / n_bytes)


def test_programs_are_given_all_documents_as_one_file(figures):
    text = "".join(TEXTS).encode()
    bits = {
        "xz": 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
        "zstd": 8 * len(pa.Codec("zstd", compression_level=19).compress(text)),
        "brotli": 8 * len(pa.Codec("brotli", compression_level=11).compress(text)),
    }
    assert {name: round(figures[f"bits_per_byte/{name}"].value * len(text)) for name in bits} == bits


def test_zstd_gains_from_the_training_text_before_it(figures):
    assert figures["bits_per_byte/zstd_primed"].value < 0.8 * figures["bits_per_byte/zstd"].value


def test_sources_are_hosts_where_there_is_no_ledger_and_all_languages_make_up_the_whole(subject, figures):
    sources = {name for name in figures if name.startswith("bits_per_byte_of_source/")}
    assert sources == {"bits_per_byte_of_source/a.example", "bits_per_byte_of_source/b.example"}
    assert figures["bits_per_byte_of_source/b.example"].count == 2
    n_bytes = dict.fromkeys(LANGUAGES, 0)
    for language, text in zip(LANGUAGES, TEXTS, strict=True):
        n_bytes[language] += len(text.encode())
    for program, whole in (("", "model"), ("_by_5_gram", "5_gram")):
        parts = sum(figures[f"bits_per_byte_of_language{program}/{name}"].value * n_bytes[name] for name in n_bytes)
        assert parts / sum(n_bytes.values()) == pytest.approx(figures[f"bits_per_byte/{whole}"].value)


def test_sources_are_kinds_of_page_where_a_ledger_knows_them(subject):
    pages = [PageTruth(URLS[0], "story", TEXTS[0], "keep"), PageTruth(URLS[2], "story", TEXTS[2], "keep")]
    settings = BaseSettings(archive_bytes=0)
    figures = measure_compression(replace(subject, ledger=SimpleNamespace(pages=pages), settings=settings))
    counts = {figure.name: figure.count for figure in figures if figure.name.startswith("bits_per_byte_of_source/")}
    prefix = "bits_per_byte_of_source/"
    assert counts == {f"{prefix}story": 2, f"{prefix}b.example": 1, f"{prefix}a.example": 1}
    assert not any(figure.name.startswith("archive") for figure in figures)


def test_the_archive_is_exact_and_its_rate_the_models(figures):
    """In 600 bytes, of which the model knows nearly all, whole bytes weigh much."""
    assert figures["archive_exact"].value == 1
    coded, model = (figures[f"archive_{kind}_bits_per_byte"].value for kind in ("coded", "model"))
    assert coded == pytest.approx(model, abs=16 / 600)
    assert figures["archive_bits_per_byte"].value > coded


def test_an_archive_that_is_not_restored_is_a_figure(subject, monkeypatch):
    exact = coder.cumulative_frequencies
    drift = itertools.count()
    monkeypatch.setattr(coder, "cumulative_frequencies", lambda logits: exact(logits * (1 + next(drift) / 1000)))
    figures = {figure.name: figure for figure in measure_archive(subject, "".join(TEXTS).encode())}
    assert figures["archive_exact"].value == 0


def test_the_commands_archive_and_restore_a_file(subject, tmp_path, capsys):
    model, file, archive, again = (tmp_path / name for name in ("model", "text", "archive", "again"))
    save_stage_model(subject.model, subject.tokenizer, model)
    file.write_bytes("".join(TEXTS).encode() + b"\r\n\xff")
    assert main(["compress", str(model), str(file), "--out", str(archive)]) == 0
    assert f"{file.stat().st_size} bytes" in capsys.readouterr().out
    assert archive.stat().st_size < file.stat().st_size / 4
    assert main(["decompress", str(model), str(archive), "--out", str(again)]) == 0
    assert again.read_bytes() == file.read_bytes()


def test_the_commands_say_what_they_cannot_read_or_write(subject, tmp_path, capsys):
    model, text = tmp_path / "model", tmp_path / "text"
    save_stage_model(subject.model, subject.tokenizer, model)
    text.write_text("The mill")
    for arguments, message in (
        (["compress", text / "none", "--out", tmp_path / "out"], "can't be read"),
        (["compress", text, "--out", tmp_path], "there is a folder of this name"),
        (["compress", text, "--out", text], "is the file that is read; name another"),
        (["decompress", text, "--out", tmp_path / "out"], "not an archive"),
    ):
        command, *rest = map(str, arguments)
        assert main([command, str(model), *rest]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_a_file_that_exists_is_not_overwritten(subject, tmp_path, capsys):
    model, text, notes = tmp_path / "model", tmp_path / "text", tmp_path / "notes.txt"
    save_stage_model(subject.model, subject.tokenizer, model)
    text.write_text("The mill")
    notes.write_text("mine")
    for file in (notes, Path("/dev/null")):
        assert main(["compress", str(model), str(text), "--out", str(file)]) == 1
        assert "exists already and stays as it is" in capsys.readouterr().err
    assert notes.read_text() == "mine"


def test_the_commands_take_stdin_and_give_stdout(subject, tmp_path, capsysbinary, monkeypatch):
    model, archive, piped = (tmp_path / name for name in ("model", "archive", "piped"))
    save_stage_model(subject.model, subject.tokenizer, model)
    piped.write_bytes(LINE.encode())
    with open(piped, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(["compress", str(model), "-", "--out", str(archive)]) == 0
    capsysbinary.readouterr()
    assert main(["decompress", str(model), str(archive), "--out", "-"]) == 0
    assert capsysbinary.readouterr().out == LINE.encode()
