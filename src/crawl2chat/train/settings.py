"""Settings of training: of its optimiser, schedule and use of the computer, for whatever is trained."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from crawl2chat.stages.settings import Settings, Words, with_default

# matrices of a block, as the model calls its modules (model/adapters.py); named here for the sake of a quick --help
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Track = Literal["none", "trackio", "wandb"]


class OptimiserSettings(Settings):
    """How far a step moves, and which steps are not taken."""

    matrix_lr: float = Field(0.02, gt=0, description="Muon's learning rate for matrices")
    embedding_lr: float = Field(0.02, gt=0, description="AdamW's learning rate for embeddings, output head and norms")
    embedding_momentum: float = Field(
        0.9, ge=0, lt=1, description="AdamW's beta1 for embeddings, output head and norms"
    )
    weight_decay: float = Field(0.0, ge=0, description="weight decay of matrices, multiplied by the learning rate")
    clip_norm: float = Field(1.0, gt=0, description="scale gradients down to at most this norm")
    skip_spikes: float = Field(
        10.0,
        ge=0,
        description="skip a step if its loss or gradient norm is this many standard deviations above the recent mean; "
        "0 disables",
    )
    stop_after_skipped: int = Field(
        5, ge=1, description="stop after this many consecutive steps skipped for a NaN or infinite loss or gradient"
    )


class LoraSettings(Settings):
    """A small trained update on frozen matrices, in the place of training all weights (arXiv 2106.09685)."""

    rank: int = Field(0, ge=0, le=1024, description="rank of each matrix's update, such as 16; 0 trains all weights")
    alpha: float = Field(
        32.0, gt=0, description="size of the update: it is multiplied by alpha / rank, so that lr suits any rank"
    )
    dora: bool = Field(
        False, description="train the lengths of a matrix's rows apart from their directions (DoRA, arXiv 2402.09353)"
    )
    targets: Words = Field(
        [*TARGETS], description="names of the matrices that get an update; default: all of attention and MLP"
    )
    lr: float = Field(0.001, gt=0, description="AdamW's learning rate for the update")
    frozen: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="type in which the frozen matrices are held; bf16 halves their memory and rounds them; auto: bf16 "
        "if the model is stored in it",
    )

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: list[str]) -> list[str]:
        unknown = [name for name in targets if name not in TARGETS]
        if unknown or not targets:
            raise ValueError(f"expected some of {', '.join(TARGETS)}")
        return targets

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class ScheduleSettings(Settings):
    """What changes over a run."""

    warmup: float = Field(
        0.01, ge=0, le=1, description="share of the steps over which the learning rate rises linearly"
    )
    decay: float = Field(
        0.6,
        ge=0,
        le=1,
        description="share of the steps over which the learning rate falls to zero; 0 keeps it constant",
    )
    momentum_warmup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps over which Muon's momentum rises from 0.85 to 0.95; 0 starts at 0.95",
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup + decay = {self.warmup + self.decay:g} must not exceed 1")
        return self


class ComputeSettings(Settings):
    """How the computer is used, what is kept and what is reported."""

    precision: Literal["auto", "bf16", "fp32", "fp8"] = Field(
        "auto",
        description="precision of matrix products; auto: bf16 if the hardware has it; fp8: in the blocks, on Ada, "
        "Hopper and later GPUs, bf16 otherwise; weights are always kept in fp32",
    )
    micro_batch_tokens: int = Field(
        0,
        ge=0,
        description="tokens per forward pass; 0: the most that fit on a GPU, 2048 on a CPU, fewer if memory runs out",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="use torch.compile; auto: if the run is long enough to repay it and a compiler is installed"
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="keep only each block's input for the backward pass and compute the rest again: a third more work, "
        "a fraction of the memory; auto: if not even one sequence fits otherwise",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto: a GPU if there is one")
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="under torchrun: ddp keeps the whole model on each GPU, fsdp a share of each matrix; auto: fsdp if "
        "weights, gradients and optimiser state would take more than 30 % of a GPU, but ddp where answers are sampled",
    )
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="steps between checkpoints; a kill loses at most this many; default: as often as writing them "
        "takes at most 2 % of the time, and every ten minutes",
    )
    keep_checkpoints: int = Field(
        2, ge=1, description="number of checkpoints to keep; a damaged one is skipped on resuming"
    )
    evaluate_every: int = Field(100, ge=1, description="steps between measurements on what is held out")
    track: Track = Field("none", description="also send metrics.jsonl to trackio (local) or wandb (its server)")


class TrainerSettings(ComputeSettings, ScheduleSettings, OptimiserSettings):
    """What the training loop reads, whatever the objective; made of the three above."""

    RUNTIME_ONLY = frozenset(
        {
            "micro_batch_tokens", "compile", "gradient_checkpointing", "device", "parallel", "checkpoint_every",
            "keep_checkpoints", "evaluate_every", "track",
        }
    )  # fmt: skip

    seed: int = Field(
        0, ge=0, description="seed of what is drawn at random: initial weights, the order of the data, samples"
    )


class TrainSettings(TrainerSettings):
    """Training to predict the next token, in rows of equal length: pretraining and fine-tuning."""

    seq_len: int = Field(256, ge=8, description="tokens per training sequence; also the model's context length")
    batch_tokens: int = Field(4096, ge=8, description="tokens per optimiser step")

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.batch_tokens % self.seq_len:
            raise ValueError(f"batch_tokens = {self.batch_tokens} must be a multiple of seq_len = {self.seq_len}")
        if 0 < self.micro_batch_tokens < self.seq_len:
            raise ValueError(
                f"micro_batch_tokens = {self.micro_batch_tokens} must hold one sequence of seq_len = {self.seq_len}"
            )
        return self

    @property
    def batch_rows(self) -> int:
        return self.batch_tokens // self.seq_len


class PretrainSettings(TrainSettings):
    """The model's size follows from `depth`; each part can still be set."""

    embedding_lr: float = with_default(TrainSettings, "embedding_lr", 0.04)
    embedding_momentum: float = with_default(TrainSettings, "embedding_momentum", 0.8)
    momentum_warmup: float = with_default(TrainSettings, "momentum_warmup", 0.3)
    depth: int = Field(4, ge=1, le=200, description="layers; the one dial that sizes the model")
    width: int | None = Field(None, ge=16, description="channels of the residual stream; default: 64 · (depth - 2)")
    n_heads: int | None = Field(None, ge=1, description="attention heads; default: width / head_dim")
    n_kv_heads: int | None = Field(None, ge=1, description="key-value heads; default: n_heads")
    head_dim: int = Field(64, ge=8, multiple_of=2, description="channels per attention head")
    mlp_width: int | None = Field(None, ge=16, description="hidden channels of the MLP; default: 3 · width")
    tie_embeddings: bool | None = Field(
        None,
        description="share one matrix between embedding and output head; default: if there are fewer than 12 layers",
    )
    tokens: int | None = Field(None, ge=1, description="tokens to train on; default: 10 per parameter")
    packing: Literal["best_fit", "concatenate"] = Field(
        "concatenate",
        description="how documents fill rows: concatenate wastes nothing; best_fit cuts only those longer than seq_len",
    )
    attend: Literal["row", "document"] = Field(
        "row", description="what a token attends to: all before it in its row, or only its own document (slow on a CPU)"
    )
    held_out: float = Field(0.02, ge=0, lt=1, description="share of the documents kept for measuring, never trained on")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
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
