"""Recipes that a test can run: one that ends in seconds, and one that goes on until it is stopped."""

import time
from pathlib import Path

from crawl2chat.api import package_recipes
from crawl2chat.serve.app.context import RunStarter
from crawl2chat.stages.pipeline import Recipe

TINY = {
    "people": 10, "passages_per_level": 1, "passage_levels": 1, "glossaries": 1, "word_games": 1, "phrase_books": 1,
    "interviews": 1, "stories": 2, "verses": 3, "worked_sums": 6, "direct_sums": 6, "held_out_sums": 6,
    "junk_pages": 12, "personal_pages": 1,
}  # fmt: skip
ENDLESS = TINY | {"junk_pages": 3_000_000}
PATIENCE = 900  # seconds, for machines that are busy with other things


def write_recipes(runs: Path) -> None:
    """Next to the runs in this folder: recipes/tiny.toml and recipes/endless.toml."""
    (runs / "recipes").mkdir(parents=True)
    for name, world in (("tiny", TINY), ("endless", ENDLESS)):
        lines = [f"# A {name} recipe,\n# for tests.\nuntil = 'crawl'\n[crawl.tinyweb]"]
        (runs / "recipes" / f"{name}.toml").write_text("\n".join([*lines, *(f"{k} = {v}" for k, v in world.items())]))


def starter(refusal: str | None = None) -> RunStarter:
    return RunStarter(Recipe, package_recipes(), refusal)


def run_named(served, name: str) -> dict:
    found = served.http.get("/app/runs/list").json()["runs"]
    return next(run for run in found if run["name"] == name)


def wait_for_state(served, name: str, *states: str) -> dict:
    end = time.monotonic() + PATIENCE
    while (run := run_named(served, name))["state"] not in states:
        assert time.monotonic() < end, run
        time.sleep(0.2)
    return run
