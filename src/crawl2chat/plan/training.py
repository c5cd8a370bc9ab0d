"""What pretraining will take: parameters, tokens, FLOP, memory of a device, disk, hours and money."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.plan.rows import Row, as_bytes, as_count, as_number
from crawl2chat.plan.training_rates import TrainingRate
from crawl2chat.train.distributed import BYTES_PER_PARAMETER, REPLICA_SHARE
from crawl2chat.train.memory import TrainingMemory, rows_within, training_memory
from crawl2chat.train.pretrain import model_config, training_steps
from crawl2chat.train.settings import PretrainSettings

NARROW = 768  # channels, below which a GPU mostly waits for the next small product
FILLED = 0.9  # of a device's memory at most; the allocator's gaps and the driver take the rest


@dataclass(frozen=True)
class Training:
    """A recipe's pretraining, and the sizes that follow from it."""

    settings: PretrainSettings
    vocab_size: int

    @cached_property
    def config(self) -> ModelConfig:
        return model_config(self.settings, self.vocab_size)

    @cached_property
    def model(self) -> Transformer:
        with torch.device("meta"):  # sizes without memory
            return Transformer(self.config)

    @property
    def tokens(self) -> int:
        """As many as whole steps have, like in pretraining."""
        return self.steps * self.settings.batch_tokens

    @property
    def steps(self) -> int:
        return training_steps(self.settings, self.model.n_parameters())

    @property
    def flop(self) -> float:
        return float(self.tokens * self.model.flops_per_token(self.settings.seq_len))

    def rows(self, devices: int) -> int:
        """Of a micro-batch, as the recipe has it; all of a device's share where it leaves them open."""
        share = -(-self.settings.batch_rows // devices)
        return rows_within(
            (self.settings.micro_batch_tokens or self.settings.batch_tokens) // self.settings.seq_len, share
        )

    def memory(self, rows: int, shards: int = 1) -> TrainingMemory:
        """Of a device, in the arithmetic that a GPU will use if the recipe leaves it open."""
        tokens = rows * self.settings.seq_len
        return training_memory(self.config, tokens, self.device, bf16=self.bf16, compiled=self.compiled, shards=shards)

    @property
    def device(self) -> str:
        return "cpu" if self.settings.device == "cpu" else "cuda"

    @property
    def bf16(self) -> bool:
        return self.settings.precision != "fp32"

    @property
    def compiled(self) -> bool:
        return self.settings.compile != "off"

    def shards(self, devices: int, capacity: float) -> int:
        """Devices that share the weights, as the setting `parallel` has it (train/distributed.py)."""
        whole_is_too_much = self.model.n_parameters() * BYTES_PER_PARAMETER > REPLICA_SHARE * capacity
        sharded = self.settings.parallel == "fsdp" or (self.settings.parallel == "auto" and whole_is_too_much)
        return devices if sharded else 1


def training_rows(
    training: Training, rates: Sequence[TrainingRate], counts: Sequence[int], price: float | None
) -> Iterator[Row]:
    """counts: of devices, each a row with each rate. price: dollars of one for an hour, instead of an assumed one."""
    yield from _size_rows(training)
    yield from _memory_rows(training)
    for rate in rates:
        if rate.start >= 1:
            yield "seconds to start", f"{rate.start:,.0f}", "measured: compiling and first steps"
        for count in counts:
            hours = (training.flop / rate.flops / count + rate.start) / 3600
            yield f"hours on {count} × {rate.device}", as_number(hours), _word(training, rate, count, hours, price)


def _size_rows(training: Training) -> Iterator[Row]:
    settings, n = training.settings, training.model.n_parameters()
    in_blocks = sum(p.numel() for p in training.model.model.layers.parameters())
    a_token = training.model.flops_per_token(settings.seq_len)
    head = "one matrix" if training.config.tie_word_embeddings else "two matrices"
    yield "parameters", as_count(n), f"depth {settings.depth}, {training.config.hidden_size} wide"
    yield (
        "  without embeddings",
        as_count(in_blocks),
        f"embedding and head are {head} of {training.vocab_size:,} tokens",
    )
    yield "training tokens", as_count(training.tokens), f"{training.tokens / n:.1f} a parameter"
    yield "training steps", f"{training.steps:,}", f"of {settings.batch_tokens:,} tokens"
    yield "training FLOP", f"{training.flop:.2e}", f"{a_token:.3g} a token: forward, backward, attention over its row"


def _memory_rows(training: Training) -> Iterator[Row]:
    settings = training.settings
    rows = training.rows(1)
    memory = training.memory(rows)
    kind = f"{'compiled' if training.compiled else 'eager'}, {'bf16' if training.bf16 else 'fp32'}"
    micro_batch = f"{rows:,} × {settings.seq_len:,} tokens"
    yield "memory of a device", as_bytes(memory.peak), f"by formula, all on each device, micro-batches of {micro_batch}"
    yield "  weights", as_bytes(memory.weights), "fp32, and a copy in bf16" if training.bf16 else "fp32"
    yield "  gradients", as_bytes(memory.gradients), "fp32"
    yield "  optimiser", as_bytes(memory.optimiser), "fp32: momentum of matrices, mean and square of the rest"
    yield "  activations", as_bytes(memory.activations), f"of a micro-batch; assumed: {kind}"
    yield "  logits", as_bytes(memory.logits), "of a micro-batch"
    yield "  or Muon's step", as_bytes(memory.step), "when activations and logits are gone; the larger one counts"
    saved = 4 * training.model.n_parameters() + memory.optimiser
    most = (settings.keep_checkpoints + 1) * saved
    yield (
        "disk",
        as_bytes(most),
        f"checkpoints of {as_bytes(saved)}: {settings.keep_checkpoints}, and one being written",
    )
    of_a_token = 2 if training.config.vocab_size <= 2**16 else 4
    yield (
        "  and the text",
        as_bytes(2 * of_a_token * training.tokens),
        "as ids, if read once; half of it stays",
    )


def _word(training: Training, rate: TrainingRate, count: int, hours: float, price: float | None) -> str:
    words = []
    per_hour = rate.price if price is None else price
    if per_hour is not None:
        words.append(f"${hours * count * per_hour:,.2f} at ${per_hour:g} an hour{' (assumed)' * (price is None)}")
    words.append(f"{rate.flops / 1e12:,.3g} TFLOP/s{' each' * (count > 1)}, {rate.how}")
    if rate.how.startswith("assumed") and training.config.hidden_size < NARROW:
        words.append(f"a model {training.config.hidden_size} wide reaches far less")
    if rate.memory:
        words.append(_fit(training, count, rate.memory))
    return "; ".join(words)


def _fit(training: Training, count: int, capacity: float) -> str:
    """Whether the recipe's micro-batch fits a device of so many bytes, and the largest that does."""
    shards, rows = training.shards(count, capacity), training.rows(count)
    divided = f"divided among {shards} (fsdp)" if shards > 1 else "whole on each"
    needed, usable = training.memory(rows, shards).peak, FILLED * capacity
    if needed <= usable:
        return f"{as_bytes(needed)} of {as_bytes(capacity)}, {divided}"
    too_much = f"DOES NOT FIT: {as_bytes(needed)} of {as_bytes(capacity)}, {divided}"
    while rows and training.memory(rows, shards).peak > usable:
        rows //= 2
    if rows and count == 1 and not training.settings.micro_batch_tokens:
        found = f"micro-batches of {rows * training.settings.seq_len:,} tokens, which training finds by itself"
        return f"{as_bytes(training.memory(rows, shards).peak)} of {as_bytes(capacity)} in {found}"
    if rows:
        return f"{too_much}; it does with pretrain.micro_batch_tokens = {rows * training.settings.seq_len}"
    return f"{too_much}, nor does one row of {training.settings.seq_len:,}; give more devices or a smaller model"
