"""A scaling law from a few small runs, and whether it foretells a larger one.

    python bench/scaling.py [--text FILE] [--depths 3 4 5] [--tokens 250_000 500_000 1_000_000]
                            [--next-depth 6] [--next-tokens 2_000_000] [--out FOLDER] [--plot FILE] [--quick]
                            [--pretrain.NAME VALUE ...]

Each depth is trained on each number of tokens, with pretraining's defaults and whatever --pretrain.NAME sets (on a
GPU: --depths 6 8 10 12 --pretrain.seq_len 2048 ...), the shapes following from the depth. loss(N, D) = E + A/N^alpha +
B/D^beta is fitted to their bits per byte on held-out documents, N being all parameters that compute. Then the next
size is trained, of which the fit has seen nothing, and its bits per byte stand beside the predicted ones. Intervals
(95 %) are of refits to resampled errors, that of the prediction with such an error of its own. One tokenizer and the
same held-out documents serve all runs.

The text is --text, by default data/prose/prose.txt.gz below $CRAWL2CHAT_SHARED: a .txt, also .txt.gz, or what
`crawl2chat pretrain` reads. With --out, runs that are done there are not done again.
"""

import argparse
import gzip
import json
import os
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from scaling_law import Run, ScalingLaw, fit_scaling_law, refit_scaling_law, scaled_errors  # the file next to this one

from crawl2chat.model import load_model
from crawl2chat.stages.files import atomic_write
from crawl2chat.stages.pipeline import find_stage
from crawl2chat.stages.settings import load_settings
from crawl2chat.stages.stage import run_stage
from crawl2chat.tokenizer.stage import TokenizerSettings
from crawl2chat.train.settings import PretrainSettings

DOCUMENT = 10_000  # characters, to the next empty line, where the text is one file without documents
HELD_OUT = 0.05  # of the documents
DRAWS = 200


def documents_of(text: Path, folder: Path) -> Path:
    """What pretraining can read: the text itself, or, of a plain text file, JSON lines of its pieces."""
    if not text.name.endswith((".txt", ".txt.gz")):
        return text
    target = folder / "documents.jsonl"
    with (
        (gzip.open if text.suffix == ".gz" else open)(text, "rt", encoding="utf-8", errors="replace") as lines,
        atomic_write(target) as temporary,
        open(temporary, "w", encoding="utf-8") as out,
    ):
        piece = ""
        for line in lines:
            piece += line
            if not line.strip() and len(piece) >= DOCUMENT:
                out.write(json.dumps({"text": piece}) + "\n")
                piece = ""
        if piece:
            out.write(json.dumps({"text": piece}) + "\n")
    return target


def train(documents: Path, tokenizer: Path, folder: Path, depth: int, tokens: int, flags: list[str]) -> Run:
    flags = [f"--pretrain.held_out={HELD_OUT}", *flags, f"--pretrain.depth={depth}", f"--pretrain.tokens={tokens}"]
    settings = load_settings(PretrainSettings, None, flags, table="pretrain")
    out = folder / f"depth-{depth}-tokens-{tokens}"
    inputs = {"refine": documents, "tokenizer": tokenizer}
    manifest, _ = run_stage(find_stage("pretrain"), inputs, out, settings)
    figures = {figure.name: figure for figure in manifest.figure_list()}
    if "held_out_bits_per_byte" not in figures:
        raise SystemExit(f"{documents}: none of its documents was held out; give a longer text or --pretrain.held_out")
    loss, speed = figures["held_out_bits_per_byte"], figures["tokens_per_second"]
    model = load_model(out)
    embedding = 0 if model.config.tie_word_embeddings else model.model.embed_tokens.weight.numel()
    run = Run(model.n_parameters() - embedding, figures["training_tokens"].value, loss.value)
    print(
        f"{depth:5} {run.parameters / 1e6:10.2f}M {run.tokens / 1e6:8.2f}M {figures['epochs'].value:7.2f} "
        f"{figures['training_flop'].value:9.1e} {run.loss:9.4f} {manifest.seconds:8.0f} {speed.value:9,.0f}",
        flush=True,
    )
    return run


def interval(values: list[float]) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"[{low:.4g}, {high:.4g}]"


