"""Settings of learning from preferences."""

from pydantic import Field

from crawl2chat.rl.settings import PolicySettings


class PreferSettings(PolicySettings):
    """Rankings, the reward model that is fitted to them, and the way of the policy against it."""

    # how often it is checked decides which snapshots there are to keep
    RUNTIME_ONLY = PolicySettings.RUNTIME_ONLY - {"evaluate_every"}

    rankings: str | None = Field(
        None,
        description="a person's rankings to learn from (`crawl2chat rank`); default: those of a simulated annotator",
    )
    ranked_prompts: int = Field(300, ge=5, description="number of rankings by the simulated annotator")
    ranked_answers: int = Field(4, ge=2, description="answers in each of these rankings")
    noise: float = Field(0.7, gt=0, description="scale of the annotator's Gumbel noise, in points of its taste")
    reward_epochs: int = Field(2, ge=1, description="passes of the reward model over the rankings")
    reward_batch: int = Field(8, ge=1, description="rankings per step of the reward model")
    reward_matrix_lr: float = Field(0.04, gt=0, description="Muon's learning rate for the reward model's matrices")
    reward_embedding_lr: float = Field(
        0.02, gt=0, description="AdamW's learning rate for its embeddings, norms and head"
    )
    kl_weight: float = Field(
        0.002,
        ge=0,
        description="penalty per nat of divergence from the start; small by default, to show the reward being gamed",
    )
    compared: int = Field(40, ge=1, description="comparisons with the starting model's answers per check")
    best_of: int = Field(64, ge=1, description="maximum number of answers per prompt from which the best is chosen")

    steps: int = Field(80, ge=1, description="optimiser steps")
    prompts: int = Field(8, ge=1, description="prompts per step")
    max_tokens: int = Field(96, ge=1, description="maximum length of an answer, in tokens; a verse has about 60")
    matrix_lr: float = Field(0.006, gt=0, description="Muon's learning rate for the policy's matrices")
    embedding_lr: float = Field(
        0.0015, gt=0, description="AdamW's learning rate for its embeddings, output head and norms"
    )
    replay_weight: float = Field(0.3, ge=0, description="weight of the loss on earlier conversations; 0: none")
    replay_tokens: int = Field(1024, ge=8, description="tokens of earlier conversations per step")
    decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps over which the learning rate falls to zero; 0 keeps it constant",
    )
    evaluate_every: int = Field(4, ge=1, description="steps between checks, each of which writes a snapshot")
