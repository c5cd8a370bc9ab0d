"""How fast models train, how much memory they take, and what one learns from text in some minutes."""

import contextlib
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from crawl2chat.evals.bits_per_byte import bits_per_byte, unigram_bits_per_byte
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.huggingface import on_meta
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer.shards import write_tokens
from crawl2chat.train.data import Batch, Batches, DocumentBatches, random_batches
from crawl2chat.train.devices import uses_bf16
from crawl2chat.train.fp8 import to_fp8
from crawl2chat.train.loop import train
from crawl2chat.train.memory import TrainingMemory, training_memory
from crawl2chat.train.metrics import peak_memory, read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings
from crawl2chat.train.utilisation import matmul_rate, utilisation_figures
from gpu_parts.job import Job, Row, Show, attempt, free_memory
from gpu_parts.texts import common_pieces, documents_of

WARM_UP = 3  # steps, of which the first compiles
FILLED = 0.8  # maximum share of a GPU's memory, as predicted
HELD_OUT = 20  # one document in this many
LEARNED_SHARE = 0.75  # of the time that is left after a trial; the rest is for compiling once more and measuring
FP8_SIZE = 8192  # of the matrices whose product is timed


class Enough(Exception):
    """Raised where a training asks for its next batch, to end it without a last checkpoint."""


def speed(job: Job, show: Show) -> None:
    """Tokens/s of training, next to the rate of matrix products, and memory next to the formula's."""
    dtype = torch.bfloat16 if job.device == "cuda" else torch.float32
    show(attempt(job, f"matrix products in {dtype}", lambda: [_rate(matmul_rate(job.device, dtype))]))
    if job.device == "cuda":
        show(attempt(job, "matrix products in fp8", lambda: [_rate(fp8_rate(job.device))]))
    for precision in job.sizes.precisions:
        for depth in job.sizes.depths:
            figures = partial(training_figures, job, depth, precision)
            show(attempt(job, f"training, depth {depth}, {precision}", figures))


def _rate(flops: float) -> Figure:
    return Figure("matmul_rate", flops / 1e12, "TFLOP/s")


def fp8_rate(device: str) -> float:
    """FLOP/s of products of two square matrices in fp8, the best of some."""
    n, times = FP8_SIZE, 10
    a, a_scale = to_fp8(torch.randn(n, n, device=device), torch.float8_e4m3fn)
    best = float("inf")
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(5):
        start.record()
        for _ in range(times):
            torch._scaled_mm(a, a.mT, a_scale, a_scale, out_dtype=torch.bfloat16, use_fast_accum=True)
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) / 1000 / times)
    return 2 * n**3 / best


def training_figures(job: Job, depth: int, precision: str) -> list[Figure]:
    """Of some steps of the training loop on random tokens."""
    sizes = job.sizes
    settings = PretrainSettings(
        depth=depth, seq_len=sizes.seq_len, batch_tokens=sizes.batch_tokens, precision=precision,
        compile=sizes.compile, device=job.device, checkpoint_every=10**9, evaluate_every=10**9,
    )  # fmt: skip
    config = model_config(settings, sizes.vocab)
    micro_batch = fitting(config, settings)
    while True:
        try:
            seconds = step_seconds(job, config, settings.model_copy(update={"micro_batch_tokens": micro_batch}))
            break
        except StageError as error:  # more memory than predicted
            if "out of memory" not in str(error) or micro_batch <= settings.seq_len:
                raise
        micro_batch //= 2
        free_memory(job.device)
    typical = settings.batch_tokens / statistics.median(seconds[WARM_UP:])
    model = on_meta(config)
    return [
        Figure("parameters", model.n_parameters()),
        Figure("tokens_per_second", typical, "tokens/s", count=len(seconds) - WARM_UP),
        *utilisation_figures(model, settings, typical)[1:],  # without the matrix rate, which has a row
        Figure("micro_batch", micro_batch, "tokens"),
        Figure("peak_memory", peak_memory(job.device) / 1e9, "GB"),
        Figure("predicted_memory", predicted_memory(config, settings, micro_batch).peak / 1e9, "GB"),
        Figure("warm_up", sum(seconds[:WARM_UP]), "s"),
    ]


