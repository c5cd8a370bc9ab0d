"""The loader alone: encoding by processes, packing, and batches a second, on any text.

    python bench/loader.py [FILE_OR_FOLDER TOKENIZER_FOLDER] [--seq-len 256] [--batch-tokens 4096]

Without them a fictional web of seed 1 is made for the purpose. The peer of encoding is a plain loop over the same
documents with Hugging Face's tokenizers and the same tokenizer.json.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Literal

from transfer import make_run

from crawl2chat.refine.documents import read_texts
from crawl2chat.tokenizer.shards import TokenizedDocuments
from crawl2chat.tokenizer.tokenize import tokenize
from crawl2chat.train.data import DocumentBatches

BATCHES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="*", type=Path, metavar="FILE_OR_FOLDER TOKENIZER_FOLDER")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--part-bytes", type=int, default=1 << 20)
    options = parser.parse_args()
    if len(options.text) not in (0, 2):
        parser.error("give a text and a tokenizer, or neither")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.text:
            make_run(folder / "run")
        documents, tokenizer = options.text or (folder / "run" / "refine", folder / "run" / "tokenizer")
        training = measure_encoding(documents, tokenizer, folder, options.part_bytes)
        for packing in ("best_fit", "concatenate"):
            measure_batches(training, options.seq_len, options.batch_tokens // options.seq_len, packing)


def measure_encoding(documents: Path, tokenizer: Path, folder: Path, part_bytes: int) -> TokenizedDocuments:
    """By our processes and by the peer's loop; returns the tokens."""
    for workers in (1, 2):
        began = time.monotonic()
        training, _ = tokenize(
            documents, tokenizer, folder / str(workers), held_out=0, seed=0, workers=workers, part_bytes=part_bytes
        )
        _print(f"encode, {workers} workers", len(training.ids), time.monotonic() - began)
    began = time.monotonic()
    _print("encode, tokenizers, a loop", _with_tokenizers(documents, tokenizer), time.monotonic() - began)
    return training


def measure_batches(
    training: TokenizedDocuments, seq_len: int, rows: int, packing: Literal["best_fit", "concatenate"]
) -> None:
    began = time.monotonic()
    batches = DocumentBatches(training, seq_len, rows, 0, packing=packing)
    packed = time.monotonic()
    for step in range(BATCHES):
        batches(step)
    _print(f"batches, {packing}", BATCHES * rows * seq_len, time.monotonic() - packed)
    padding = 1 - len(training.ids) / (batches.rows_per_epoch * seq_len)
    print(f"  packed in {packed - began:.2f} s; padding {padding:.2%}, "
          f"documents cut {batches.documents_cut() / len(training):.1%}")  # fmt: skip


def _with_tokenizers(documents: Path, folder: Path) -> int:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return sum(len(tokenizer.encode(text).ids) + 1 for text in read_texts(documents))


def _print(what: str, n_tokens: int, seconds: float) -> None:
    print(f"{what:28} {n_tokens / seconds:12,.0f} tokens/s   {seconds:.2f} s")


if __name__ == "__main__":
    main()
