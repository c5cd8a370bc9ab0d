"""The commands that measure a model, look for what it copied, and archive texts with it."""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from crawl2chat.api import find_model
from crawl2chat.cli.arguments import (
    MODEL_STAGES,
    Add,
    add_model,
    add_sampling,
    add_weights,
    open_model,
    read_stdin,
    sampling_of,
    within,
)
from crawl2chat.stages.disks import check_writable
from crawl2chat.stages.files import StageError

if TYPE_CHECKING:
    from crawl2chat.model import Transformer
    from crawl2chat.tokenizer import Tokenizer

SUITES = {  # of `eval`: which of its options each takes in addition to --stage and --out
    "base": ("data", "limit", "force", "all"),
    "core": ("data", "limit"),
    "lm-eval": ("tasks", "include_path", "limit"),
    "arc": ("data", "limit"),
    "gsm8k": ("data", "limit", "samples", "temperature", "max_tokens", "weights"),
    "humaneval": ("data", "limit", "samples", "temperature", "max_tokens", "weights"),
}
OF_RUNS = ("force", "all")  # options of base that only its stage has
OWN_TASK = ("data", "limit", "samples", "temperature", "max_tokens", "weights")
NEEDED = {"core": "data", "lm-eval": "tasks", "arc": "data", "gsm8k": "data", "humaneval": "data"}
EVAL_HELP = """
suites:
  base        a run's base model: compression, recitation, knowledge, learning from its prompt; the stage `base`.
              Of a model from elsewhere what needs no knowledge of its training: bits per byte of --data (a text),
              few-shot translation, letters in words, sums at once and by steps, what it says of itself
  core        CORE's 22 tasks for base models (DCLM, arXiv 2406.11794), as far as --data has them, with core.json
  lm-eval     tasks of lm-evaluation-harness, named by --tasks; needs `pip install 'crawl2chat[lm-eval]'`
  arc         multiple-choice questions for a chat model; its most probable letter counts
  gsm8k       word problems for a chat model; the final value of its answer counts
  FILE.py     a task of your own: a Python file that defines problems, a reward, or both (examples/word_count_task.py);
              also FILE.py:NAME or package.module:NAME
  humaneval   Python functions written by a chat model; runs them in a sandbox, or not at all
              for models that you don't trust

--data of arc, gsm8k and humaneval is a file (JSON lines, also .gz, or Parquet) or a name on the hub, which needs
`pip install datasets`. Figures are printed and written to RUN/evals/SUITE-STAGE.json, with the model's answers next to
them.

examples:
  crawl2chat eval runs/laptop --suite base
  crawl2chat eval runs/imported --suite base --data prose.txt --limit 60
  crawl2chat eval runs/gpu --suite core --stage base --data core-eval --limit 500
  crawl2chat eval runs/gpu --suite lm-eval --stage base --tasks arc_easy,hellaswag
  crawl2chat eval runs/gpu --suite gsm8k --data gsm8k/test.jsonl.gz
  crawl2chat eval runs/gpu --suite arc --data allenai/ai2_arc:ARC-Easy
  crawl2chat eval runs/gpu --suite humaneval --data HumanEval.jsonl.gz --samples 20
  crawl2chat eval runs/laptop --suite examples/word_count_task.py
  crawl2chat eval Qwen3-0.6B --suite core --data core-eval --out core.json
"""