def step_seconds(job: Job, config: ModelConfig, settings: PretrainSettings) -> list[float]:
    """Of each step, the first ones included."""
    model = Transformer(config)
    model.init_weights(0)
    steps = WARM_UP + job.sizes.timed_steps
    batches = limited(random_batches(config.vocab_size, settings.batch_rows, settings.seq_len), steps, job)
    lines = run_training(NextToken(model, batches, settings), steps + 1, settings)
    if len(lines) <= WARM_UP:
        raise TimeoutError(f"only {len(lines)} steps in the time there was, of which {WARM_UP} warm up")
    return [line["seconds"] for line in lines]


def predicted_memory(config: ModelConfig, settings: PretrainSettings, micro_batch: int) -> TrainingMemory:
    """What `crawl2chat plan` predicts, by the same formula."""
    bf16, compiled = uses_bf16(settings, settings.device), settings.compile == "on"
    return training_memory(config, micro_batch, settings.device, bf16=bf16, compiled=compiled)


def fitting(config: ModelConfig, settings: PretrainSettings) -> int:
    """The most tokens of a forward pass that fit, by the formula; all of a step's on a CPU."""
    tokens = settings.batch_tokens
    if settings.device == "cuda":
        capacity = FILLED * torch.cuda.get_device_properties().total_memory
        while tokens > settings.seq_len and predicted_memory(config, settings, tokens).peak > capacity:
            tokens //= 2
    return tokens


def limited(batches: Batches, steps: int, job: Job) -> Batches:
    """The same batches, but no more than this many, and none when the time is up."""

    def batch(step: int) -> Batch:
        if step >= steps or job.left() <= 0:
            raise Enough
        return batches(step)

    return batch


def run_training(objective: Any, steps: int, settings: Any, **others: Any) -> list[dict[str, Any]]:
    """Train to the end, or until Enough; returns the metrics of the steps."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Enough):
            train(objective, steps, settings, Path(folder), label="bench", **others)
        return [line for line in read_metrics(Path(folder) / METRICS) if "tokens_per_second" in line]


def learning(job: Job, show: Show) -> None:
    """Bits per byte of held-out text, after as many steps as there is time for, or `epochs` of the text."""
    show(attempt(job, "learning from text", lambda: learn(job, show)))


def learn(job: Job, show: Show) -> list[Figure]:
    sizes = job.sizes
    documents = documents_of(job.text)
    held_out, training = documents[::HELD_OUT], [text for i, text in enumerate(documents) if i % HELD_OUT]
    tokenizer = common_pieces(training, sizes.learning_vocab)
    tokens = write_tokens(training, tokenizer, job.folder / "training")
    measured = write_tokens(held_out, tokenizer, job.folder / "held_out").first(sizes.evaluated)
    settings = PretrainSettings(
        depth=sizes.learning_depth, seq_len=sizes.learning_seq_len, batch_tokens=sizes.learning_batch,
        compile=sizes.compile, device=job.device, checkpoint_every=10**9, evaluate_every=10**9,
    )  # fmt: skip
    batches = DocumentBatches(tokens, settings.seq_len, settings.batch_rows, seed=0)

    def model() -> Transformer:
        made = Transformer(model_config(settings, tokenizer.vocab_size))
        made.init_weights(settings.seed)
        return made

    trial = WARM_UP + 3
    lines = run_training(NextToken(model(), limited(batches, trial, job), settings), trial + 1, settings)
    of_step = statistics.median(line["seconds"] for line in lines[WARM_UP:])
    in_epochs = int(sizes.epochs * batches.rows_per_epoch / settings.batch_rows)
    steps = max(1, min(in_epochs, int(LEARNED_SHARE * job.left() / of_step)))
    settings = settings.model_copy(update={"evaluate_every": max(1, steps // 5)})
    learner, bits = model(), []

    def evaluate(step: int) -> dict[str, float]:
        bits.append(bits_per_byte(learner, measured))
        show(Row(f"after {step:,} of {steps:,} steps", bits[-1:]))
        return {"bits_per_byte": bits[-1].value}

    began = time.monotonic()
    lines = run_training(NextToken(learner, batches, settings), steps, settings, evaluate=evaluate)
    seconds = time.monotonic() - began
    return [
        bits[-1],
        unigram_bits_per_byte(tokens, measured, tokenizer.vocab_size),
        Figure("parameters", learner.n_parameters()),
        Figure("seconds", seconds, "s"),
        Figure("tokens", steps * settings.batch_tokens, "tokens"),
        Figure("epochs", steps * settings.batch_rows / batches.rows_per_epoch),
        Figure("text", float(tokens.n_bytes.sum()) / 1e6, "MB", count=len(tokens)),
        Figure("tokens_per_second", statistics.median(line["tokens_per_second"] for line in lines), "tokens/s"),
    ]
