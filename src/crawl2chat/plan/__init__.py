"""What a recipe will take, before it is run: work, bytes, memory, hours and money."""

from pathlib import Path
from typing import TYPE_CHECKING

from crawl2chat.plan.refining import measure, rates_of_run, refining_rows
from crawl2chat.plan.table import Row, as_table
from crawl2chat.stages.files import StageError
from crawl2chat.stages.pipeline import STAGE_NAMES, Recipe
from crawl2chat.stages.stage import read_manifest

if TYPE_CHECKING:
    from crawl2chat.plan.training import Training, TrainingRate

__all__ = ["plan"]

DEVICE_COUNTS = (1, 8)  # of GPUs, if the caller names no number
HOURS_WITHOUT_GPU = 24.0  # a training that takes less on this machine is not planned on GPUs


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
    """Return a table of what the recipe will take; what is neither measured nor known is called assumed.

    A run with an imported model begins with fine-tuning it, of which the plan has memory and work per token.
    Refining is measured now on `warc` or on a small made-up web, or taken from a finished `run`, for this many `cores`
    at `core_price` dollars per hour. The speed of training is given as `flops` per second and device, or taken from the
    `run`, or measured here, or assumed: of `device` (a name in train/utilisation.py), or else of this machine and, for
    a training that takes days on it, of all these devices. It is for this many `devices`, each at `price` dollars per
    hour. Raises StageError if a run lacks a stage that is planned, and for two sources of one rate.
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
    imported = imported_model(run) if run else None
    if imported and "sft" in stages:
        from crawl2chat.model.huggingface import read_config
        from crawl2chat.plan.training import fine_tuning_rows

        rows += fine_tuning_rows(recipe.sft, read_config(imported))
    elif "pretrain" in stages:
        from crawl2chat.plan.training import Training, fine_tuning_rows, training_rows

        training = Training(recipe.pretrain, recipe.tokenizer.vocab_size)
        training_rates = _training_rates(training, run, measure_training, device, devices, flops)
        counts = (devices,) if devices else (1,) if run or measure_training or flops else DEVICE_COUNTS
        rows += training_rows(training, training_rates, counts, price)
        if "sft" in stages and recipe.sft.lora.rank:
            rows += fine_tuning_rows(recipe.sft, training.config)
    if not rows:
        raise StageError("plan: neither a crawl to refine nor a model to train; the fictional web takes seconds")
    return as_table(rows)


def imported_model(run: Path) -> Path | None:
    """The model that a run begins with instead of pretraining one."""
    manifest = read_manifest(run / "pretrain")
    return run / "pretrain" / "model" if manifest and manifest.stage == "import" else None


def _training_rates(
    training: "Training",
    run: Path | None,
    measure_training: bool,
    device: str | None,
    devices: int | None,
    flops: float | None,
) -> "list[TrainingRate]":
    from crawl2chat.plan.training import assumed_rate, given_rate, measured_rate, rate_of_run, rate_of_this_machine
    from crawl2chat.train.utilisation import DEVICES

    named = DEVICES[device] if device else None
    if flops:
        return [given_rate(flops, named)]
    if measure_training:
        return [measured_rate(training.settings, training.vocab_size, training.steps)]
    if run:
        return [rate_of_run(run, named)]
    if named:
        return [assumed_rate(named)]
    if devices:
        return [*map(assumed_rate, DEVICES.values())]
    here = rate_of_this_machine(training.settings)
    if training.flop / here.flops < HOURS_WITHOUT_GPU * 3600:
        return [here]
    return [here, *map(assumed_rate, DEVICES.values())]
