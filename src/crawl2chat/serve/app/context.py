"""What the endpoints of all pages share: the models, the folder that they come from, and what was set for Ranking."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request

from crawl2chat.rl.preferences.rank import REPEAT_EVERY
from crawl2chat.serve.http import get
from crawl2chat.serve.model_pool import AvailableModel, ModelPool, taught_tools
from crawl2chat.stages.settings import Settings

TITLES = {
    "pretrain": "base model",
    "sft": "after fine-tuning",
    "honesty": "after honesty",
    "reinforce": "after reinforcement learning",
    "prefer": "after preferences",
}


@dataclass(frozen=True)
class RankingFiles:
    """The files of the page Ranking."""

    prompts: Path | None = None  # JSON lines; None: the verses that a run's made-up web asks for
    guidelines: Path | None = None  # a text for annotators; None: ours
    store: Path | None = None  # None: rankings.sqlite in the folder
    repeat_every: int = REPEAT_EVERY  # judgements of new prompts for each unannounced repeat; 0: none


@dataclass(frozen=True)
class RunStarter:
    """What the page Runs has from the command line, which knows recipes and is above this package."""

    recipe: type[Settings]
    recipes: Mapping[str, Path]  # those of the package, by name
    refusal: str | None = None  # why runs can't be started or stopped from the page


@dataclass(frozen=True)
class AppContext:
    """The models, and the folder that they come from."""

    pool: ModelPool
    folder: Path  # of the run, or of the one model
    run: Path | None = None  # the same folder; None for a single model
    tokenizers: Mapping[str, Path] = field(default_factory=dict)  # more of them, for the page Tokens
    ranking: RankingFiles = field(default_factory=RankingFiles)
    runs: RunStarter | None = None

    @get("/app/about")
    async def about(self, request: Request) -> dict[str, Any]:
        """What every page knows of the server from the start."""
        return {
            "name": self.folder.resolve().name,
            "is_run": self.run is not None,
            "default": self.pool.models[0].name,
            "models": [self._describe(model) for model in self.pool.models],
            "tokenizers": list(self.tokenizers),
        }

    def _describe(self, model: AvailableModel) -> dict[str, Any]:
        loaded = self.pool.loaded.get(model.name)
        taught = loaded.model.calls_tools if loaded else taught_tools(model.stage, model.taught_offer)
        return {
            "name": model.name,
            "stage": model.stage,
            "title": TITLES.get(model.stage or "", model.name),
            "base": model.stage == "pretrain",
            "calls_tools": taught,
            "parameters": model.n_parameters,
            "layers": model.config.num_hidden_layers,
            "heads": model.config.num_attention_heads,
            "kv_heads": model.config.num_key_value_heads,
            "head_dim": model.config.head_dim,
            "width": model.config.hidden_size,
            "mlp_width": model.config.intermediate_size,
            "vocabulary": model.config.vocab_size,
            "context": model.context,
        }