def add_eval(add: Add) -> None:
    evaluate = add("eval", "measure a model with a suite of tests", eval_command, example="runs/laptop --suite base")
    evaluate.epilog = EVAL_HELP
    add_model(evaluate)
    evaluate.add_argument(
        "--suite", type=_suite, required=True, metavar="SUITE", help="what to measure; the suites are described below"
    )
    evaluate.add_argument(
        "--data",
        metavar="PLACE",
        help="the questions: for core a folder, for base a text, otherwise a file or a name on the hub",
    )
    evaluate.add_argument("--limit", type=within(int, 1), metavar="N", help="ask only N questions (of each task)")
    evaluate.add_argument(
        "--out", type=Path, metavar="FILE", help="file for the figures (default: RUN/evals/SUITE-STAGE.json)"
    )
    evaluate.add_argument(
        "--force", action="store_true", default=None, help="base, of a run: measure again even if nothing has changed"
    )
    evaluate.add_argument("--all", action="store_true", default=None, help="base, of a run: print all figures")
    harness = evaluate.add_argument_group("lm-eval")
    harness.add_argument("--tasks", metavar="NAME,…", help="tasks of the harness or of --include-path")
    harness.add_argument("--include-path", type=Path, metavar="DIR", help="folder with YAML files of your own tasks")
    answers = evaluate.add_argument_group("answers of gsm8k and humaneval")
    answers.add_argument(
        "--samples", type=within(int, 1), metavar="N", help="answers sampled per question, for pass@k (1)"
    )
    answers.add_argument(
        "--temperature", type=within(float, 0), metavar="T", help="sampling temperature (0, or 0.8 for several samples)"
    )
    answers.add_argument(
        "--max-tokens", type=within(int, 1), metavar="N", help="maximum length of an answer, in tokens (512)"
    )
    add_weights(answers)


def _suite(text: str) -> str:
    """A type for argparse: a suite's name, or a task of somebody's own, which is known by its form."""
    if text in SUITES or text.endswith(".py") or ":" in text:
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: expected {', '.join(SUITES)}, FILE.py or package.module:NAME")


