"""The commands that measure a model, archive texts with it and check a release: their options and what they do."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crawl2chat.commands import MODEL_STAGES, _find_model
from crawl2chat.options import within

Add = Callable[..., argparse.ArgumentParser]
SUITES = {  # of `eval`: which of its options each takes beside --stage and --out
    "base": ("force",),
    "core": ("data", "limit"),
    "lm-eval": ("tasks", "include_path", "limit"),
    "arc": ("data", "limit"),
    "gsm8k": ("data", "limit", "samples", "temperature", "max_tokens"),
    "humaneval": ("data", "limit", "samples", "temperature", "max_tokens"),
}
NEEDED = {"core": "data", "lm-eval": "tasks", "arc": "data", "gsm8k": "data", "humaneval": "data"}
EVAL_HELP = """
suites:
  base        what a run's base model is: compression, recitation, knowledge, learning from its prompt; the stage `base`
  core        CORE's tasks for base models (DCLM, arXiv 2406.11794): of the 22 those that lie in --data, with core.json
  lm-eval     tasks of lm-evaluation-harness, by --tasks; needs `pip install 'crawl2chat[lm-eval]'`
  arc         a chat model's questions with choices; the letter that it finds most probable counts
  gsm8k       a chat model's word problems; the number that its answer comes to counts
  humaneval   a chat model's Python functions; runs what it wrote, within limits but not behind a wall: take a container
              for models that you don't trust

--data of the last three is a file (JSON lines, also .gz, or Parquet) or a name on the hub, which needs
`pip install datasets`. Figures are printed and written to RUN/evals/SUITE-STAGE.json, what the model answered beside.

examples:
  crawl2chat eval runs/laptop --suite base
  crawl2chat eval runs/gpu --suite core --stage base --data core-eval --limit 500
  crawl2chat eval runs/gpu --suite lm-eval --stage base --tasks arc_easy,hellaswag
  crawl2chat eval runs/gpu --suite gsm8k --data gsm8k/test.jsonl.gz
  crawl2chat eval runs/gpu --suite arc --data allenai/ai2_arc:ARC-Easy
  crawl2chat eval runs/gpu --suite humaneval --data HumanEval.jsonl.gz --samples 20
  crawl2chat eval Qwen3-0.6B --suite core --data core-eval --out core.json
