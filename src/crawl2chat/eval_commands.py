"""The commands that measure a model, archive texts with it and check a release: their options and what they do."""

import argparse
from collections.abc import Callable
from pathlib import Path

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

    verify = add("verify-release", "load an exported folder in transformers and compare", verify_command)
    verify.add_argument("release", type=Path, metavar="DIR", help="what `crawl2chat export --out` wrote")


def eval_command(options: argparse.Namespace) -> int:
    return 0


def compress_command(options: argparse.Namespace) -> int:
    return 0


def decompress_command(options: argparse.Namespace) -> int:
    return 0


def match_command(options: argparse.Namespace) -> int:
    return 0


def verify_command(options: argparse.Namespace) -> int:
    return 0
