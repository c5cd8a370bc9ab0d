"""How many FLOP of a model a device does in a second of training: measured here, taken from a run, given or assumed."""

import contextlib
import io
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS, read_manifest
from crawl2chat.train.data import Batch, Batches
from crawl2chat.train.devices import choose_device, compiles, uses_bf16
from crawl2chat.train.loop import train
from crawl2chat.train.memory import MicroBatch, training_memory
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings
from crawl2chat.train.utilisation import Device, known_device, matmul_rate

ASSUMED_UTILISATION = 0.4  # of a data sheet's peak; what well-kept trainers report of dense models on one node
MEASURED_SECONDS = 40.0  # that the steps of a measurement may take, by a rough guess beforehand
GUESSED_UTILISATION = 0.2  # of the matrix rate, to choose what is measured
FILLED = 0.5  # of this machine's memory, at most
WARM_UP, TIMED = 2, 5  # steps


@dataclass(frozen=True)
class TrainingRate:
    """flops: a second and device, of `Transformer.flops_per_token`'s kind; start: seconds before steps are regular."""

    device: str
    flops: float
    how: str
    memory: float | None = None  # bytes of the device
    price: float | None = None  # dollars an hour, assumed
    start: float = 0.0


def assumed_rate(device: Device) -> TrainingRate:
    how = f"assumed: {ASSUMED_UTILISATION:.0%} of its data sheet's {device.bf16_flops / 1e12:,.0f} TFLOP/s in bf16"
    return TrainingRate(device.name, ASSUMED_UTILISATION * device.bf16_flops, how, device.memory, device.price)


def given_rate(flops: float, device: Device | None) -> TrainingRate:
    if device is None:
        return TrainingRate("the device", flops, "given (--flops)")
    return TrainingRate(device.name, flops, "given (--flops)", device.memory, device.price)


def rate_of_run(run: Path, device: Device | None) -> TrainingRate:
    """Of a run's pretraining: its utilisation, times the matrix rate that this is a share of.

    device: what the run had, if its memory and price are to be known. Raises StageError for a run without a rate.
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
    with torch.device("meta"):
        flops_per_token = Transformer(model_config(settings, vocab_size)).flops_per_token(settings.seq_len)
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
    """Name, memory in bytes and assumed price of the device that training would take here."""
    if device == "cpu":
        return "this machine", float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")), None
    name, memory = torch.cuda.get_device_name(), float(torch.cuda.get_device_properties().total_memory)
    known = known_device(name)
    return name, memory, known.price if known else None


def affordable(
    settings: PretrainSettings, vocab_size: int, flop: float, memory: float, device: str
) -> PretrainSettings:
    """The settings with a step of no more than so many FLOP that fits, as near to the recipe's as can be."""
    bf16 = uses_bf16(settings, device)
    for depth in range(settings.depth, 0, -1):
        shape = settings.model_copy(update={"depth": depth})
        config = model_config(shape, vocab_size)
        flop_of_row = settings.seq_len * _flops_per_token(config, settings.seq_len)
        rows = min(settings.batch_rows, int(flop / flop_of_row))
        micro_rows = min(
            rows, MicroBatch(shape, device, "pretrain", of_step=shape.batch_tokens).tokens // settings.seq_len
        )
        while micro_rows and _peak(config, micro_rows * settings.seq_len, device, bf16) > FILLED * memory:
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
    """Median tokens/s of the timed steps, and by how many seconds the first ones took longer."""
    model = Transformer(model_config(settings, vocab_size))
    model.init_weights(settings.seed)
    with tempfile.TemporaryDirectory(prefix="crawl2chat-plan-") as folder, contextlib.redirect_stderr(io.StringIO()):
        objective = NextToken(model, random_batches(vocab_size, settings), settings)
        train(objective, WARM_UP + TIMED, settings, Path(folder), label="pretrain")
        lines = read_metrics(Path(folder) / METRICS)
    seconds = [settings.batch_tokens / line["tokens_per_second"] for line in lines]
    typical = statistics.median(seconds[WARM_UP:])
    return settings.batch_tokens / typical, max(0.0, sum(seconds[:WARM_UP]) - WARM_UP * typical)


def random_batches(vocab_size: int, settings: PretrainSettings) -> Batches:
    """Rows of tokens drawn evenly, each step its own."""

    def batch(step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(vocab_size, (settings.batch_rows, settings.seq_len + 1), generator=generator)
        return Batch(ids[:, :-1], ids[:, 1:], torch.ones(settings.batch_rows, settings.seq_len))

    return batch
