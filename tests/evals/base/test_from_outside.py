import json

import numpy as np
import pytest

from crawl2chat.cli.main import main
from crawl2chat.evals.base.from_outside import (
    PHRASES,
    bits_of_text,
    same_phrase,
    series,
    translations,
)
from crawl2chat.evals.bits_per_byte import bits_per_byte
from crawl2chat.generate import Completion, Engine
from crawl2chat.model import ModelConfig, Transformer, save_model
from crawl2chat.stages.figures import share
from crawl2chat.tokenizer.shards import TokenizedDocuments


@pytest.fixture(scope="module")
def engine(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=256))
    model.init_weights(0)
    return Engine(model, tokenizer)


class Translator:
    """Answers from a dictionary if the page shows right pairs, so that controls can be told from the rest."""

    def __init__(self, tokenizer):
        self.tokenizer, self.context, self.prompts = tokenizer, 10_000, []

    def generate(self, prompts, sampling):
        texts = [self.tokenizer.decode(prompt) for prompt in prompts]
        self.prompts += texts
        return [Completion(text=" Bread.") for _ in texts]


def test_the_phrase_list_holds_sixty_and_more_in_three_languages():
    head, *lines = (line.split("\t") for line in PHRASES.read_text(encoding="utf-8").splitlines())
    assert head == ["English", "French", "German", "Spanish"]
    assert len(lines) >= 60
    assert len({line[0] for line in lines}) == len(lines)
    assert all(len(line) == 4 and all(line) for line in lines)


@pytest.mark.parametrize("text", ["le pain", " Pain.", "pain !"])
def test_any_of_the_ways_is_right_whatever_its_case_and_punctuation(text):
    assert same_phrase(text, "pain / le pain")


@pytest.mark.parametrize("text", ["", "pains", "le pain est", "arbol"])
def test_other_words_and_missing_accents_are_wrong(text):
    assert not same_phrase(text, "pain / le pain / árbol")


def test_the_phrase_that_is_asked_for_is_not_among_its_examples_and_the_control_shuffles_the_others(tokenizer):
    translator = Translator(tokenizer)
    measured = translations(translator, 5, 0)
    assert len(measured.figures) == 3 * (5 + 3)
    assert [figure.count for figure in measured.figures] == [5] * 24
    pages = [prompt.rpartition("English: ") for prompt in translator.prompts]
    for examples, _, asked in pages:
        assert f"English: {asked.partition(chr(10))[0]}\n" not in examples
    right = [prompt for prompt in translator.prompts if prompt.count("English: ") == 9]
    plain, control = right[:5], right[5:10]
    for one, other in zip(plain, control, strict=True):
        assert sorted(one.split("\n")) == sorted(other.split("\n"))
        assert one != other


def test_bits_per_byte_are_those_of_the_forward_pass(engine, tokenizer, tmp_path):
    text = "The bridge was gone.\nNobody had told her."
    (tmp_path / "text.txt").write_text(text)
    found = {figure.name: figure for figure in bits_of_text(engine, tmp_path / "text.txt")}
    ids = [tokenizer.bos_id, *tokenizer.encode(text)]
    documents = TokenizedDocuments(np.array(ids), np.array([0, len(ids)]), np.array([len(text)]))
    expected = bits_per_byte(engine.model, documents).value
    assert found["bits_per_byte/model"].value == pytest.approx(expected, rel=1e-5)
    assert found["bits_per_byte/xz"].value > 8


@pytest.mark.slow
def test_a_model_from_elsewhere_is_measured_with_all_its_words(engine, tokenizer, tmp_path, capsys):
    save_model(engine.model, tmp_path / "m", stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(tmp_path / "m")
    (tmp_path / "text.txt").write_text("The bridge was gone. " * 20)
    out = tmp_path / "base.json"
    arguments = ["--suite", "base", "--data", str(tmp_path / "text.txt"), "--limit", "2", "--out", str(out)]
    assert main(["eval", str(tmp_path / "m"), *arguments]) == 0
    kept = json.loads(out.read_text())
    assert [point["x"] for point in kept["series"]["translation/French"]] == [0, 1, 2, 4, 8]
    assert [point["x"] for point in kept["series"]["sums_by_steps"]] == [1, 2, 3]
    assert 0 < kept["figures"]["bits_per_byte/model"]["value"] < 20
    rows = [json.loads(line) for line in (tmp_path / "base.answers.jsonl").read_text().splitlines()]
    assert any("'s t r a w b e r r y'" in row["question"] and row["expected"] == "3" for row in rows)
    assert [len(row["drawn"]) for row in rows if row["part"] == "about_itself"] == [4] * 5


def test_figures_by_a_number_become_a_curve():
    curves = series([share("a/x/2", 1, 2), share("a/x/4", 2, 2), share("plain", 0, 1)])
    assert list(curves) == ["a/x"]
    assert [(point["x"], point["value"]) for point in curves["a/x"]] == [(2, 0.5), (4, 1.0)]
