"""The commands that measure a model, archive texts with it and check a release: their options and what they do."""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from crawl2chat.commands import MODEL_STAGES, find_model

Add = Callable[..., argparse.ArgumentParser]


def add_evaluation(add: Add) -> None:
    evaluate = add("eval", "measure a model with a suite of tests", eval_command)
    evaluate.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")

    compress = add("compress", "archive a text by a model's predictions", compress_command)
    compress.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")
    compress.add_argument("file", nargs="?", default="-", metavar="FILE", help="any file; - or none is stdin")
    compress.add_argument("--out", type=Path, required=True, metavar="FILE", help="the archive")
    compress.add_argument("--stage", choices=MODEL_STAGES, help="which of a run's models (the last one)")
    compress.add_argument(
        "--device", choices=("cpu", "cuda"), help="where the model runs, now and to restore (a GPU if there is one)"
    )

    decompress = add("decompress", "restore a text that `compress` archived", decompress_command)
    decompress.add_argument("model", type=Path, metavar="RUN", help="the model that archived it")
    decompress.add_argument("archive", type=Path, metavar="FILE", help="what `crawl2chat compress` wrote")
    decompress.add_argument("--out", required=True, metavar="FILE", help="where the text goes; - is stdout")
    decompress.add_argument("--stage", choices=MODEL_STAGES, help="which of a run's models (the last one)")

    match = add("match", "find what of a text stands word for word in training documents", match_command)
    match.add_argument("documents", type=Path, metavar="DOCUMENTS", help="a run's folder, a refine stage's, or files")

    verify = add("verify-release", "load an exported folder in transformers and compare", verify_command)
    verify.add_argument("release", type=Path, metavar="DIR", help="what `crawl2chat export --out` wrote")


def eval_command(options: argparse.Namespace) -> int:
    return 0


def compress_command(options: argparse.Namespace) -> int:
    import torch

    from crawl2chat.evals.archive import compress

    with _open_text(options.file) as (text, length):
        model, tokenizer = _load(options, options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        with _create("compress", options.out) as archive:
            summary = compress(model, tokenizer, text, length, archive)
    print(f"{summary}\narchive: {options.out}")
    return 0


def decompress_command(options: argparse.Namespace) -> int:
    from crawl2chat.evals.archive import decompress
    from crawl2chat.evals.archive_format import read_header

    with _open("decompress", options.archive) as archive:
        device = read_header(archive).device
        archive.seek(0)
        model, tokenizer = _load(options, device)
        if options.out == "-":
            decompress(model, tokenizer, archive, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return 0
        with _create("decompress", Path(options.out)) as text:
            decompress(model, tokenizer, archive, text)
    print(f"restored: {options.out}")
    return 0


def _load(options: argparse.Namespace, device: str):  # type: ignore[no-untyped-def]  # its types would import torch
    """The model that was named, on a device, and its tokenizer."""
    import torch

    from crawl2chat.model import load_model
    from crawl2chat.run import StageError
    from crawl2chat.tokens import Tokenizer

    if device == "cuda" and not torch.cuda.is_available():
        raise StageError(f"{options.command}: needs a GPU, and there is none; an archive is restored where it was made")
    folder, _ = find_model(options)
    return load_model(folder, device=device), Tokenizer.load(folder)


@contextlib.contextmanager
def _open_text(name: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file or all of stdin, and its length; what is no plain file is copied into one first, to learn that."""
    with contextlib.ExitStack() as opened:
        text: BinaryIO = sys.stdin.buffer if name == "-" else opened.enter_context(_open("compress", Path(name)))
        if name == "-" or not Path(name).is_file():
            copy = opened.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(text, copy)
            copy.seek(0)
            text = copy
        yield text, os.fstat(text.fileno()).st_size


def _open(command: str, file: Path) -> BinaryIO:
    from crawl2chat.run import StageError

    try:
        return open(file, "rb")
    except OSError as error:
        raise StageError(f"{command}: {file} can't be read: {error.strerror}") from error


@contextlib.contextmanager
def _create(command: str, file: Path) -> Iterator[BinaryIO]:
    """A file that is there only once it is complete."""
    from crawl2chat.run import StageError, replacing

    if file.is_dir():
        raise StageError(f"{command} --out {file}: there is a folder of this name; name a file")
    with replacing(file) as temporary, open(temporary, "wb") as opened:
        yield opened


def match_command(options: argparse.Namespace) -> int:
    return 0


def verify_command(options: argparse.Namespace) -> int:
    return 0
