"""Subjects for tests of the base suite: small models, and an engine that says what it is told to."""

from collections.abc import Callable
from dataclasses import dataclass

from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.generate import Engine
from crawl2chat.generate.request import Completion
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.refine.documents import Document
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import write_tokens


@dataclass
class Parrot:
    """In an engine's place: completes each prompt with what `say(prompt)` gives, up to a stop text."""

    tokenizer: Tokenizer
    say: Callable[[str], str]
    context: int = 1000

    def generate(self, prompts, sampling, rules=None):
        texts = [self.say(self.tokenizer.decode(ids[1:])) for ids in prompts]
        for stop in sampling.stop:
            texts = [text.split(stop)[0] for text in texts]
        return [Completion(text=text) for text in texts]


def small_model(tokenizer, context=64):
    config = ModelConfig(tokenizer.vocab_size, 64, 128, 2, 2, 2, 32, max_position_embeddings=context)
    model = Transformer(config)
    model.init_weights(0)
    return model


def make_subject(
    tokenizer, folder, *, engine=None, ledger=None, texts=("The mill stood by the river.",), held_out=None, **settings
):
    """held_out: what the model did not learn from; without it the same texts."""
    training = write_tokens(list(texts), tokenizer, folder / "tokens")
    measured = training if held_out is None else write_tokens(list(held_out), tokenizer, folder / "held_out")
    documents = [Document(str(i), text) for i, text in enumerate(texts if held_out is None else held_out)]
    engine = engine or Engine(small_model(tokenizer), tokenizer)
    return ModelUnderTest(engine, training, measured, documents, ledger, BaseSettings(**settings), folder / "out")
