"""What a recipe will take, before it is run: work, bytes, memory, hours and money."""

from pathlib import Path
from typing import TYPE_CHECKING

from crawl2chat.plan.refining import refining_rows
from crawl2chat.plan.refining_rates import measure, rates_of_run
from crawl2chat.plan.rows import Row, as_table
from crawl2chat.stages.files import StageError
from crawl2chat.stages.pipeline import STAGE_NAMES, Recipe

if TYPE_CHECKING:
    from crawl2chat.plan.training import Training
    from crawl2chat.plan.training_rates import TrainingRate

__all__ = ["plan"]

DEVICE_COUNTS = (1, 8)  # planned for where none is asked


def plan(
    recipe: Recipe,
    *,
    warc: Path | None = None,
    run: Path | None = None,
    measure_training: bool = False,
    cores: int = 1000,
    core_price: float = 0.04,
    device: str | None = None,
    devices: int | None = None,
    price: float | None = None,
    flops: float | None = None,
) -> str:
    """A table of what the recipe will take; what is not measured or known is called assumed.

    Refining is measured now on `warc` or on a small fictional web, or taken from a finished `run`; on so many `cores`
    at `core_price` dollars an hour. The speed of training is given as `flops` a second of a device, or taken from the
    `run`, or measured here, or assumed: of `device` (a name in train/utilisation.py) or of all of these. On so many
    `devices`, each at `price` dollars an hour. Raises StageError where a run lacks a stage that is planned, and for
    two sources of one rate.
    """
    if warc and run:
        raise StageError("plan: --warc and --rates both say what refining takes; give one of them")
    if measure_training and (flops or device):
        raise StageError("plan: --measure takes the rate of this machine; leave out --flops and --device, or --measure")
    rows: list[Row] = []
    stages = STAGE_NAMES[: STAGE_NAMES.index(recipe.until) + 1]
    if "refine" in stages and recipe.crawl.source != "tinyweb":
        rates = rates_of_run(run) if run else measure(warc, recipe.refine)
        rows += refining_rows(recipe.crawl, recipe.refine, rates, cores, core_price)
    if "pretrain" in stages:
        from crawl2chat.plan.training import Training, training_rows

        training = Training(recipe.pretrain, recipe.tokenizer.vocab_size)
        training_rates = _training_rates(training, run, measure_training, device, flops)
        counts = (devices,) if devices else (1,) if run or measure_training or flops else DEVICE_COUNTS
        rows += training_rows(training, training_rates, counts, price)
    if not rows:
        raise StageError("plan: neither a crawl to refine nor a model to train; the fictional web takes seconds")
    return as_table(rows)


def _training_rates(
    training: "Training", run: Path | None, measure_training: bool, device: str | None, flops: float | None
) -> "list[TrainingRate]":
    from crawl2chat.plan.training_rates import assumed_rate, given_rate, measured_rate, rate_of_run
    from crawl2chat.train.utilisation import DEVICES

    named = DEVICES[device] if device else None
    if flops:
        return [given_rate(flops, named)]
    if measure_training:
        return [measured_rate(training.settings, training.vocab_size, training.steps)]
    if run:
        return [rate_of_run(run, named)]
    return [assumed_rate(one) for one in ([named] if named else DEVICES.values())]
