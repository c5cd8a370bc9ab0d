"""A subject of a model with random weights (context 64), to run parts of the base suite on."""

from pathlib import Path

from models import random_model

from crawl2chat.evals.settings import BaseSettings
from crawl2chat.evals.subject import Subject
from crawl2chat.generate import Engine
from crawl2chat.refine.documents import Document
from crawl2chat.tokens import Tokenizer
from crawl2chat.tokens.shards import write_tokens


def small_subject(tokenizer: Tokenizer, out: Path, training, held_out, ledger=None, **settings) -> Subject:
    engine = Engine(random_model("tied", tokenizer.vocab_size), tokenizer)
    documents = [Document(str(i), text) for i, text in enumerate(held_out)]
    tokens = [write_tokens(texts, tokenizer, out / name) for name, texts in (("t", training), ("h", held_out))]
    return Subject(engine, *tokens, documents, ledger, BaseSettings(**settings), out)
