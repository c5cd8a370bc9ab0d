"""Settings of learning from preferences."""

from typing import Literal

from pydantic import Field

from crawl2chat.rl.settings import PolicySettings
from crawl2chat.stages.settings import with_default
from crawl2chat.train.settings import TrainerSettings

REWARD_WARMUP, REWARD_DECAY = 0.1, 0.9  # shares of the reward model's steps


class PreferSettings(PolicySettings):
    """Rankings, the reward model that is fitted to them, and the way of the policy against it."""

    # how often it is checked decides which snapshots there are to keep
    RUNTIME_ONLY = PolicySettings.RUNTIME_ONLY - {"evaluate_every"}

    method: Literal["rl", "dpo", "ipo", "dpo_norm"] = Field(
        "rl",
        description="rl: sample answers and follow the reward model; the others fit the policy to the pairs: "
        "dpo (arXiv 2305.18290), ipo, which stops at a margin (2310.12036), dpo_norm, per token (2411.15124)",
    )
    beta: float = Field(
        0.1, gt=0, description="of dpo, ipo and dpo_norm: how strongly the policy is held near the start"
    )
    pairs: int = Field(16, ge=1, description="pairs of answers per step of dpo, ipo and dpo_norm")
    rankings: str | None = Field(
        None,
        description="rankings to learn from: a store of `crawl2chat rank`, or JSON lines of pairs (chosen, rejected) "
        "as TRL or Anthropic's helpful-harmless files have them; default: those of a simulated annotator, unless the "
        "file of prompts holds pairs",
    )
    max_prompt_tokens: int = Field(
        0, ge=0, description="leave out longer prompts, in tokens; 0: those that leave no room for an answer"
    )
    measured: int = Field(500, ge=1, description="maximum number of held-out prompts to answer at each check")
    ranked_prompts: int = Field(300, ge=5, description="number of rankings by the simulated annotator")
    ranked_answers: int = Field(4, ge=2, description="answers in each of these rankings")
    noise: float = Field(0.7, gt=0, description="scale of the annotator's Gumbel noise, in points of its taste")
    reward_epochs: int = Field(2, ge=1, description="passes of the reward model over the rankings")
    reward_batch: int = Field(8, ge=1, description="rankings per step of the reward model")
    reward_matrix_lr: float = Field(0.04, gt=0, description="Muon's learning rate for the reward model's matrices")
    reward_embedding_lr: float = Field(
        0.02, gt=0, description="AdamW's learning rate for its embeddings, norms and head"
    )
    reward_lora_lr: float = Field(
        0.001, gt=0, description="AdamW's learning rate for its own low-rank update, where lora.rank is set"
    )
    reward_models: int = Field(
        1, ge=1, description="members of an ensemble of reward models, each fitted to a sample of its own (bootstrap)"
    )
    reward_doubt: float = Field(
        0.0,
        ge=0,
        description="weight of the members' variance, which is taken from their mean; 0: the least of their rewards",
    )
    kl_weight: float = with_default(
        PolicySettings,
        "kl_weight",
        0.002,
        "penalty per nat of divergence from the start; small by default, to show the reward being gamed",
    )
    compared: int = Field(40, ge=1, description="comparisons with the starting model's answers per check")
    best_of: int = Field(64, ge=1, description="maximum number of answers per prompt from which the best is chosen")

    steps: int = with_default(PolicySettings, "steps", 80)
    prompts: int = with_default(PolicySettings, "prompts", 8)
    max_tokens: int = with_default(PolicySettings, "max_tokens", 96)  # a verse has about 60
    matrix_lr: float = with_default(PolicySettings, "matrix_lr", 0.006)
    embedding_lr: float = with_default(PolicySettings, "embedding_lr", 0.0015)
    replay_weight: float = with_default(PolicySettings, "replay_weight", 0.3)
    replay_tokens: int = with_default(PolicySettings, "replay_tokens", 1024)
    decay: float = with_default(PolicySettings, "decay", 0.0)
    evaluate_every: int = with_default(
        PolicySettings, "evaluate_every", 4, "steps between checks, each of which writes a snapshot"
    )

    def for_reward_model(self) -> TrainerSettings:
        """What the training of the reward model goes by: its own rates and schedule, all else as for the policy."""
        shared = self.model_dump(include=set(TrainerSettings.model_fields))
        own = {"matrix_lr": self.reward_matrix_lr, "embedding_lr": self.reward_embedding_lr}
        return TrainerSettings(**shared | own | {"warmup": REWARD_WARMUP, "decay": REWARD_DECAY})
