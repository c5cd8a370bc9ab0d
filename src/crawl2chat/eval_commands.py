"""The commands that measure a model, archive texts with it and check a release: their options and what they do."""

import argparse
from collections.abc import Callable
from pathlib import Path

from crawl2chat.commands import MODEL_STAGES, _load_engine, _read_stdin, _sampling
from crawl2chat.options import add_sampling, within

Add = Callable[..., argparse.ArgumentParser]


def add_evaluation(add: Add) -> None:
    evaluate = add("eval", "measure a model with a suite of tests", eval_command)
    evaluate.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")

    compress = add("compress", "archive a text by a model's predictions", compress_command)
    compress.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")

    decompress = add("decompress", "restore a text that `compress` archived", decompress_command)
    decompress.add_argument("model", type=Path, metavar="RUN", help="the model that archived it")

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
    return 0


def decompress_command(options: argparse.Namespace) -> int:
    return 0


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
