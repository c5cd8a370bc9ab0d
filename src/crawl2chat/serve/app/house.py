"""What the endpoints of all pages share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crawl2chat.rl.preferences.rank import REPEAT_EVERY
from crawl2chat.serve.shelf import Shelf

TITLES = {
    "pretrain": "base model",
    "sft": "after fine-tuning",
    "honesty": "after honesty",
    "reinforce": "after reinforcement learning",
    "prefer": "after preferences",
}


@dataclass(frozen=True)
class RankingFiles:
    """What the page Ranking goes by."""

    prompts: Path | None = None  # JSON lines; None: the verses that a run's made-up web asks for
    guidelines: Path | None = None  # a text for annotators; None: ours
    store: Path | None = None  # None: rankings.sqlite in the folder
    repeat_every: int = REPEAT_EVERY  # judgements of new prompts for each unannounced repeat; 0: none


@dataclass(frozen=True)
class House:
    """The models, and the folder that they come from."""

    shelf: Shelf
    folder: Path  # of the run, or of the one model
    run: Path | None = None  # the same folder; None for a single model
    tokenizers: Mapping[str, Path] = field(default_factory=dict)  # more of them, for the page Tokens
    ranking: RankingFiles = field(default_factory=RankingFiles)

    def about(self) -> dict[str, Any]:
        """What every page knows of the server from the start."""
        return {
            "name": self.folder.resolve().name,
            "is_run": self.run is not None,
            "default": self.shelf.offers[0].name,
            "models": [
                {
                    "name": offer.name,
                    "stage": offer.stage,
                    "title": TITLES.get(offer.stage or "", offer.name),
                    "base": offer.stage == "pretrain",
                    "parameters": offer.n_parameters,
                    "layers": offer.config.num_hidden_layers,
                    "heads": offer.config.num_attention_heads,
                    "kv_heads": offer.config.num_key_value_heads,
                    "head_dim": offer.config.head_dim,
                    "width": offer.config.hidden_size,
                    "mlp_width": offer.config.intermediate_size,
                    "vocabulary": offer.config.vocab_size,
                    "context": offer.context,
                }
                for offer in self.shelf.offers
            ],
            "tokenizers": list(self.tokenizers),
        }