"""


def add_evaluation(add: Add) -> None:
    _add_eval(add("eval", "measure a model with a suite of tests", eval_command))

    compress = add("compress", "archive a text by a model's predictions", compress_command)
    compress.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")

    decompress = add("decompress", "restore a text that `compress` archived", decompress_command)
    decompress.add_argument("model", type=Path, metavar="RUN", help="the model that archived it")

    match = add("match", "find what of a text stands word for word in training documents", match_command)
    match.add_argument("documents", type=Path, metavar="DOCUMENTS", help="a run's folder, a refine stage's, or files")

    verify = add("verify-release", "load an exported folder in transformers and compare", verify_command)
    verify.add_argument("release", type=Path, metavar="DIR", help="what `crawl2chat export --out` wrote")


def _add_eval(evaluate: argparse.ArgumentParser) -> None:
    evaluate.epilog, evaluate.formatter_class = EVAL_HELP, argparse.RawDescriptionHelpFormatter
    evaluate.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")
    evaluate.add_argument("--suite", choices=SUITES, required=True, help="what to measure; they are listed below")
    evaluate.add_argument("--stage", choices=MODEL_STAGES, help="which of a run's models (the last one)")
    evaluate.add_argument(
        "--data", metavar="PLACE", help="the questions: a folder of core; else a file or a hub's name"
    )
    evaluate.add_argument("--limit", type=within(int, 1), metavar="N", help="ask only N questions (of each task)")
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="where figures go (RUN/evals/SUITE-STAGE.json)")
    evaluate.add_argument("--force", action="store_true", default=None, help="base: measure again what has not changed")
    harness = evaluate.add_argument_group("lm-eval")
    harness.add_argument("--tasks", metavar="NAME,…", help="the harness's tasks, or those of --include-path")
    harness.add_argument("--include-path", type=Path, metavar="DIR", help="YAML files of your own tasks")
    answers = evaluate.add_argument_group("answers of gsm8k and humaneval")
    answers.add_argument("--samples", type=within(int, 1), metavar="N", help="draw N for each question: pass@k (1)")
    answers.add_argument("--temperature", type=within(float, 0), metavar="T", help="0, or 0.8 for several samples")
    answers.add_argument("--max-tokens", type=within(int, 1), metavar="N", help="length of an answer at most (512)")


def eval_command(options: argparse.Namespace) -> int:
    from crawl2chat.run import StageError

    suite = options.suite
    for name in sorted({option for taken in SUITES.values() for option in taken} - set(SUITES[suite])):
        if getattr(options, name) is not None:
            raise StageError(f"eval --suite {suite} takes no --{name.replace('_', '-')}")
    if suite in NEEDED and not getattr(options, NEEDED[suite]):
        raise StageError(f"eval --suite {suite}: needs --{NEEDED[suite]}; see `crawl2chat eval --help`")
    if suite == "base":
        return _measure_base(options)

    import torch

    from crawl2chat.evals.suites import Asked, measure
    from crawl2chat.model import load_model
    from crawl2chat.tokens import Tokenizer

    folder, made_by = _find_model(options)
    if made_by == "pretrain" and suite in ("arc", "gsm8k", "humaneval"):
        raise StageError(
            f"eval --suite {suite}: {folder} holds a base model, which knows no conversations; take core or lm-eval "
            "for it, or a later --stage"
        )
    asked = Asked(suite, **{name: getattr(options, name) for name in SUITES[suite]})
    model = load_model(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    result = measure(model, Tokenizer.load(folder), asked)
    _keep(options, folder, result)
    return 0


def _measure_base(options: argparse.Namespace) -> int:
    """The stage `base` of a run, as `crawl2chat run` would do it, or its figures where nothing has changed."""
    from crawl2chat.evals.settings import BaseSettings
    from crawl2chat.pipeline import find_stage
    from crawl2chat.recipe import load_settings
    from crawl2chat.report import print_stage
    from crawl2chat.run import StageError, run_stage

    run = options.model
    if options.stage not in (None, "base") or options.out:
        raise StageError(
            "eval --suite base measures a run's base model into RUN/base; it takes no other --stage or --out"
        )
    if not (run / "pretrain").is_dir():
        raise StageError(
            f"{run}: is no run's folder with a pretrain stage; of models from elsewhere nobody knows what they learned "
            "from, so take --suite core or lm-eval"
        )
    recipe = run / "recipe.toml"
    settings = load_settings(BaseSettings, recipe if recipe.exists() else None, [], table="base")
    stage = find_stage("base")
    inputs = {name: run / name for name in stage.inputs}
    manifest, ran = run_stage(stage, inputs, run / "base", settings, force=bool(options.force))
    print_stage(run / "base", manifest, ran)
    return 0


def _keep(options: argparse.Namespace, folder: Path, result: Any) -> None:
    """Print a suite's figures; write them with what made them, and what the model answered beside."""
    from crawl2chat.evals.suites import print_figures, write_result
    from crawl2chat.run import hash_path, read_manifest

    manifest = read_manifest(folder)
    stage = "base" if folder.name == "pretrain" else folder.name
    print_figures(f"{options.suite} of {folder}", result)
    run = folder.parent if manifest else None  # a stage's folder lies in its run's
    out = options.out or (run / "evals" / f"{options.suite}-{stage}.json" if run else None)
    if out is None:
        print(f"{folder}: is no run's folder; give --out FILE to keep the figures", file=sys.stderr)
        return
    write_result(out, result, model=stage, model_hash=hash_path(folder))
    print(f"figures: {out}")


def compress_command(options: argparse.Namespace) -> int:
    return 0


def decompress_command(options: argparse.Namespace) -> int:
    return 0


def match_command(options: argparse.Namespace) -> int:
    return 0


def verify_command(options: argparse.Namespace) -> int:
    return 0
