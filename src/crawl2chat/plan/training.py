"""What pretraining will take: parameters, tokens, FLOP, memory of a device, disk, hours and money.

The rate of a device (FLOP per second) is measured here, taken from a run, given, or assumed, and the table says which.
"""

import contextlib
import io
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from crawl2chat.chat.settings import SftSettings
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.adapters import AdaptedTransformer
from crawl2chat.plan.table import Row, as_bytes, as_count, as_time
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS, read_manifest
from crawl2chat.train.data import random_batches
from crawl2chat.train.devices import choose_device, compiles, uses_bf16
from crawl2chat.train.distributed import BYTES_PER_PARAMETER, REPLICA_SHARE
from crawl2chat.train.loop import train
from crawl2chat.train.lora import shape_of
from crawl2chat.train.memory import MicroBatch, TrainingMemory, rows_within, training_memory
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import model_config, training_steps
from crawl2chat.train.settings import PretrainSettings
from crawl2chat.train.utilisation import Device, known_device, matmul_rate

THIS_MACHINE = "this machine"  # without a GPU
NARROW = 768  # channels; below this a GPU mostly waits for the next small product
FILLED = 0.9  # maximum share of a device's memory; the allocator's gaps and the driver take the rest
ASSUMED_UTILISATION = 0.4  # of a data sheet's peak; what well-kept trainers report of dense models on one node
MEASURED_SECONDS = 40.0  # for the steps of a measurement, by a rough guess beforehand
UTILISATION_HERE = 0.3  # of the rate of matrix products; what the default recipe reaches on two cores
GUESSED_UTILISATION = 0.2  # of the matrix rate, to choose what is measured
MEASURED_FILL = 0.5  # maximum share of this machine's memory in a measurement
WARM_UP, TIMED = 2, 5  # steps