def plot(file: Path, runs: list[Run], law: ScalingLaw, new: Run) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    tokens = np.geomspace(min(run.tokens for run in runs), new.tokens * 1.5, 100)
    for size in sorted({run.parameters for run in [*runs, new]}):
        (line,) = axes.plot(tokens, [law.loss(size, d) for d in tokens], lw=1, label=f"{size / 1e6:.2f}M parameters")
        points = [run for run in runs if run.parameters == size]
        axes.scatter([run.tokens for run in points], [run.loss for run in points], color=line.get_color())
    axes.scatter([new.tokens], [new.loss], marker="*", s=150, color="black", label="measured, not fitted", zorder=3)
    axes.set(xscale="log", xlabel="training tokens", ylabel="held-out bits per byte")
    axes.legend(frameon=False)
    figure.savefig(file, bbox_inches="tight")


def options_and_flags() -> tuple[argparse.Namespace, list[str]]:
    """What was given, and the settings of pretraining among it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--vocab", type=int, default=2048, help="tokens; few, or the head is most of a small model")
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--tokens", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--next-depth", type=int, default=6)
    parser.add_argument("--next-tokens", type=int, default=2_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: depths 2 3 4, then 5")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--plot", type=Path, help="draw the fit into this file")
    options, flags = parser.parse_known_args()
    if options.quick:
        options.depths, options.tokens = [2, 3, 4], [65_536, 131_072, 262_144]
        options.next_depth, options.next_tokens = 5, 524_288
    shared = os.environ.get("CRAWL2CHAT_SHARED")
    options.text = options.text or (Path(shared) / "data" / "prose" / "prose.txt.gz" if shared else None)
    if options.text is None:
        parser.error("--text FILE, or CRAWL2CHAT_SHARED, must say what to train on")
    return options, flags


def print_fit(runs: list[Run], law: ScalingLaw, refits: list[ScalingLaw]) -> None:
    print("fit:  " + "  ".join(
        f"{name} = {getattr(law, name):.4g} {interval([getattr(other, name) for other in refits])}"
        for name in ("E", "A", "B", "alpha", "beta")
    ))  # fmt: skip
    error = np.sqrt(np.mean(scaled_errors(runs, law) ** 2))
    print(f"error of the fitted runs: {100 * error:.2f} % (root mean square, for a new run)")


def print_prediction(runs: list[Run], law: ScalingLaw, refits: list[ScalingLaw], new: Run) -> None:
    """The run that the fit has not seen, beside what the law and what no law would have said of it."""
    drawn = np.random.default_rng(1).choice(scaled_errors(runs, law), DRAWS)
    predicted = law.loss(new.parameters, new.tokens)
    spread = [other.loss(new.parameters, new.tokens) * np.exp(e) for other, e in zip(refits, drawn, strict=True)]
    print(f"predicted {predicted:.4f} {interval(spread)}, measured {new.loss:.4f} bits per byte: "
          f"{100 * (new.loss / predicted - 1):+.2f} %")  # fmt: skip
    largest = max(runs, key=lambda run: run.parameters * run.tokens)
    print(f"the largest fitted run had {largest.loss:.4f}; without a law that would be the guess: "
          f"{100 * (new.loss / largest.loss - 1):+.2f} %")  # fmt: skip
    best_n, best_d = law.best_size(6 * new.parameters * new.tokens)
    print(f"best split of its compute by the law: {best_n / 1e6:.2f}M parameters, {best_d / best_n:.1f} tokens each")


def main() -> None:
    options, flags = options_and_flags()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        documents = documents_of(options.text, folder)
        tokenizer = folder / "tokenizer"
        vocabulary = TokenizerSettings(vocab_size=options.vocab)
        run_stage(find_stage("tokenizer"), {"refine": documents}, tokenizer, vocabulary)
        print("depth  parameters    tokens  epochs      FLOP  bits/byte  seconds  tokens/s")
        grid = product(options.depths, options.tokens)
        runs = [train(documents, tokenizer, folder, depth, tokens, flags) for depth, tokens in grid]
        law = fit_scaling_law(runs)
        refits = refit_scaling_law(runs, law, DRAWS, seed=0)
        print_fit(runs, law, refits)
        new = train(documents, tokenizer, folder, options.next_depth, options.next_tokens, flags)
        print_prediction(runs, law, refits, new)
        if options.plot:
            plot(options.plot, runs, law, new)
    print(f"{time.monotonic() - began:,.0f} seconds in all")


if __name__ == "__main__":
    main()
