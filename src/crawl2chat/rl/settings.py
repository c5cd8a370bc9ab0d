"""Settings of learning from rewards."""

from typing import Literal

from pydantic import Field

from crawl2chat.stages.settings import Settings
from crawl2chat.train.settings import Track


class PolicySettings(Settings):
    """How many answers are drawn, how the model moves towards the better ones, and how the computer is used."""

    RUNTIME_ONLY = frozenset({"micro_batch_tokens", "device", "checkpoint_every", "evaluate_every", "track"})

    steps: int = Field(30, ge=1, description="optimiser steps")
    prompts: int = Field(16, ge=1, description="prompts per step")
    answers: int = Field(8, ge=2, description="answers sampled per prompt; each is compared with the others")
    max_tokens: int = Field(128, ge=1, description="maximum length of an answer, in tokens")
    matrix_lr: float = Field(0.001, gt=0, description="Muon's learning rate for matrices")
    embedding_lr: float = Field(0.0002, gt=0, description="AdamW's learning rate for embeddings, output head and norms")
    decay: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the steps over which the learning rate falls to zero; 0 keeps it constant",
    )
    clip_norm: float = Field(1.0, gt=0, description="scale gradients down to at most this norm")
    replay_weight: float = Field(
        0.1, ge=0, description="weight of the loss on earlier conversations, which preserves what they taught; 0: none"
    )
    replay_tokens: int = Field(2048, ge=8, description="tokens of earlier conversations per step")
    micro_batch_tokens: int = Field(2048, ge=8, description="tokens per forward pass; lower it if memory runs out")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto: a GPU if there is one")
    checkpoint_every: int = Field(10, ge=1, description="steps between checkpoints; a kill loses at most this many")
    evaluate_every: int = Field(10, ge=1, description="steps between measurements")
    track: Track = Field("none", description="also send metrics.jsonl to trackio (local) or wandb (its server)")
    seed: int = Field(0, ge=0, description="seed of the order of prompts and of sampling")


class ReinforceSettings(PolicySettings):
    """Learning from problems whose answers can be checked, and measuring what it brought."""

    measured: int = Field(
        200, ge=2, description="number of held-out problems to measure with; at most a fifth of a file"
    )
    samples: int = Field(8, ge=1, description="answers sampled per measured problem, for pass@1 and pass@k")
    task: str | None = Field(
        None,
        description="how answers are rewarded: FILE.py, FILE.py:NAME or package.module:NAME that defines a reward or a "
        "whole task; default: by the answers in the file of problems",
    )
    random_control: bool = Field(
        True, description="train once more with coin flips as rewards, to see what training alone does"
    )
