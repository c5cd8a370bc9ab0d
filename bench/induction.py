"""What makes a model learn from its prompt: accuracy on word games, with one thing changed at a time.

    python bench/induction.py [--tokens 4000000] [--seed 1] [--keep FOLDER] [--only NAME ...]

Each line is a fictional web of its own and a model trained on it with the recipe laptop.toml but for what the line
names; rates fall over the last 30 % of the tokens. Then the base suite's questions: games of 8 invented words, each
with a meaning that holds on that page alone, and what one of them means; `absent`: the word is not on the page.
`pairs foretold by` is where, during training, half of the pairs of tokens that come again on held-out pages were
foretold (`copied` in metrics.jsonl). The seed is not the default run's, which is not for choosing settings.
With --keep the folders stay, and the same command goes on where it was ended.
"""

import argparse
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

from crawl2chat.evals.base.in_context import measure_in_context
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.stages.pipeline import Recipe, find_stage
from crawl2chat.stages.settings import load_settings
from crawl2chat.stages.stage import METRICS, run_stage
from crawl2chat.tinyweb import glossary
from crawl2chat.train.metrics import read_metrics

LAPTOP = Path(__file__).parents[1] / "recipes" / "laptop.toml"
LONG_ROUNDS = "games in rounds of 12 words"
VARIANTS: dict[str, tuple[str, ...]] = {
    "as in the recipe": (),
    "embedding rate 0.01": ("--pretrain.embedding_lr", "0.01"),
    "batches of 2,048 tokens": ("--pretrain.batch_tokens", "2048"),
    "half as many games": ("--crawl.tinyweb.word_games", "750"),
    "no games": ("--crawl.tinyweb.word_games", "0"),
    LONG_ROUNDS: (),
}


def train(folder: Path, variant: str, tokens: int, seed: int) -> None:
    flags = ["--crawl.seed", str(seed), "--pretrain.tokens", str(tokens), "--pretrain.decay", "0.3"]
    recipe = load_settings(Recipe, LAPTOP, [*flags, *VARIANTS[variant]])
    for name in ("crawl", "refine", "tokenizer", "pretrain"):
        stage = find_stage(name)
        run_stage(stage, {key: folder / key for key in stage.inputs}, folder / name, getattr(recipe, name))


def measure(folder: Path) -> dict[str, float]:
    (folder / "asked").mkdir(exist_ok=True)
    parts = [folder / name for name in ("crawl", "refine", "pretrain", "asked")]
    subject = ModelUnderTest.load(*parts, settings=BaseSettings())
    figures = {figure.name: figure.value for figure in measure_in_context(subject)}
    lines = read_metrics(folder / "pretrain" / METRICS)
    tokens = {line["step"]: line["tokens"] for line in lines if "tokens" in line}
    formed = [tokens[line["step"]] for line in lines if line.get("copied", 0) >= 0.5]
    rates = [line["bits_per_byte"] for line in lines if "bits_per_byte" in line]
    return figures | {"formed": min(formed, default=float("nan")), "bits_per_byte": rates[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4_000_000, help="tokens each model is trained on")
    parser.add_argument("--seed", type=int, default=1, help="of the fictional web")
    parser.add_argument("--keep", type=Path, help="folder for webs and models")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    arguments = parser.parse_args()
    columns = ("glossary/1", "glossary/4", "glossary/8", "glossary_absent/8", "definitions/8")
    heads = [name.replace("glossary", "games").replace("_absent/8", " absent") for name in columns]
    print(f"{'':28}" + "".join(f"{name:>15}" for name in heads) + "  pairs foretold by  bits a byte")
    with tempfile.TemporaryDirectory() as temporary:
        for variant in arguments.only:
            folder = (arguments.keep or Path(temporary)) / variant.replace(" ", "-").replace(",", "")
            sizes: AbstractContextManager[object] = nullcontext()
            if variant == LONG_ROUNDS:
                sizes = patch.object(glossary, "ROUND_SIZES", (12,))
            with sizes:
                train(folder, variant, arguments.tokens, arguments.seed)
            found = measure(folder)
            shares = "".join(f"{100 * found[name]:13.0f} %" for name in columns)
            print(f"{variant:28}{shares}{found['formed'] / 1e6:15.2f} M{found['bits_per_byte']:14.3f}", flush=True)


if __name__ == "__main__":
    main()