def eval_command(options: argparse.Namespace) -> int:
    suite = options.suite
    taken_by_suite = SUITES.get(suite, OWN_TASK)
    for name in sorted({option for taken in SUITES.values() for option in taken} - set(taken_by_suite)):
        if getattr(options, name) is not None:
            raise StageError(f"eval --suite {suite} takes no --{name.replace('_', '-')}")
    if suite in NEEDED and not getattr(options, NEEDED[suite]):
        raise StageError(f"eval --suite {suite}: needs --{NEEDED[suite]}; see `crawl2chat eval --help`")
    if options.out and options.out.is_dir():  # which writing a file of this name would remove
        raise StageError(f"eval --out {options.out}: there is a folder of this name; name a file")
    if suite == "base" and _is_pretrained_run(options.model):
        return _measure_base(options)
    if suite == "base" and (options.force or options.all):
        raise StageError("eval --suite base: --force and --all are for runs that pretrained their base model")

    import torch

    from crawl2chat.evals.suites.suites import SuiteOptions, measure
    from crawl2chat.model import load_model, load_to_generate
    from crawl2chat.tokenizer import Tokenizer

    folder, made_by = find_model(options.model, options.stage)
    if made_by == "pretrain" and suite not in ("base", "core", "lm-eval"):
        raise StageError(
            f"eval --suite {suite}: {folder} holds a base model, which knows no conversations; take core or lm-eval "
            "for it, or a later --stage"
        )
    out = _results_file(options, folder)
    if out:
        check_writable(out)
    asked = SuiteOptions(suite, **{name: getattr(options, name) for name in taken_by_suite if name not in OF_RUNS})
    if "weights" in taken_by_suite:
        model, form = load_to_generate(folder, options.weights)
        asked = replace(asked, weights=form)
    else:
        model = load_model(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    result = measure(model, Tokenizer.load(folder), asked)
    _keep(options, folder, result, out)
    return 0


def _is_pretrained_run(run: Path) -> bool:
    """Whether a run's folder holds a base model whose training text is known."""
    from crawl2chat.stages.stage import read_manifest

    manifest = read_manifest(run / "pretrain")
    return manifest is not None and manifest.stage == "pretrain"


def _measure_base(options: argparse.Namespace) -> int:
    """The stage `base` of a run, as `crawl2chat run` would do it, or its figures where nothing has changed."""
    from crawl2chat.evals.base.settings import BaseSettings
    from crawl2chat.report import print_stage
    from crawl2chat.stages.pipeline import find_stage
    from crawl2chat.stages.settings import load_settings
    from crawl2chat.stages.stage import run_stage

    run = options.model
    for name in ("data", "limit"):
        if getattr(options, name):
            raise StageError(f"eval --suite base takes no --{name} for a run that pretrained its model")
    if options.stage not in (None, "base") or options.out:
        raise StageError(
            "eval --suite base measures a run's base model into RUN/base; it takes no other --stage or --out"
        )
    recipe = run / "recipe.toml"
    settings = load_settings(BaseSettings, recipe if recipe.exists() else None, [], table="base")
    stage = find_stage("base")
    inputs = {name: run / name for name in stage.inputs}
    manifest, ran = run_stage(stage, inputs, run / "base", settings, force=bool(options.force))
    print_stage(run / "base", manifest, ran if options.force else None, everything=bool(options.all))
    return 0


def _results_file(options: argparse.Namespace, folder: Path) -> Path | None:
    """Where a suite's figures go; None for a model that no run made, unless a file was named."""
    from crawl2chat.evals.suites.suites import label_of
    from crawl2chat.stages.stage import read_manifest

    if options.out or not read_manifest(folder):
        out: Path | None = options.out
        return out
    return folder.parent / "evals" / f"{label_of(options.suite)}-{_measured_stage(folder)}.json"


def _measured_stage(folder: Path) -> str:
    return "base" if folder.name == "pretrain" else folder.name


def _keep(options: argparse.Namespace, folder: Path, result: Any, out: Path | None) -> None:
    """Print a suite's figures; write them with what made them, and the model's answers next to them."""
    from crawl2chat.evals.suites.suites import print_figures, write_result
    from crawl2chat.stages.stage import hash_path

    print_figures(f"{options.suite} of {folder}", result)
    if out is None:
        print(f"{folder}: is not a run's folder; give --out FILE to keep the figures", file=sys.stderr)
        return
    write_result(out, result, model=_measured_stage(folder), model_hash=hash_path(folder))
    print(f"figures: {out}")


def add_compress(add: Add) -> None:
    compress = add(
        "compress", "compress a text with a model's predictions", compress_command,
        example="runs/laptop book.txt --stage base --out book.c2c",
    )  # fmt: skip
    add_model(compress)
    compress.add_argument("file", nargs="?", default="-", metavar="FILE", help="any file; - or nothing reads stdin")
    compress.add_argument(
        "--out", type=Path, required=True, metavar="FILE",
        help="the archive; the same model restores it on the same kind of machine with the same libraries",
    )  # fmt: skip
    compress.add_argument(
        "--device", choices=("cpu", "cuda"),
        help="where the model runs, now and when restoring (default: a GPU if there is one)",
    )  # fmt: skip


def compress_command(options: argparse.Namespace) -> int:
    import torch

    from crawl2chat.compress.archive import compress

    check_writable(options.out)
    with _open_text(options.file) as (text, length):
        model, tokenizer = _load(options, options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        with _create("compress", options.out, options.file) as archive:
            summary = compress(model, tokenizer, text, length, archive)
    print(f"{summary}\narchive: {options.out}")
    return 0


def add_decompress(add: Add) -> None:
    decompress = add(
        "decompress", "restore a text that `compress` wrote", decompress_command,
        example="runs/laptop book.c2c --stage base --out book.txt",
    )  # fmt: skip
    add_model(decompress, "the model that compressed it, on the same kind of machine")
    decompress.add_argument("archive", type=Path, metavar="FILE", help="what `crawl2chat compress` wrote")
    decompress.add_argument("--out", required=True, metavar="FILE", help="file to write; - is stdout")


def decompress_command(options: argparse.Namespace) -> int:
    from crawl2chat.compress.archive import decompress, read_header

    if options.out != "-":
        check_writable(Path(options.out))
    with _open("decompress", options.archive) as archive:
        device = read_header(archive).device
        archive.seek(0)
        model, tokenizer = _load(options, device)
        if options.out == "-":
            decompress(model, tokenizer, archive, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return 0
        with _create("decompress", Path(options.out), str(options.archive)) as text:
            decompress(model, tokenizer, archive, text)
    print(f"restored: {options.out}")
    return 0


def _load(options: argparse.Namespace, device: str) -> "tuple[Transformer, Tokenizer]":
    """The model that was named, on a device, and its tokenizer."""
    import torch

    from crawl2chat.model import load_model
    from crawl2chat.tokenizer import Tokenizer

    if device == "cuda" and not torch.cuda.is_available():
        raise StageError(f"{options.command}: needs a GPU, and there is none; an archive is restored where it was made")
    folder, _ = find_model(options.model, options.stage)
    return load_model(folder, device=device), Tokenizer.load(folder)


@contextlib.contextmanager
def _open_text(name: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file or all of stdin, and its length; what is not a plain file is copied into one first, to learn that."""
    with contextlib.ExitStack() as opened:
        text: BinaryIO = sys.stdin.buffer if name == "-" else opened.enter_context(_open("compress", Path(name)))
        if name == "-" or not Path(name).is_file():
            copy = opened.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(text, copy)
            copy.seek(0)
            text = copy
        yield text, os.fstat(text.fileno()).st_size


def _open(command: str, file: Path) -> BinaryIO:
    try:
        return open(file, "rb")
    except OSError as error:
        raise StageError(f"{command}: {file} can't be read: {error.strerror}") from error


@contextlib.contextmanager
def _create(command: str, file: Path, source: str) -> Iterator[BinaryIO]:
    """A file that is there only once it is complete; `source` is what is read meanwhile, - for stdin."""
    from crawl2chat.stages.files import atomic_write

    if file.is_dir():
        raise StageError(f"{command} --out {file}: there is a folder of this name; name a file")
    if source != "-" and file.exists() and file.samefile(source):
        raise StageError(f"{command} --out {file}: is the file that is read; name another")
    if file.exists():
        raise StageError(f"{command} --out {file}: exists already and stays as it is; name another file, or remove it")
    with atomic_write(file) as temporary, open(temporary, "wb") as opened:
        yield opened


def add_match(add: Add) -> None:
    match = add(
        "match", "find passages copied verbatim from the training documents", match_command,
        example='runs/laptop "Chronicle of" --generate 4',
    )  # fmt: skip
    match.add_argument("documents", type=Path, metavar="DOCUMENTS", help="a run's folder, a refine stage's, or files")
    match.add_argument("texts", nargs="*", metavar="TEXT", help="texts to search for copies; - reads all of stdin")
    match.add_argument(
        "--min-words", type=within(int, 1), default=8, metavar="N", help="minimum length of a passage, in words (8)"
    )
    match.add_argument(
        "--generate", type=within(int, 1), metavar="N",
        help="let the run's model continue each TEXT, or an empty one, N times, and search what it writes",
    )  # fmt: skip
    match.add_argument("--stage", choices=MODEL_STAGES, default="base", help="the run's model that writes (base)")
    add_sampling(match, temperature=0.8)


def match_command(options: argparse.Namespace) -> int:
    from crawl2chat.match.matches import find_matches
    from crawl2chat.match.sources import documents_of, print_matches

    texts = [read_stdin("match") if text == "-" else text for text in options.texts]
    prompts = [""] * len(texts)
    documents = documents_of(options.documents)
    if options.generate:
        options.model = options.documents
        engine = open_model(options).engine
        prompts = (texts or [""]) * options.generate
        try:
            texts = [completion.text for completion in engine.generate(prompts, sampling_of(options))]
        except ValueError as error:  # a prompt that is too long
            raise StageError(str(error)) from error
    if not texts:
        raise StageError("match: give a TEXT to look for, - for stdin, or --generate N")
    for prompt, text, matches in zip(prompts, texts, find_matches(texts, documents, options.min_words), strict=True):
        print_matches(text, matches, options.min_words, prompt)
    return 0
