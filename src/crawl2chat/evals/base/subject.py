"""A base model with all that its measurements read."""

from dataclasses import dataclass
from pathlib import Path

from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.generate import Engine
from crawl2chat.model import Transformer
from crawl2chat.refine.documents import Document
from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments


@dataclass(frozen=True)
class Subject:
    """What each part of the base suite is given; it writes what people may want to read into `out`."""

    engine: Engine
    training: TokenizedDocuments  # what the model learned from
    held_out: TokenizedDocuments
    documents: list[Document]  # the texts of `held_out`, in its order
    ledger: Ledger | None  # of a fictional web
    settings: BaseSettings
    out: Path

    @property
    def searched(self) -> TokenizedDocuments:
        """Of the training documents those in which copies are looked for."""
        return self.training.first(self.settings.searched_tokens)

    @property
    def model(self) -> Transformer:
        return self.engine.model

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer
