"""Settings of learning from rewards."""

from typing import Literal

from pydantic import Field

from crawl2chat.stages.settings import with_default
from crawl2chat.train.settings import TrainerSettings


class PolicySettings(TrainerSettings):
    """How many answers are drawn, and how the model moves towards the better ones."""

    steps: int = Field(30, ge=1, description="optimiser steps")
    prompts: int = Field(16, ge=1, description="prompts per step")
    answers: int = Field(8, ge=2, description="answers sampled per prompt; each is compared with the others")
    max_tokens: int = Field(128, ge=1, description="maximum length of an answer, in tokens")
    replay_weight: float = Field(
        0.1, ge=0, description="weight of the loss on earlier conversations, which preserves what they taught; 0: none"
    )
    replay_tokens: int = Field(2048, ge=8, description="tokens of earlier conversations per step")

    matrix_lr: float = with_default(TrainerSettings, "matrix_lr", 0.001)
    embedding_lr: float = with_default(TrainerSettings, "embedding_lr", 0.0002)
    warmup: float = with_default(TrainerSettings, "warmup", 0.0)
    decay: float = with_default(TrainerSettings, "decay", 1.0)
    # a gradient's norm depends on how many answers are right, so that a spike is nothing unusual
    skip_spikes: float = with_default(TrainerSettings, "skip_spikes", 0.0)
    # the sampler computes in fp32: only then do its log-probabilities and the trainer's agree to rounding
    precision: Literal["auto", "bf16", "fp32", "fp8"] = with_default(TrainerSettings, "precision", "fp32")
    # answers differ in length, so that each step would meet shapes that have to be compiled
    compile: Literal["auto", "on", "off"] = with_default(TrainerSettings, "compile", "off")
    evaluate_every: int = with_default(TrainerSettings, "evaluate_every", 10)


class ReinforceSettings(PolicySettings):
    """Learning from problems whose answers can be checked, and measuring what it brought."""

    measured: int = Field(
        200,
        ge=2,
        description="number of held-out problems to measure with; at most a fifth of a file without splits, and 500",
    )
    samples: int = Field(8, ge=1, description="answers sampled per measured problem, for pass@1 and pass@k")
    task: str | None = Field(
        None,
        description="how answers are rewarded: FILE.py, FILE.py:NAME or package.module:NAME that defines a reward or a "
        "whole task; default: by the answers in the file of problems",
    )
    random_control: bool = Field(
        True, description="train again with coin flips as rewards, to see what training alone does"
    )
