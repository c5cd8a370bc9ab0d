"""Settings of training, shared by pretraining and fine-tuning."""

from typing import Literal

from pydantic import Field, model_validator

from crawl2chat.recipe import Settings

Track = Literal["none", "trackio", "wandb"]


class TrainSettings(Settings):
    """The optimiser, its schedule, the batch, and how the computer is used."""

    HOW_IT_RUNS = frozenset(
        {
            "micro_batch_tokens", "compile", "device", "parallel", "checkpoint_every", "keep_checkpoints",
            "evaluate_every", "track",
        }
    )  # fmt: skip

    seq_len: int = Field(256, ge=8, description="tokens a training sequence; also the model's context")
    batch_tokens: int = Field(4096, ge=8, description="tokens an optimiser step")
    micro_batch_tokens: int = Field(
        0,
        ge=0,
        description="tokens a forward pass; 0: the most that fit on a GPU, 2048 on a CPU, fewer if memory runs out",
    )
    matrix_lr: float = Field(0.02, gt=0, description="Muon's learning rate for matrices")
    embedding_lr: float = Field(0.02, gt=0, description="AdamW's learning rate for embeddings, head and norms")
    embedding_momentum: float = Field(0.9, ge=0, lt=1, description="AdamW's beta1, for embeddings, head and norms")
    momentum_warmup: float = Field(
        0.0, ge=0, le=1, description="share of the steps in which Muon's momentum rises from 0.85 to 0.95; 0: at once"
    )
    weight_decay: float = Field(0.0, ge=0, description="decay of matrices, a share of the weight per unit of rate")
    warmup: float = Field(0.01, ge=0, le=1, description="share of the steps in which the rate rises")
    decay: float = Field(0.6, ge=0, le=1, description="share of the steps in which the rate falls to zero")
    clip_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    skip_spikes: float = Field(
        10.0,
        ge=0,
        description="a step is skipped whose loss or gradient norm is so many deviations too high; 0: none is",
    )
    stop_after_skipped: int = Field(
        5,
        ge=1,
        description="steps in a row that are skipped for a loss or gradients that are no numbers before it ends",
    )
    precision: Literal["auto", "bf16", "fp32", "fp8"] = Field(
        "auto",
        description="arithmetic of the products; auto: bf16 where the hardware has it; fp8: in the blocks, on "
        "Ada, Hopper and later GPUs, and bf16 elsewhere; weights stay fp32",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile; auto: when the run is long enough to pay for it and a compiler is there"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="under torchrun: ddp gives each GPU the whole model, fsdp some rows of each matrix; auto: fsdp "
        "where weights, gradients and optimiser would take more than 30 % of a GPU",
    )
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="steps between checkpoints, of which a kill may cost so many; default: whenever writing them "
        "takes no more than 2 % of the time, and every ten minutes",
    )
    keep_checkpoints: int = Field(2, ge=1, description="how many checkpoints stay; a damaged one is passed over")
    evaluate_every: int = Field(100, ge=1, description="steps between evaluations on held-out text")
    track: Track = Field("none", description="show metrics.jsonl in trackio (here) or wandb (its server) as well")
    seed: int = Field(0, ge=0, description="of initial weights and the order of the data")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TrainSettings":
        if self.batch_tokens % self.seq_len:
            raise ValueError(f"batch_tokens = {self.batch_tokens} must be a multiple of seq_len = {self.seq_len}")
        if 0 < self.micro_batch_tokens < self.seq_len:
            raise ValueError(
                f"micro_batch_tokens = {self.micro_batch_tokens} must hold one sequence of seq_len = {self.seq_len}"
            )
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup + decay = {self.warmup + self.decay:g} must not exceed 1")
        return self

    @property
    def batch_rows(self) -> int:
        return self.batch_tokens // self.seq_len


class PretrainSettings(TrainSettings):
    """The model's size follows from `depth`; each part can still be set."""

    embedding_lr: float = Field(0.04, gt=0, description="AdamW's learning rate for embeddings, head and norms")
    embedding_momentum: float = Field(0.8, ge=0, lt=1, description="AdamW's beta1, for embeddings, head and norms")
    momentum_warmup: float = Field(
        0.3, ge=0, le=1, description="share of the steps in which Muon's momentum rises from 0.85 to 0.95; 0: at once"
    )
    depth: int = Field(4, ge=1, le=200, description="layers; the one dial that sizes the model")
    width: int | None = Field(None, ge=16, description="channels of the residual stream; default 64 · (depth - 2)")
    n_heads: int | None = Field(None, ge=1, description="attention heads; default one a head_dim of width")
    n_kv_heads: int | None = Field(None, ge=1, description="key-value heads; default n_heads")
    head_dim: int = Field(64, ge=8, multiple_of=2, description="channels an attention head")
    mlp_width: int | None = Field(None, ge=16, description="channels within the MLP; default 3 times the width")
    tie_embeddings: bool | None = Field(None, description="one matrix for embedding and head; default below 12 layers")
    tokens: int | None = Field(None, ge=1, description="tokens to train on; default 10 a parameter")
    packing: Literal["best_fit", "concatenate"] = Field(
        "concatenate", description="best_fit cuts only documents of more than seq_len; concatenate pads nothing"
    )
    attend: Literal["row", "document"] = Field(
        "row", description="whether a token sees the documents before its own in its row; document is slow on a CPU"
    )
    held_out: float = Field(0.02, ge=0, lt=1, description="share of the documents that is measured, never trained on")

    @model_validator(mode="after")
    def _heads_fit(self) -> "PretrainSettings":
        n_heads, n_kv_heads = self.heads()
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads = {n_heads} must be a multiple of n_kv_heads = {n_kv_heads}")
        return self

    def model_width(self) -> int:
        return self.width or 64 * max(1, self.depth - 2)

    def heads(self) -> tuple[int, int]:
        """Query heads and key-value heads."""
        n_heads = self.n_heads or max(1, self.model_width() // self.head_dim)
        return n_heads, self.n_kv_heads or n_heads