@dataclass(frozen=True)
class TrainingRate:
    """flops: per second and device, as `flops_per_token` counts them; start: seconds before steps are regular."""

    device: str
    flops: float
    how: str
    memory: float | None = None  # bytes of the device
    price: float | None = None  # dollars per hour, assumed
    start: float = 0.0


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
        """Tokens of whole steps, as in pretraining."""
        return self.steps * self.settings.batch_tokens

    @property
    def steps(self) -> int:
        return training_steps(self.settings, self.model.n_parameters())

    @property
    def flop(self) -> float:
        return float(self.tokens * self.model.flops_per_token(self.settings.seq_len))

    def rows(self, devices: int) -> int:
        """Return the rows of a micro-batch: the recipe's, or all of a device's share if it leaves them open."""
        share = -(-self.settings.batch_rows // devices)
        return rows_within(
            (self.settings.micro_batch_tokens or self.settings.batch_tokens) // self.settings.seq_len, share
        )

    def memory(self, rows: int, shards: int = 1) -> TrainingMemory:
        """Return the memory of a device, in the arithmetic that a GPU will use if the recipe leaves it open."""
        tokens = rows * self.settings.seq_len
        return training_memory(self.config, tokens, self.device, bf16=self.bf16, compiled=self.compiled, shards=shards)

    def fitting_rows(self, rows: int, shards: int, capacity: float) -> int:
        """Return `rows`, halved until a micro-batch of them fits a device of `capacity` bytes; 0 if one is too many."""
        while rows and self.memory(rows, shards).peak > FILLED * capacity:
            rows //= 2
        return rows

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
        """Return the number of devices that share the weights by the setting `parallel` (train/distributed.py)."""
        whole_is_too_much = self.model.n_parameters() * BYTES_PER_PARAMETER > REPLICA_SHARE * capacity
        sharded = self.settings.parallel == "fsdp" or (self.settings.parallel == "auto" and whole_is_too_much)
        return devices if sharded else 1


def training_rows(
    training: Training, rates: Sequence[TrainingRate], counts: Sequence[int], price: float | None
) -> Iterator[Row]:
    """counts: numbers of devices, one row per number and rate. price: dollars per device and hour; None: as assumed."""
    yield from _size_rows(training)
    yield from _memory_rows(training, rates)
    for rate in rates:
        if rate.start >= 1:
            yield "seconds to start", f"{rate.start:,.0f}", "measured: compiling and first steps"
        for count in counts if rate.device != THIS_MACHINE or len(counts) == 1 else (1,):
            hours = (training.flop / rate.flops / count + rate.start) / 3600
            yield f"time on {count} × {rate.device}", as_time(hours), _remark(training, rate, count, hours, price)


def _size_rows(training: Training) -> Iterator[Row]:
    settings, n = training.settings, training.model.n_parameters()
    in_blocks = sum(p.numel() for p in training.model.model.layers.parameters())
    per_token = training.model.flops_per_token(settings.seq_len)
    head = "one matrix" if training.config.tie_word_embeddings else "two matrices"
    yield "parameters", as_count(n), f"depth {settings.depth}, {training.config.hidden_size} wide"
    yield (
        "  without embeddings",
        as_count(in_blocks),
        f"embedding and head are {head} of {training.vocab_size:,} tokens",
    )
    yield "training tokens", as_count(training.tokens), f"{training.tokens / n:.1f} per parameter"
    yield "training steps", f"{training.steps:,}", f"of {settings.batch_tokens:,} tokens"
    yield (
        "training FLOP",
        f"{training.flop:.2e}",
        f"{per_token:.3g} per token: forward, backward, attention in its row",
    )


def _memory_rows(training: Training, rates: Sequence[TrainingRate]) -> Iterator[Row]:
    """Yield the memory of the smallest device, as training halves open micro-batches until they fit, and disk."""
    settings = training.settings
    rows = training.rows(1)
    capacity, device = min(((rate.memory, rate.device) for rate in rates if rate.memory), default=(0.0, ""))
    if device and not settings.micro_batch_tokens:
        rows = training.fitting_rows(rows, 1, capacity) or 1
    memory = training.memory(rows)
    kind = f"{'compiled' if training.compiled else 'eager'}, {'bf16' if training.bf16 else 'fp32'}"
    micro_batch = f"{rows:,} × {settings.seq_len:,} tokens"
    if rows < training.rows(1):
        micro_batch += f", the most that fit {device}"
    yield "memory of a device", as_bytes(memory.peak), f"by formula, all on each device, micro-batches of {micro_batch}"
    yield "  weights", as_bytes(memory.weights), "fp32, and a copy in bf16" if training.bf16 else "fp32"
    yield "  gradients", as_bytes(memory.gradients), "fp32"
    yield "  optimiser", as_bytes(memory.optimiser), "fp32: momentum of matrices, mean and square of the rest"
    yield "  activations", as_bytes(memory.activations), f"of a micro-batch; assumed: {kind}"
    yield "  logits", as_bytes(memory.logits), "of a micro-batch"
    yield "  or Muon's step", as_bytes(memory.step), "when activations and logits are gone; the larger one counts"
    saved = 4 * training.model.n_parameters() + memory.optimiser
    most = (settings.keep_checkpoints + 1) * saved
    checkpoints = f"checkpoints of {as_bytes(saved)}: {settings.keep_checkpoints}, and one being written"
    yield "disk", as_bytes(most), checkpoints
    bytes_per_id = 2 if training.config.vocab_size <= 2**16 else 4
    yield "  and the text", as_bytes(2 * bytes_per_id * training.tokens), "as ids, if read once; half of it stays"


def fine_tuning_rows(settings: SftSettings, config: ModelConfig) -> Iterator[Row]:
    """Yield what the stage sft trains of a model, and the memory that it takes on this machine's device."""
    device = choose_device(settings)
    lora = settings.lora
    with torch.device("meta"):
        model = Transformer(config)
        n = model.n_parameters()
        if lora.rank:
            model = AdaptedTransformer.on(model, shape_of(lora))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    tokens = min(MicroBatch(settings, device, "sft", of_step=settings.batch_tokens).tokens, settings.batch_tokens)
    in_rows = replace(config, max_position_embeddings=settings.seq_len)
    memory = training_memory(
        in_rows, tokens, device, bf16=uses_bf16(settings, device), compiled=settings.compile != "off", lora=lora
    )
    what = f"an adapter of rank {lora.rank}, {trained / n:.1%} of" if lora.rank else "all of"
    yield "fine-tuning (sft) trains", as_count(trained), f"{what} {as_count(n)} parameters"
    yield (
        "FLOP per token of it",
        f"{model.flops_per_token(settings.seq_len):.3g}",
        "forward, backward, attention in its row",
    )
    kept = f"{as_bytes(memory.weights)} of weights, {as_bytes(memory.gradients + memory.optimiser)} to train them"
    yield "memory of it", as_bytes(memory.peak), f"by formula: {kept}, the rest for micro-batches of {tokens:,} tokens"


def _remark(training: Training, rate: TrainingRate, count: int, hours: float, price: float | None) -> str:
    words = []
    per_hour = rate.price if price is None else price
    if per_hour is not None:
        words.append(f"${hours * count * per_hour:,.2f} at ${per_hour:g} per hour{' (assumed)' * (price is None)}")
    words.append(f"{rate.flops / 1e12:,.3g} TFLOP/s{' each' * (count > 1)}, {rate.how}")
    if rate.how.startswith("assumed") and rate.device != THIS_MACHINE and training.config.hidden_size < NARROW:
        words.append(f"a model {training.config.hidden_size} wide reaches far less")
    if rate.memory:
        words.append(_fit(training, count, rate.memory))
    return "; ".join(words)


def _fit(training: Training, count: int, capacity: float) -> str:
    """Say whether the recipe's micro-batch fits a device of `capacity` bytes, and the largest that does."""
    shards, rows = training.shards(count, capacity), training.rows(count)
    divided = f"divided among {shards} (fsdp)" if shards > 1 else "whole on each"
    needed, usable = training.memory(rows, shards).peak, FILLED * capacity
    if needed <= usable:
        return f"{as_bytes(needed)} of {as_bytes(capacity)}, {divided}"
    too_much = f"DOES NOT FIT: {as_bytes(needed)} of {as_bytes(capacity)}, {divided}"
    rows = training.fitting_rows(rows, shards, capacity)
    if rows and count == 1 and not training.settings.micro_batch_tokens:
        found = f"micro-batches of {rows * training.settings.seq_len:,} tokens, which training finds by itself"
        return f"{as_bytes(training.memory(rows, shards).peak)} of {as_bytes(capacity)} in {found}"
    if rows:
        return f"{too_much}; it does with pretrain.micro_batch_tokens = {rows * training.settings.seq_len}"
    return f"{too_much}, nor does one row of {training.settings.seq_len:,}; give more devices or a smaller model"


def rate_of_this_machine(settings: PretrainSettings) -> TrainingRate:
    """Return a rate for this machine: an assumed share of the rate of matrix products, which is measured now."""
    device = choose_device(settings)
    name, memory, price = _here(device)
    rate = matmul_rate(device, torch.bfloat16 if uses_bf16(settings, device) else torch.float32)
    how = f"assumed: {UTILISATION_HERE:.0%} of its rate of matrix products, measured now; --measure trains a few steps"
    return TrainingRate(name, UTILISATION_HERE * rate, how, memory, price)


def assumed_rate(device: Device) -> TrainingRate:
    how = f"assumed: {ASSUMED_UTILISATION:.0%} of its data sheet's {device.bf16_flops / 1e12:,.0f} TFLOP/s in bf16"
    return TrainingRate(device.name, ASSUMED_UTILISATION * device.bf16_flops, how, device.memory, device.price)


def given_rate(flops: float, device: Device | None) -> TrainingRate:
    if device is None:
        return TrainingRate("the device", flops, "given (--flops)")
    return TrainingRate(device.name, flops, "given (--flops)", device.memory, device.price)


def rate_of_run(run: Path, device: Device | None) -> TrainingRate:
    """Return the rate of a run's pretraining: its utilisation times the matrix rate that this is a share of.

    device: the one that the run had, if its memory and price matter. Raises StageError for a run without a rate.
    """
    manifest = read_manifest(run / "pretrain")
    figures = {figure.name: figure.value for figure in manifest.figure_list()} if manifest else {}
    if "model_flop_utilisation" not in figures:
        raise StageError(f"--rates {run}: has no finished pretrain stage that measured its speed; leave --rates out")
    utilisation, rate = figures["model_flop_utilisation"], figures["matmul_rate"]
    how = f"measured: {run}'s {figures['tokens_per_second']:,.0f} tokens/s, {utilisation:.0%} of its matrix rate"
    if device is None:
        return TrainingRate("the run's device", utilisation * rate, how)
    return TrainingRate(device.name, utilisation * rate, how, device.memory, device.price)


def measured_rate(settings: PretrainSettings, vocab_size: int, steps: int) -> TrainingRate:
    """Train the recipe's own model here for a few steps on random tokens.

    steps: of the whole training, which decide whether it is compiled. Where a step would take too long, it is given
    fewer micro-batches, then a smaller one; where one sequence is too much in time or memory, the model has fewer
    layers.
    """
    device = choose_device(settings)
    name, memory, price = _here(device)
    flops_per_token = _flops_per_token(model_config(settings, vocab_size), settings.seq_len)
    compiled = compiles(settings, device, steps * settings.batch_tokens * flops_per_token)
    bf16 = uses_bf16(settings, device)
    rate = matmul_rate(device, torch.bfloat16 if bf16 else torch.float32)
    affordable_flop = GUESSED_UTILISATION * rate * MEASURED_SECONDS / (WARM_UP + TIMED)
    small = affordable(settings, vocab_size, affordable_flop, memory, device)
    update = {"compile": "on" if compiled else "off", "checkpoint_every": 10**9, "track": "none"}
    small = small.model_copy(update=update)
    speed, start = _time_steps(small, vocab_size)
    flops = speed * _flops_per_token(model_config(small, vocab_size), small.seq_len)
    how = f"measured: {TIMED} steps of {small.batch_tokens:,} tokens at depth {small.depth}"
    if small.depth < settings.depth:
        how += f", the deepest that {MEASURED_SECONDS:g} s and this memory are enough for"
    return TrainingRate(name, flops, f"{how}; {flops / rate:.0%} of its matrix rate", memory, price, start)


def _here(device: str) -> tuple[str, float, float | None]:
    """Return the name, memory in bytes and assumed price of the device that training would take here."""
    if device == "cpu":
        return THIS_MACHINE, float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")), None
    name, memory = torch.cuda.get_device_name(), float(torch.cuda.get_device_properties().total_memory)
    known = known_device(name)
    return name, memory, known.price if known else None


def affordable(
    settings: PretrainSettings, vocab_size: int, flop: float, memory: float, device: str
) -> PretrainSettings:
    """Return settings with a step that fits and takes at most `flop`, as close to the recipe's as possible."""
    bf16 = uses_bf16(settings, device)
    for depth in range(settings.depth, 0, -1):
        shape = settings.model_copy(update={"depth": depth})
        config = model_config(shape, vocab_size)
        flop_of_row = settings.seq_len * _flops_per_token(config, settings.seq_len)
        rows = min(settings.batch_rows, int(flop / flop_of_row))
        micro_rows = min(
            rows, MicroBatch(shape, device, "pretrain", of_step=shape.batch_tokens).tokens // settings.seq_len
        )
        while micro_rows and _peak(config, micro_rows * settings.seq_len, device, bf16) > MEASURED_FILL * memory:
            micro_rows //= 2
        if micro_rows:
            micro = micro_rows * settings.seq_len
            return shape.model_copy(update={"batch_tokens": rows // micro_rows * micro, "micro_batch_tokens": micro})
    raise StageError(
        f"--measure: not one sequence of pretrain.seq_len = {settings.seq_len} can be trained on here in the time of a "
        "measurement, at any depth; give --device NAME for an assumed rate"
    )


def _peak(config: ModelConfig, tokens: int, device: str, bf16: bool) -> float:
    return training_memory(config, tokens, device, bf16=bf16, compiled=False).peak


def _flops_per_token(config: ModelConfig, context: int) -> int:
    with torch.device("meta"):
        return Transformer(config).flops_per_token(context)


def _time_steps(settings: PretrainSettings, vocab_size: int) -> tuple[float, float]:
    """Return the median tokens/s of the timed steps, and how many seconds longer the first ones took."""
    model = Transformer(model_config(settings, vocab_size))
    model.init_weights(settings.seed)
    with tempfile.TemporaryDirectory(prefix="crawl2chat-plan-") as folder, contextlib.redirect_stderr(io.StringIO()):
        objective = NextToken(model, random_batches(vocab_size, settings.batch_rows, settings.seq_len), settings)
        train(objective, WARM_UP + TIMED, settings, Path(folder), label="pretrain")
        lines = read_metrics(Path(folder) / METRICS)
    seconds = [settings.batch_tokens / line["tokens_per_second"] for line in lines]
    typical = statistics.median(seconds[WARM_UP:])
    return settings.batch_tokens / typical, max(0.0, sum(seconds[:WARM_UP]) - WARM_UP * typical)
