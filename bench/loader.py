"""The loader alone: encoding by processes, packing, and batches a second, on any text.

    python bench/loader.py FILE_OR_FOLDER TOKENIZER_FOLDER [--seq-len 256] [--batch-tokens 4096]

The peer of encoding is a plain loop over the same documents with Hugging Face's tokenizers and the same tokenizer.json.
"""

import argparse
import tempfile
import time
from pathlib import Path

from crawl2chat.refine.documents import read_texts
from crawl2chat.tokens.tokenize import tokenize
from crawl2chat.train.data import DocumentBatches

BATCHES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--part-bytes", type=int, default=1 << 20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            began = time.monotonic()
            training, _ = tokenize(
                options.documents, options.tokenizer, Path(folder) / str(workers), held_out=0, seed=0,
                workers=workers, part_bytes=options.part_bytes,
            )  # fmt: skip
            _print(f"encode, {workers} workers", len(training.ids), time.monotonic() - began)
        began = time.monotonic()
        _print("encode, tokenizers, a loop", _with_tokenizers(options), time.monotonic() - began)
        for packing in ("best_fit", "concatenate"):
            began = time.monotonic()
            batches = DocumentBatches(
                training, options.seq_len, options.batch_tokens // options.seq_len, 0, packing=packing
            )
            packed = time.monotonic()
            for step in range(BATCHES):
                batches(step)
            _print(f"batches, {packing}", BATCHES * options.batch_tokens, time.monotonic() - packed)
            padding = 1 - len(training.ids) / (batches.rows_per_epoch * options.seq_len)
            print(f"  packed in {packed - began:.2f} s; padding {padding:.2%}, "
                  f"documents cut {batches.documents_cut() / len(training):.1%}")  # fmt: skip


def _with_tokenizers(options: argparse.Namespace) -> int:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    return sum(len(tokenizer.encode(text).ids) + 1 for text in read_texts(options.documents))


def _print(what: str, n_tokens: int, seconds: float) -> None:
    print(f"{what:28} {n_tokens / seconds:12,.0f} tokens/s   {seconds:.2f} s")


if __name__ == "__main__":
    main()
