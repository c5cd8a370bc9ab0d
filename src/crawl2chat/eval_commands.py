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

from crawl2chat.commands import MODEL_STAGES, _load_engine, _read_stdin, _sampling
from crawl2chat.options import add_sampling, within

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
    match.add_argument("texts", nargs="*", metavar="TEXT", help="texts to look for; - is all of stdin")
    match.add_argument(
        "--min-words", type=within(int, 1), default=8, metavar="N",
        help="show matches of so many words and more (8)",
    )  # fmt: skip
    match.add_argument(
        "--generate", type=within(int, 1), metavar="N",
        help="have the run's model go on with each TEXT, or with nothing, N times, and look for what it writes",
    )  # fmt: skip
    match.add_argument("--stage", choices=MODEL_STAGES, default="base", help="which of the run's models writes (base)")
    add_sampling(match, temperature=0.8)

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
    from crawl2chat.evals.match_terminal import documents_of, print_matches
    from crawl2chat.evals.matches import find_matches
    from crawl2chat.run import StageError

    texts = [_read_stdin("match") if text == "-" else text for text in options.texts]
    prompts = [""] * len(texts)
    documents = documents_of(options.documents)
    if options.generate:
        options.model = options.documents
        engine, _ = _load_engine(options)
        prompts = (texts or [""]) * options.generate
        try:
            texts = [completion.text for completion in engine.generate(prompts, _sampling(options))]
        except ValueError as error:  # a prompt that is too long
            raise StageError(str(error)) from error
    if not texts:
        raise StageError("match: give a TEXT to look for, - for stdin, or --generate N")
    for prompt, text, matches in zip(prompts, texts, find_matches(texts, documents, options.min_words), strict=True):
        print_matches(text, matches, options.min_words, prompt)
    return 0


def verify_command(options: argparse.Namespace) -> int:
    from crawl2chat.exchange.verify import verify_release

    checks = verify_release(options.release)
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{'ok' if check.ok else 'FAILED':8}{check.name:{width + 2}}{check.found}")
    return 0 if all(check.ok for check in checks) else 1
