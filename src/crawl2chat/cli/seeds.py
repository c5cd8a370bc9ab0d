"""The command `seeds`: one recipe on several made-up webs and with several seeds, and which effects hold on all."""

import argparse
import sys
from pathlib import Path

from crawl2chat.api import find_recipe
from crawl2chat.cli.arguments import Add, add_all, add_recipe, add_settings, within
from crawl2chat.stages.files import StageError


def add_seeds(add: Add) -> None:
    seeds = add(
        "seeds", "run a recipe on several made-up webs and with several seeds, and see which effects hold on all",
        seeds_command, example="laptop --worlds 3 --seeds 3 --out runs/seeds", takes_settings=True,
    )  # fmt: skip
    add_recipe(seeds)
    seeds.add_argument(
        "--worlds",
        type=within(int, 1),
        default=3,
        metavar="N",
        help="number of made-up webs: crawl.seed 0 to N - 1 (3)",
    )
    seeds.add_argument(
        "--seeds", type=within(int, 1), default=3, metavar="N",
        help="number of seeds for all other stages: 0 to N - 1, all but the first on web 0 alone, so that there are "
        "worlds + seeds - 1 runs (3)",
    )  # fmt: skip
    seeds.add_argument(
        "--out", type=Path, required=True, metavar="DIR",
        help="where the runs go, a folder for each; the same command skips what is finished",
    )  # fmt: skip
    add_all(seeds)
    add_settings(seeds)


def seeds_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.report import compare, effects, write_report
    from crawl2chat.stages.pipeline import Recipe, run_pipeline
    from crawl2chat.stages.settings import load_settings

    set_twice = next((flag for flag in flags if flag.partition("=")[0].endswith(".seed")), None)
    if set_twice:
        raise StageError(f"seeds {set_twice}: this command sets the seeds itself; --worlds and --seeds say how many")
    pairs = [(world, 0) for world in range(options.worlds)] + [(0, seed) for seed in range(1, options.seeds)]
    recipes = {
        f"world{world}-seed{seed}": load_settings(
            Recipe, find_recipe(options.recipe), [*flags, "--crawl.seed", str(world)], seed=seed
        )
        for world, seed in pairs
    }
    for number, (name, recipe) in enumerate(recipes.items(), 1):
        print(f"run {number} of {len(recipes)}: {name}", file=sys.stderr)
        for _ in run_pipeline(recipe, options.out / name):
            pass
        write_report(options.out / name)
    runs = [options.out / name for name in recipes]
    rows = compare.read_figures(runs)
    print(compare.comparison_table(compare.compare_runs(rows), everything=options.all))
    if shown := effects.effects_table(rows):
        print(f"\n{shown}\n")
    compare.write_figures(rows, options.out / "figures.csv")
    print(f"figures: {options.out / 'figures.csv'}")
    return 0
