import dataclasses

import pytest
import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.kept import KeptCompletions
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError

PROMPTS = ["The", "In 1842 they counted", "a", "nobody had told her that the bridge was gone.", "東"]
SAMPLING = Sampling(temperature=0.9, max_tokens=12, seed=5)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(3)
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, max_position_embeddings=96))
    with torch.no_grad():  # small enough that what is drawn depends on the seed
        model.model.embed_tokens.weight.mul_(0.1)
    return model


@pytest.fixture
def engine(model, tokenizer, tmp_path):
    """A function that opens an engine with the same file of completions, and counts its steps."""

    def open_engine(of="this model"):
        engine = Engine(model, tokenizer, kept=KeptCompletions(tmp_path / "asked.jsonl", of))
        engine.steps, step = 0, engine.step

        def counted():
            engine.steps += 1
            return step()

        engine.step = counted
        return engine

    return open_engine


def test_what_was_completed_before_a_kill_is_not_computed_again(engine, model, tokenizer, tmp_path):
    expected = Engine(model, tokenizer).generate(PROMPTS, SAMPLING)
    killed = engine()
    killed.generate(PROMPTS[:3], SAMPLING)
    with open(tmp_path / "asked.jsonl", "a") as file:
        file.write('{"asked": "half a l')
    again = engine()
    assert again.generate(PROMPTS, SAMPLING) == expected
    assert again.steps
    third = engine()
    assert third.generate(PROMPTS, SAMPLING) == expected
    assert third.steps == 0


@pytest.mark.parametrize(
    ("prompt", "changes", "how"),
    [
        ("The ", {}, {}),
        ("The", {"temperature": 0.5}, {}),
        ("The", {"max_tokens": 11}, {}),
        ("The", {}, {"seeds": [1]}),
        ("The", {}, {"rules": [lambda ids: [5, 6]]}),
    ],
)
def test_another_prompt_seed_or_way_of_drawing_is_asked(engine, prompt, changes, how):
    engine().generate(["The"], SAMPLING)
    other = engine()
    other.generate([prompt], dataclasses.replace(SAMPLING, **changes), **how)
    assert other.steps


def test_another_model_is_asked(engine):
    engine().generate(["The"], SAMPLING)
    other = engine("another model")
    other.generate(["The"], SAMPLING)
    assert other.steps


def test_another_file_in_its_place_is_named(engine, tmp_path):
    (tmp_path / "asked.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(StageError, match=r"asked\.jsonl: line 1 is not an answer"):
        engine()
