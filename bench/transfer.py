"""Whether the learning rates that suit one depth suit another: bits per byte by depth and rate.

    python bench/transfer.py [--run RUN] [--depths 3 4 6] [--tokens 300000] [--factors 0.25 0.5 1 2 4] [--keep FOLDER]

Each depth is trained once with its default rates and once with one of them, the matrices' or the embedding's, times
each factor. Rates transfer if the best factor is the same at every depth. RUN is a folder in which `crawl2chat run
--until tokenizer` has ended (default: a fictional web of seed 1, made for the purpose, since the default run's is not
for choosing settings). With --keep the trained models stay, and the same command goes on where it was ended.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from crawl2chat.stages.pipeline import find_stage
from crawl2chat.stages.stage import run_stage
from crawl2chat.train.settings import PretrainSettings

RATES = ("matrix_lr", "embedding_lr")


def make_run(run: Path) -> None:
    command = [sys.executable, "-m", "crawl2chat", "run", "--crawl.seed", "1", "--until", "tokenizer"]
    subprocess.run([*command, "--out", str(run)], check=True, stdout=subprocess.DEVNULL)


def bits_per_byte(run: Path, keep: Path, depth: int, tokens: int, rate: str, factor: float) -> float:
    usual = PretrainSettings(depth=depth, tokens=tokens)
    changed = {} if factor == 1 else {rate: getattr(usual, rate) * factor}
    settings = PretrainSettings(depth=depth, tokens=tokens, **changed)
    name = "-".join([f"depth{depth}", str(tokens), *(f"{key}{value:g}" for key, value in changed.items())])
    inputs = {stage: run / stage for stage in ("refine", "tokenizer")}
    manifest, _ = run_stage(find_stage("pretrain"), inputs, keep / name, settings)
    return next(figure.value for figure in manifest.figure_list() if figure.name == "held_out_bits_per_byte")


def sweep(run: Path, keep: Path, depths: list[int], tokens: int, factors: list[float]) -> None:
    for rate in RATES:
        table: dict[int, list[float]] = {}
        for depth in depths:
            table[depth] = [bits_per_byte(run, keep, depth, tokens, rate, factor) for factor in factors]
        print(f"\n{rate}, times {'':4}" + "".join(f"{factor:>9g}" for factor in factors) + "     best rate")
        for depth, row in table.items():
            best = factors[row.index(min(row))] * getattr(PretrainSettings(depth=depth), rate)
            print(f"  depth {depth:<12}" + "".join(f"{value:9.4f}" for value in row) + f"{best:14.4g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run's folder, tokenizer included")
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 4, 6])
    parser.add_argument("--tokens", type=int, default=300_000, help="tokens each model is trained on")
    parser.add_argument("--factors", type=float, nargs="+", default=[0.25, 0.5, 1, 2, 4], help="on the default rates")
    parser.add_argument("--keep", type=Path, help="folder for the trained models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or Path(folder) / "run"
        if arguments.run is None:
            make_run(run)
        sweep(run, arguments.keep or Path(folder) / "models", arguments.depths, arguments.tokens, arguments.factors)


if __name__ == "__main__":
    main()
