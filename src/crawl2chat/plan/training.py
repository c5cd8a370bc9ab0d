"""What pretraining will take: parameters, tokens, FLOP, memory of a device, disk, hours and money."""

from collections.abc import Iterator
from pathlib import Path

import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.checkpoint import KEPT
from crawl2chat.plan.rows import Row, as_bytes, as_count
from crawl2chat.plan.training_rates import TrainingRate, assumed_rate, given_rate, measured_rate, rate_of_run
from crawl2chat.train.memory import TrainingMemory, training_memory
from crawl2chat.train.pretrain import TOKENS_PER_PARAMETER, model_config
from crawl2chat.train.settings import PretrainSettings
from crawl2chat.train.utilisation import DEVICES

FILLED = 0.9  # of a device's memory, at most: the allocator's gaps and the driver take the rest


def training_rows(
    settings: PretrainSettings,
    vocab_size: int,
    *,
    measure: bool,
    run: Path | None,
    flops: float | None,
    device: str | None,
    devices: list[int],
    price: float | None,
) -> Iterator[Row]:
    """flops: a second and device, if it is known. price: dollars a device and hour. See `crawl2chat plan --help`."""
    config = model_config(settings, vocab_size)
    with torch.device("meta"):  # sizes without memory
        model = Transformer(config)
    n, embedding = model.n_parameters(), model.model.embed_tokens.weight.numel()
    tokens = settings.tokens or TOKENS_PER_PARAMETER * n
    steps = max(1, round(tokens / settings.batch_tokens))
    a_token = model.flops_per_token(settings.seq_len)
    yield "parameters", as_count(n), f"depth {settings.depth}, {config.hidden_size} wide, {vocab_size:,} tokens known"
    yield "parameters in blocks", as_count(n - embedding * (1 if config.tie_word_embeddings else 2)), "no embedding or head"
    yield "training tokens", as_count(tokens), f"{tokens / n:.1f} a parameter"
    yield "training steps", f"{steps:,}", f"of {settings.batch_tokens:,} tokens in rows of {settings.seq_len:,}"
    yield "training FLOP", f"{tokens * a_token:.2e}", f"{a_token:.3g} a token, forward and backward, with attention"
    rates = _rates(settings, vocab_size, steps, measure, run, flops, device)
    yield from _memory_rows(config, settings)
    one = training_memory(config, settings.seq_len, bf16=False, compiled=True)
    saved = 4 * n + one.optimiser
    yield "checkpoints", as_bytes((KEPT + 1) * saved), f"{as_bytes(saved)} each: weights and optimiser; {KEPT}, and one being written"
    for rate in rates:
        if rate.start > 1:
            yield "seconds to start", f"{rate.start:,.0f}", "measured: compiling, first steps"
        for count in devices:
            hours = (tokens * a_token / rate.flops / count + rate.start) / 3600
            what = f"hours on {count} × {rate.device}"
            yield what, _hours(hours), _word(rate, config, settings, count, hours, price)


def _rates(
    settings: PretrainSettings,
    vocab_size: int,
    steps: int,
    measure: bool,
    run: Path | None,
    flops: float | None,
    device: str | None,
) -> list[TrainingRate]:
    named = DEVICES[device] if device else None
    if flops:
        return [given_rate(flops, named)]
    if run:
        return [rate_of_run(run, named)]
    if measure:
        return [measured_rate(settings, vocab_size, steps)]
    return [assumed_rate(one) for one in ([named] if named else DEVICES.values())]


def _memory_rows(config: ModelConfig, settings: PretrainSettings) -> Iterator[Row]:
    bf16, compiled = _how(settings)
    tokens = settings.micro_batch_rows * settings.seq_len
    memory = training_memory(config, tokens, bf16=bf16, compiled=compiled)
    yield "memory a device", as_bytes(memory.peak), f"with micro-batches of {tokens:,} tokens, by formula:"
    yield "  weights", as_bytes(memory.weights), "fp32" + (" and a bf16 copy" if bf16 else "")
    yield "  gradients", as_bytes(memory.gradients), "fp32"
    yield "  optimiser", as_bytes(memory.optimiser), "momentum of matrices; mean and square of all else"
    yield "  activations", as_bytes(memory.activations), f"{'compiled' if compiled else 'eager'}, {'bf16' if bf16 else 'fp32'}"
    yield "  logits", as_bytes(memory.logits), "and their gradient"
    yield "  or: a step of Muon", as_bytes(memory.step), "instead of activations and logits, if it is more"


def _word(
    rate: TrainingRate, config: ModelConfig, settings: PretrainSettings, count: int, hours: float, price: float | None
) -> str:
    words = []
    per_hour = price if price is not None else rate.price
    if per_hour is not None:
        words.append(f"${hours * count * per_hour:,.2f} at ${per_hour:g} an hour{' (assumed)' * (price is None)}")
    words.append(f"{rate.flops / 1e12:,.3g} TFLOP/s {rate.how}")
    if count > 1:
        words.append(f"assumed: {count} are {count} times as fast")
    if rate.memory:
        words.append(_fit(config, settings, rate.memory, count))
    return "; ".join(words)


def _fit(config: ModelConfig, settings: PretrainSettings, capacity: float, count: int) -> str:
    """Whether the recipe's micro-batch fits, whole on each device or, if not, divided among all."""
    bf16, compiled = _how(settings)
    rows = settings.micro_batch_rows
    for shards in (1, count):
        if _memory(config, settings, rows, shards).peak <= FILLED * capacity:
            return "fits" if shards == 1 else f"fits divided (FSDP)"
    ...
