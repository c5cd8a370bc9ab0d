"""The commands about whole runs: taking a recipe through its stages, its plan, its report, several runs compared."""

import argparse
import sys
from pathlib import Path

from crawl2chat.api import find_recipe
from crawl2chat.cli.arguments import Add, add_all, add_recipe, add_seed, add_settings, within
from crawl2chat.cli.stages import STAGES
from crawl2chat.stages.files import StageError

PLANNED_DEVICES = ("b200", "h200", "h100", "a100", "l40s", "4090")  # train/utilisation.py knows them
FILE_STAGES = {"conversations": "sft", "questions": "honesty", "problems": "reinforce", "prompts": "prefer"}


def add_run(add: Add) -> None:
    run = add(
        "run", "take a recipe through all its stages, skipping those that are done", run_command,
        example="laptop --pretrain.depth 6 --until pretrain --out runs/deeper", takes_settings=True,
    )  # fmt: skip
    add_recipe(run)
    for kind, stage in FILE_STAGES.items():
        run.add_argument(
            f"--{kind}", metavar="FILE", help=f"{kind} for the stage {stage}, instead of the made-up web's"
        )
    run.add_argument(
        "--model", metavar="MODEL", help="begin with this model instead of pretraining one, as `import` takes it"
    )
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME, by the recipe's name)"
    )
    run.add_argument(
        "--from", dest="first", choices=STAGES, metavar="STAGE", help="run this stage and all later ones again"
    )
    run.add_argument("--until", choices=STAGES, metavar="STAGE", help="stop after this stage")
    run.add_argument("--force", action="store_true", help="run every stage again, including those made by hand")
    run.add_argument("--prune", action="store_true", help="delete earlier results that were moved to replaced/")
    add_seed(run, "seed of every stage whose own seed neither the recipe nor a setting names")
    add_all(run)
    add_settings(run)


def run_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.report import print_run, print_stage, write_report
    from crawl2chat.stages.pipeline import Recipe, run_pipeline
    from crawl2chat.stages.settings import load_settings
    from crawl2chat.stages.stage import prune

    file = find_recipe(options.recipe)
    named = {name: getattr(options, name) for name in (*FILE_STAGES, "model", "until") if getattr(options, name)}
    recipe = load_settings(Recipe, file, flags, values=named, seed=options.seed)
    folder = options.out = options.out or Path("runs") / file.stem
    manifests = []
    for result in run_pipeline(recipe, folder, first=options.first, force=options.force):
        print_stage(folder / result.stage.name, result.manifest, result.ran, everything=options.all)
        manifests.append(result.manifest)
    if options.prune:
        count, n_bytes = prune(folder)
        print(f"pruned: {count} replaced stages, {n_bytes / 1e6:,.1f} MB", file=sys.stderr)
    print_run(folder, manifests)
    print(f"report: {write_report(folder)}")
    return 0


def add_plan(add: Add) -> None:
    plan = add(
        "plan", "estimate what a recipe needs: work, bytes, hours, cost", plan_command,
        example="gpu --device h100 --devices 8", takes_settings=True,
    )  # fmt: skip
    add_recipe(plan)
    plan.add_argument("--until", choices=STAGES, metavar="STAGE", help="plan the stages up to this one")
    plan.add_argument("--rates", type=Path, metavar="RUN", help="take rates from this finished run's stages")
    refining = plan.add_argument_group("refining")
    refining.add_argument("--warc", type=Path, help="measure rates on this WARC (default: on a small made-up web)")
    refining.add_argument(
        "--cores", type=within(int, 1), default=1000, metavar="N", help="number of cores for refining (1000)"
    )
    refining.add_argument(
        "--core-price", type=within(float, 0), default=0.04, metavar="DOLLARS", help="price per core and hour (0.04)"
    )
    training = plan.add_argument_group("pretraining")
    training.add_argument(
        "--measure", action="store_true", help="measure the training rate here: a few steps, about a minute"
    )
    training.add_argument(
        "--flops", type=within(float, 1), metavar="FLOPS", help="take this rate, in FLOP per second and device"
    )
    training.add_argument(
        "--device", choices=PLANNED_DEVICES, help="kind of GPU (default: all of these, at assumed rates)"
    )
    training.add_argument("--devices", type=within(int, 1), metavar="N", help="number of devices")
    training.add_argument(
        "--price", type=within(float, 0), metavar="DOLLARS",
        help="price per device and hour (default: assumed from its name)",
    )  # fmt: skip


def plan_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.plan import plan
    from crawl2chat.stages.pipeline import Recipe
    from crawl2chat.stages.settings import load_settings

    until = {"until": options.until} if options.until else {}
    recipe = load_settings(Recipe, find_recipe(options.recipe), flags, values=until)
    print(
        plan(
            recipe, warc=options.warc, run=options.rates, measure_training=options.measure, cores=options.cores,
            core_price=options.core_price, device=options.device, devices=options.devices, price=options.price,
            flops=options.flops,
        )
    )  # fmt: skip
    return 0


def add_report(add: Add) -> None:
    report = add("report", "write a run's report.html and print its figures", report_command, example="runs/laptop")
    report.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    add_all(report)


def report_command(options: argparse.Namespace) -> int:
    from crawl2chat.report import print_stage, read_run, write_report

    page = write_report(options.run)
    for folder, manifest in read_run(options.run):
        print_stage(folder, manifest, ran=None, everything=options.all)
    print(f"report: {page}")
    return 0


def add_compare(add: Add) -> None:
    compare = add(
        "compare", "put the figures of several runs into one table, with mean, spread and interval", compare_command,
        example="runs/seed1 runs/seed2 runs/seed3 --stage sft --out figures.csv",
    )  # fmt: skip
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs' folders, or stages' folders")
    compare.add_argument("--stage", choices=STAGES, help="compare this stage only (default: all that a run has)")
    compare.add_argument(
        "--out", type=Path, metavar="FILE",
        help="write all figures, one per line: run, seed, stage, figure, value, unit, low, high, count; "
        "as CSV or Parquet by the file's ending",
    )  # fmt: skip
    add_all(compare)


def compare_command(options: argparse.Namespace) -> int:
    from crawl2chat.report import compare, effects
    from crawl2chat.stages.disks import check_writable

    if options.out:
        if options.out.suffix not in (".csv", ".parquet"):
            raise StageError(f"compare --out {options.out}: expected a file that ends in .csv or .parquet")
        check_writable(options.out)
    rows = compare.read_figures(options.runs, options.stage)
    unlike = compare.unlike_settings(options.runs, options.stage)
    print(compare.comparison_table(compare.compare_runs(rows, unlike), unlike, everything=options.all))
    if shown := effects.effects_table(rows):
        print(f"\n{shown}")
    if options.out:
        compare.write_figures(rows, options.out)
        print(f"figures: {options.out}")
    return 0
