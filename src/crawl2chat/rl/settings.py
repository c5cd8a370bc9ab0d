"""Settings of learning from rewards."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from crawl2chat.stages.settings import Words, with_default
from crawl2chat.train.settings import LoraSettings, TrainerSettings

TOOLS = ("calculator", "search", "python")


class PolicyLoraSettings(LoraSettings):
    """An update at the rates of a policy, whose gradients are noisy."""

    lr: float = with_default(LoraSettings, "lr", 0.0002)


class PolicySettings(TrainerSettings):
    """How many answers are drawn, and how the model moves towards the better ones."""

    lora: PolicyLoraSettings = PolicyLoraSettings()
    steps: int = Field(30, ge=1, description="optimiser steps")
    prompts: int = Field(16, ge=1, description="prompts per step")
    answers: int = Field(8, ge=2, description="answers sampled per prompt; each is compared with the others")
    max_tokens: int = Field(128, ge=1, description="maximum length of an answer, in tokens")
    replay_weight: float = Field(
        0.1, ge=0, description="weight of the loss on earlier conversations, which preserves what they taught; 0: none"
    )
    replay_tokens: int = Field(2048, ge=8, description="tokens of earlier conversations per step")

    advantage_scale: Literal["none", "group", "batch"] = Field(
        "none", description="divide advantages by the deviation of the rewards in a group (GRPO) or in the whole batch"
    )
    normalise: Literal["tokens", "answers", "fixed"] = Field(
        "tokens",
        description="what weighs the same in the loss: each token (DAPO), each answer (GRPO), or each token as a share "
        "of answers x max_tokens (Dr. GRPO)",
    )
    overlong_filter: bool = Field(
        False, description="leave answers that were cut off at max_tokens out of the loss (DAPO, arXiv 2503.14476)"
    )
    overlong_margin: int = Field(
        0,
        ge=0,
        description="last tokens before max_tokens over which a penalty grows from 0 to 1 (DAPO's soft overlong "
        "penalty)",
    )
    resample: int = Field(
        0,
        ge=0,
        description="times per step that groups whose answers are all rewarded alike are replaced by further prompts "
        "(DAPO's dynamic sampling)",
    )
    skip_flat_groups: bool = Field(
        False,
        description="don't compute the gradients of groups whose answers are all rewarded alike, which are 0; saves "
        "time, and changes the result by rounding",
    )
    updates: int = Field(
        1, ge=1, description="optimiser steps per batch of answers, from the second on with clipped ratios (PPO)"
    )
    clip_low: float = Field(
        0.2, gt=0, lt=1, description="with several updates: how far below 1 a token's ratio may count"
    )
    clip_high: float = Field(
        0.2,
        gt=0,
        description="with several updates: how far above 1 a token's ratio may count; more than clip_low, such as "
        "0.28, lets improbable tokens grow (DAPO)",
    )
    importance_cap: float = Field(
        0.0,
        ge=0,
        description="weight each token by how much more probable the trainer finds it than the sampler did, up to "
        "this, such as 2 (truncated importance sampling); for a sampler of lower precision; 0: don't",
    )
    kl_weight: float = Field(0.0, ge=0, description="penalty per nat of divergence from the start")
    kl: Literal["k1", "k2", "k3"] = Field(
        "k1",
        description="where the penalty goes: k1 off the reward of an answer; k2, k3 into the loss of a token "
        "(joschu.net/blog/kl-approx.html; k3 is GRPO's)",
    )

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

    @model_validator(mode="after")
    def _margin_fits(self) -> Self:
        if self.overlong_margin > self.max_tokens:
            raise ValueError(f"overlong_margin = {self.overlong_margin} must not exceed max_tokens = {self.max_tokens}")
        return self


class ReinforceSettings(PolicySettings):
    """Learning from problems whose answers can be checked, and measuring what it brought."""

    RUNTIME_ONLY = PolicySettings.RUNTIME_ONLY | {
        "judge_key_variable", "rollouts_key_variable", "logged_steps", "logged_groups",
    }  # fmt: skip

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
    rewards: Words = Field(
        [],
        description="further rewards in training, each FILE.py:NAME=WEIGHT or package.module:NAME=WEIGHT, which are "
        "added to the one that says whether an answer is right",
    )
    judge: str | None = Field(
        None,
        description="a model whose score of an answer (0 to 1) is added to the reward: a folder, or the address of a "
        "server with OpenAI's chat completions, up to and with /v1",
    )
    judge_model: str | None = Field(None, description="the judge's name on that server")
    judge_key_variable: str | None = Field(None, description="environment variable that holds that server's key")
    judge_rubric: str | None = Field(
        None, description="what makes an answer good, in a sentence or two; default: that of `judge-answers`"
    )
    judge_weight: float = Field(1.0, description="weight of the judge's score; a right answer earns 1")
    tools: Words = Field(
        [],
        description="tools that answers may call in training and when they are measured: calculator, search, python "
        "(in the sandbox); their results are read without loss",
    )
    documents: str | None = Field(
        None, description="documents that the tool search looks in, as `chat --documents`; default: those of the run"
    )
    tool_rounds: int = Field(
        3, ge=1, description="rounds of calls per answer; max_tokens holds for what the model writes in each"
    )
    rollouts: str | None = Field(
        None,
        description="address of a server, up to and with /v1, that draws the answers to learn from; it is given each "
        "step's adapter (vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1) and has to see the run's "
        "folder; needs reinforce.lora.rank, and importance_cap is advised",
    )
    rollouts_key_variable: str | None = Field(None, description="environment variable that holds that server's key")
    random_control: bool = Field(
        True, description="train again with coin flips as rewards, to see what training alone does"
    )
    logged_steps: int = Field(
        100,
        ge=0,
        description="number of steps, spread evenly, whose answers go into rollouts.jsonl for the page Rollouts; "
        "0: none",
    )
    logged_groups: int = Field(
        4,
        ge=0,
        description="prompts per logged step whose answers are kept token by token (some 25 bytes per token, at most "
        "1000 tokens per answer); of the others only rewards and lengths",
    )

    @property
    def judges_on_server(self) -> bool:
        return bool(self.judge) and "://" in str(self.judge)

    @model_validator(mode="after")
    def _judge_has_a_name(self) -> Self:
        if self.judges_on_server and not self.judge_model:
            raise ValueError(f"judge = {self.judge}: give judge_model, its name on that server")
        return self

    @model_validator(mode="after")
    def _server_can_draw(self) -> Self:
        if self.rollouts and (not self.lora.rank or self.lora.dora):
            raise ValueError("rollouts: a server is given adapters; set lora.rank, without lora.dora")
        if self.rollouts and self.tools:
            raise ValueError("rollouts and tools: tools are called in this process; leave one of the two out")
        return self

    def weighted_rewards(self) -> list[tuple[str, float]]:
        """The further rewards' code, and the weight of each."""
        parts = [reward.rpartition("=") for reward in self.rewards]
        return [(code, float(weight)) for code, _, weight in parts]

    @field_validator("tools")
    @classmethod
    def _exist(cls, tools: list[str]) -> list[str]:
        for name in tools:
            if name not in TOOLS:
                raise ValueError(f"{name}: no such tool; there are {', '.join(TOOLS)}")
        return tools

    @field_validator("rewards")
    @classmethod
    def _have_weights(cls, rewards: list[str]) -> list[str]:
        for reward in rewards:
            code, _, weight = reward.rpartition("=")
            if not code or not re.fullmatch(r"-?[0-9]*\.?[0-9]+", weight):
                raise ValueError(f"{reward}: expected FILE.py:NAME=WEIGHT, such as style.py:brief=0.2")
        return rewards
