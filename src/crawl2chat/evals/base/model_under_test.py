"""A base model with everything that its measurements read, loaded from a run."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.generate import Engine
from crawl2chat.model import Transformer, load_model
from crawl2chat.refine.documents import Document
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import hash_path, read_manifest
from crawl2chat.tinyweb.truth import Ledger
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments
from crawl2chat.tokenizer.tokenize import held_out_documents

MAX_HELD_OUT_TOKENS = 4_000_000  # that are measured, and held in memory as text, too


@dataclass(frozen=True)
class ModelUnderTest:
    """What each measure of the base suite is given; texts that people may want to read go into `out`."""

    engine: Engine
    training: TokenizedDocuments  # that the model learned from
    held_out: TokenizedDocuments
    documents: list[Document]  # the texts of `held_out`, in its order
    ledger: Ledger | None  # the truth about the made-up web; None for other pages
    settings: BaseSettings
    out: Path

    @staticmethod
    def load(crawl: Path, documents: Path, model: Path, out: Path, settings: BaseSettings) -> "ModelUnderTest":
        """Load the model in a pretrain stage's folder, with the text that it learned from and the text held out.

        Raises StageError for a folder in which no training left its tokens, such as an imported model's, and for
        `documents` other than those of the training.
        """
        manifest = read_manifest(model)
        tokens = model / "tokens"
        if manifest is None or not tokens.is_dir():
            raise StageError(
                f"base: {model} is not a finished pretrain stage's folder, so what it learned from is not known"
            )
        pretraining = manifest.settings
        if manifest.inputs["refine"] != hash_path(documents):
            raise StageError(f"base: {documents} is not what {model} was trained on; run pretrain again")
        tokenized = TokenizedDocuments.load(tokens / "held_out")
        tokenized = tokenized.first(max(MAX_HELD_OUT_TOKENS, int(tokenized.starts[:2][-1])))
        found = held_out_documents(documents, held_out=pretraining["held_out"], seed=pretraining["seed"])
        held_out = list(islice(found, len(tokenized)))
        ledger = Ledger.load(crawl) if (crawl / "ledger").is_dir() else None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        engine = Engine(load_model(model, device=device), Tokenizer.load(model))
        return ModelUnderTest(
            engine, TokenizedDocuments.load(tokens / "training"), tokenized, held_out, ledger, settings, out
        )

    @property
    def searched(self) -> TokenizedDocuments:
        """The training documents in which copies are looked for."""
        return self.training.first(self.settings.searched_tokens)

    @property
    def model(self) -> Transformer:
        return self.engine.model

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer
