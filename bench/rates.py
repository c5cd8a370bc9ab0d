"""Learning rates for fine-tuning a model that was brought along: what is learned, and what of the rest is lost.

    python bench/rates.py MODEL CONVERSATIONS --prose FILE [--lora 0.0003 0.001 0.003] [--matrix 0.0003 0.001 0.004]

MODEL is a folder in transformers' form, CONVERSATIONS a file as for `sft`, PROSE text that has nothing to do with it.
For each rate the model is trained on some conversations, with LoRA and with all its weights. Printed are the loss on
other conversations (nats per token) and the bits per byte of the prose, both before and after. The embedding's rate is
a quarter of the matrices', as in the defaults.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.chat.settings import SftSettings
from crawl2chat.chat.sft import fine_tune
from crawl2chat.evals.base.from_outside import bits_of_text
from crawl2chat.generate import Engine
from crawl2chat.model import load_model
from crawl2chat.refine.documents import read_texts
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.settings import LoraSettings

HELD_OUT = 40  # conversations
PROSE = 30_000  # characters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("conversations", type=Path)
    parser.add_argument("--prose", type=Path, required=True)
    parser.add_argument("--lora", type=float, nargs="*", default=[0.0003, 0.001, 0.003])
    parser.add_argument("--matrix", type=float, nargs="*", default=[0.0003, 0.001, 0.004])
    parser.add_argument("--train", type=int, default=200, help="conversations to train on (200)")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.model)
    conversations = read_conversations(options.conversations)
    random.Random(options.seed).shuffle(conversations)
    held_out, training = conversations[:HELD_OUT], conversations[HELD_OUT:][: options.train]
    common = {
        "epochs": options.epochs, "seq_len": 512, "batch_tokens": options.batch_tokens, "documents": 0,
        "seed": options.seed,
    }  # fmt: skip
    ways = [("lora", rate, {"lora": LoraSettings(rank=16, lr=rate)}) for rate in options.lora]
    ways += [("all weights", rate, {"matrix_lr": rate, "embedding_lr": rate / 4}) for rate in options.matrix]
    with tempfile.TemporaryDirectory() as scratch:
        prose = Path(scratch, "prose.txt")
        prose.write_text("\n\n".join(read_texts(options.prose))[:PROSE], encoding="utf-8")
        before = bits_of_text(Engine(load_model(options.model), tokenizer), prose)[0].value
        print(f"{len(training)} conversations, {options.epochs} epochs; bits per byte of prose before: {before:.4f}")
        print(f"{'':12} {'rate':>8} {'loss before':>12} {'after':>8} {'prose after':>12} {'seconds':>8}", flush=True)
        for name, rate, settings in ways:
            began = time.perf_counter()
            out = Path(scratch, f"{name} {rate}")
            out.mkdir()
            figures = fine_tune(
                training, options.model, tokenizer, out, SftSettings(**common, **settings), "sft", (), held_out
            )
            took = time.perf_counter() - began
            found = {figure.name: figure.value for figure in figures}
            after = bits_of_text(Engine(load_model(out), tokenizer), prose)[0].value
            print(f"{name:12} {rate:8g} {found['held_out_loss_before']:12.4f} {found['held_out_loss']:8.4f} "
                  f"{after:12.4f} {took:8.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
