"""What each command does. Each is a few lines; what it needs is imported when it runs, so that help is quick."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

MODEL_STAGES = ("base", "sft", "honesty", "reinforce", "prefer")  # that leave a model; base is pretrain's


def run_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.report import print_stage, write_report
    from crawl2chat.stages.pipeline import Recipe, run_pipeline
    from crawl2chat.stages.settings import load_settings
    from crawl2chat.stages.stage import prune

    file = find_recipe(options.recipe)
    for name in ("conversations", "until"):
        if getattr(options, name):
            flags = [*flags, f"--{name}={getattr(options, name)}"]
    recipe = load_settings(Recipe, file, flags)
    folder = options.out = options.out or Path("runs") / file.stem
    for result in run_pipeline(recipe, folder, first=options.first, force=options.force):
        print_stage(folder / result.stage.name, result.manifest, result.ran)
    if options.prune:
        count, n_bytes = prune(folder)
        print(f"pruned: {count} replaced stages, {n_bytes / 1e6:,.1f} MB", file=sys.stderr)
    print(f"report: {write_report(folder)}")
    return 0


def stage_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.report import print_stage
    from crawl2chat.stages.files import StageError
    from crawl2chat.stages.pipeline import (
        Recipe,
        check_settings,
        check_sources,
        find_stage,
        from_conversations,
        outside_inputs,
    )
    from crawl2chat.stages.settings import load_settings
    from crawl2chat.stages.stage import run_stage

    if getattr(options, "explain", None):
        return explain_command(options, flags)
    if options.out is None or None in getattr(options, "inputs", []):
        raise StageError(f"{options.command}: give WARC to read and --out DIR to write into, or --explain URL")
    stage = find_stage(options.command)
    for path in getattr(options, "inputs", []):
        if address := re.match(r"(https?|s3):/+(.+)", str(path)):
            raise StageError(
                f"{stage.name} reads files, not addresses; for a WARC: crawl2chat crawl --crawl.source warc "
                f"--crawl.warc {address[1]}://{address[2]} --out CRAWL, then {stage.name} CRAWL; "
                "a web site is stored as WARC by `wget --recursive --warc-file=NAME ADDRESS`"
            )
    table = type(Recipe.model_fields[stage.name].default)
    settings = load_settings(table, options.recipe, flags, table=stage.name)
    places = getattr(options, "inputs", [])
    if stage.name == "sft" and places[0].is_file():
        stage = from_conversations(stage)
    inputs = dict(zip(stage.inputs, places, strict=True))
    outside = outside_inputs(stage, settings)
    check_settings(stage, settings)
    manifest, ran = run_stage(
        stage, inputs, options.out, settings, outside=outside, force=options.force, made_by="command",
        check=lambda: check_sources(settings),
    )  # fmt: skip
    print_stage(options.out, manifest, ran)
    return 0


def follow() -> int:
    """What the ranks other than the first do under torchrun: join it in the stages that it calls them to."""
    from crawl2chat.parallel import torchrun
    from crawl2chat.stages.pipeline import Recipe, find_stage

    for call in torchrun.calls():
        stage = find_stage(call["stage"])
        settings = type(Recipe.model_fields[stage.name].default).model_validate(call["settings"])
        stage.load()(*map(Path, call["inputs"]), Path(call["out"]), settings)
    return 0


def explain_command(options: argparse.Namespace, flags: list[str]) -> int:
    """Of a run by its folder or recipe (the default one's), or of a crawl or WARC, with --out its refine folder."""
    from crawl2chat.refine.explain import explain
    from crawl2chat.refine.settings import RefineSettings
    from crawl2chat.stages.settings import load_settings

    place, recipe = options.inputs[0] or Path("runs") / find_recipe(None).stem, options.recipe
    if place.suffix == ".toml":
        place, recipe = Path("runs") / place.stem, recipe or place
    run = place if (place / "crawl").is_dir() else None
    if run and not recipe and (run / "recipe.toml").exists():
        recipe = run / "recipe.toml"
    settings = load_settings(RefineSettings, recipe, flags, table="refine")
    crawl, refined = (run / "crawl", run / "refine") if run else (place, options.out)
    explain(crawl, refined, text_of("refine --explain", options.explain), settings)
    return 0


def plan_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.plan import plan
    from crawl2chat.stages.pipeline import Recipe
    from crawl2chat.stages.settings import load_settings

    if options.until:
        flags = [*flags, f"--until={options.until}"]
    recipe = load_settings(Recipe, find_recipe(options.recipe), flags)
    print(
        plan(
            recipe, warc=options.warc, run=options.rates, measure_training=options.measure, cores=options.cores,
            core_price=options.core_price, device=options.device, devices=options.devices, price=options.price,
            flops=options.flops,
        )
    )  # fmt: skip
    return 0


def classify_command(options: argparse.Namespace) -> int:
    from crawl2chat.refine.quality.classify import train_from_files
    from crawl2chat.stages.disks import check_writable

    check_writable(options.out)
    model = train_from_files(
        options.positive, options.negative, options.labels, options.threshold,
        bits=options.bits, epochs=options.epochs, seed=options.seed,
    )  # fmt: skip
    model.save(options.out)
    print(f"{model.describe()}\nclassifier: {options.out}")
    return 0


def judge_command(options: argparse.Namespace) -> int:
    from crawl2chat.refine.quality.judge import Judge, judge_files

    judge = Judge(options.url, options.model, key_of("judge", options.key_variable) or "", options.timeout)
    counts = judge_files(options.files, judge, options.out, threads=options.threads, sample=options.sample)
    print(", ".join(f"{count:,} {what}" for what, count in counts.items()) + f"\nlabels: {options.out}")
    return 1 if counts["unanswered"] else 0


def report_command(options: argparse.Namespace) -> int:
    from crawl2chat.report import print_stage, read_run, write_report

    page = write_report(options.run)
    for folder, manifest in read_run(options.run):
        print_stage(folder, manifest, ran=False)
    print(f"report: {page}")
    return 0


def find_recipe(path: Path | None) -> Path:
    """The file that was named, or laptop.toml as it lies in a checkout or in an installed package."""
    if path is not None:
        return path
    package = Path(__file__).parents[1]
    installed = package / "recipes" / "laptop.toml"
    return installed if installed.exists() else package.parents[1] / "recipes" / "laptop.toml"


def sampling_of(options: argparse.Namespace, top_logprobs: int = 0):  # type: ignore[no-untyped-def]  # its type would import torch
    from crawl2chat.generate import Sampling
    from crawl2chat.stages.files import StageError

    numbers = (
        "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
        "max_tokens", "seed",
    )  # fmt: skip
    try:
        return Sampling(
            **{name: getattr(options, name) for name in numbers},
            stop=tuple(options.stop), logit_bias=dict(options.logit_bias), top_logprobs=top_logprobs,
        )  # fmt: skip
    except ValueError as error:
        raise StageError(str(error)) from error


def text_of(command: str, argument: str) -> str:
    """An argument in which bytes that are not UTF-8, which Python keeps as halves of surrogate pairs, are U+FFFD."""
    text = argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if text != argument:
        print(f"{command}: the text is not UTF-8; each byte that is not became U+FFFD", file=sys.stderr)
    return text


def read_stdin(command: str) -> str:
    """All of it, without the line end that editors and echo put last."""
    from crawl2chat.stages.files import StageError
    from crawl2chat.stages.text_files import NotText, decode

    try:
        return decode(sys.stdin.buffer.read()).removesuffix("\n")
    except NotText as error:
        raise StageError(f"{command} -: stdin can't be read as text: {error}") from error


def key_of(command: str, variable: str | None) -> str | None:
    """The key that the environment variable holds; None where no variable was named."""
    from crawl2chat.stages.files import StageError

    if variable and not os.environ.get(variable):
        raise StageError(f"{command} --key-variable {variable}: there is no such environment variable")
    return os.environ[variable] if variable else None


def name_of(run: Path, folder: Path) -> str:
    """What a model is called after its folders, such as laptop-sft."""
    return "-".join(dict.fromkeys([run.resolve().name, folder.resolve().name]))


def find_model(options: argparse.Namespace) -> tuple[Path, str | None]:
    """The folder of the model that was named, and the stage that made it, if one did ("import" of one from outside).

    Of a run without --stage: the best assistant by its check-ups, or its base model where no assistant was trained.
    """
    from crawl2chat.chat.assistant import CHAT_STAGES, assistants, best_of
    from crawl2chat.stages.files import StageError
    from crawl2chat.stages.stage import is_current, read_manifest

    run = options.model
    if run.is_file():
        raise StageError(
            f"{run}: is a file; expected a run's folder, such as runs/laptop, or a model's (config.json, safetensors)"
            + (" (GGUF files are not read)" if run.suffix == ".gguf" else "")
        )
    if not run.is_dir():
        raise StageError(f"{run}: there is no such folder; expected a run's, such as runs/laptop, or a model's")
    if options.stage:
        folder = run / ("pretrain" if options.stage == "base" else options.stage)
        manifest = read_manifest(folder)
        if not manifest:
            raise StageError(f"{run}: has no finished model of the stage {options.stage}")
        if not is_current(run, manifest):
            raise StageError(
                f"{folder}: made from an earlier state of the run; run it again, or name this folder itself"
            )
        return folder, manifest.stage
    choices = assistants(run)
    best = best_of(choices)
    for name in CHAT_STAGES:
        if read_manifest(run / name) and all(choice.folder.name != name for choice in choices):
            print(f"{run / name}: made from an earlier state of the run, so left out", file=sys.stderr)
    if best:
        if best.folder != choices[-1].folder:
            scores = ", ".join(f"{choice.folder.name} {choice.score:.0%}" for choice in choices if choice.score)
            print(
                f"(the stage {best.folder.name}, the best assistant by the run's check-ups: {scores})", file=sys.stderr
            )
        return best.folder, best.manifest.stage
    base = read_manifest(run / "pretrain")
    if base and is_current(run, base):
        return run / "pretrain", base.stage
    manifest = read_manifest(run)
    return run, manifest.stage if manifest else None


def load_engine(options: argparse.Namespace, **limits: int | None):  # type: ignore[no-untyped-def]  # its type would import torch
    """The engine of the model that was named and the stage that made it, if one did."""
    folder, stage = find_model(options)
    return read_engine(folder, False, **limits), stage


def read_engine(folder: Path, keep_model: bool = False, **limits: int | None):  # type: ignore[no-untyped-def]  # as above
    """The engine of the model in a folder, with these limits where they are given; to generate with, not to train.

    keep_model: leave its model whole beside the engine's own copy of the matrices, to look into.
    """
    import torch

    from crawl2chat.generate import Engine
    from crawl2chat.model import load_model
    from crawl2chat.stages.files import StageError
    from crawl2chat.tokenizer import Tokenizer

    model = load_model(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    given: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    try:
        return Engine(model, Tokenizer.load(folder), empties_model=not keep_model, **given)
    except ValueError as error:  # a limit that is none for this model
        raise StageError(str(error)) from error
