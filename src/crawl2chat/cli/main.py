"""The command line: which commands there are, and their options."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from crawl2chat import __version__
from crawl2chat.cli.arguments import licence, size, within
from crawl2chat.cli.measure import add_evaluation
from crawl2chat.cli.release import export_command, import_command, verify_command
from crawl2chat.cli.run import (
    MODEL_STAGES,
    classify_command,
    follow,
    judge_command,
    plan_command,
    report_command,
    run_command,
    stage_command,
)
from crawl2chat.cli.serve import add_serving
from crawl2chat.cli.talk import add_talking
from crawl2chat.cli.tokens import add_tokens
from crawl2chat.parallel import torchrun
from crawl2chat.stages import interrupts
from crawl2chat.stages.disks import describe

STAGE_HELP = {
    "crawl": "collect pages: a fictional web, your WARC files, Common Crawl",
    "refine": "turn pages into clean documents, recording everything that is dropped and why",
    "tokenizer": "learn a byte-pair encoding from documents",
    "pretrain": "train a base model on documents",
    "base": "measure what the base model is: compression, recitation, knowledge, learning from its prompt",
    "sft": "fine-tune a base model on conversations, so that it answers",
    "honesty": "probe what a chat model knows; teach it to say when it doesn't, to search, and who it is",
    "reinforce": "reinforce right answers to problems that can be checked",
    "prefer": "fit a reward model to rankings of answers, optimise against it, and see it gamed",
}
STAGE_INPUTS = {
    "crawl": (),
    "refine": (("WARC", "a crawl stage's folder, a WARC or WET file, or a folder of them"),),
    "tokenizer": (("DOCUMENTS", "a refine stage's folder, Parquet with a text column, JSON lines, text or Markdown"),),
    "pretrain": (
        ("DOCUMENTS", "a refine stage's folder, Parquet with a text column, JSON lines, text or Markdown"),
        ("TOKENIZER", "a folder with a tokenizer.json"),
    ),
    "base": (
        ("CRAWL", "the crawl folder; of a fictional web all is measured, of others what needs no ledger"),
        ("DOCUMENTS", "what the model was pretrained on"),
        ("MODEL", "a pretrain stage's folder"),
    ),
    "sft": (
        (
            "CONVERSATIONS",
            'a file of conversations: JSON lines of {"messages": […]}, ShareGPT, Alpaca, or prompt and completion; '
            "or the crawl folder of a fictional web",
        ),
        ("MODEL", "a pretrain stage's folder, or a Qwen3 model in Hugging Face's form"),
    ),
    "honesty": (
        ("CRAWL", "the crawl folder of a fictional web, whose truth is known"),
        ("DOCUMENTS", "a refine stage's folder, to search in"),
        ("BASE", "the pretrain stage's folder, whose documents are learned from again"),
        ("MODEL", "an sft stage's folder"),
    ),
    "reinforce": (
        ("PROBLEMS", "JSON lines (question, answer #### 42), a folder with problems.jsonl, or a task in FILE.py"),
        ("MODEL", "an earlier stage's folder with a chat model"),
    ),
    "prefer": (
        ("PROMPTS", 'JSON lines of prompts ("prompt" or "messages", "group", "split"), or a folder with prompts.jsonl'),
        ("MODEL", "an earlier stage's folder with a chat model"),
    ),
}
PLANNED_DEVICES = ("b200", "h200", "h100", "a100", "l40s", "4090")  # train/utilisation.py knows them
EXAMPLES = """
examples:
  crawl2chat run                                   the whole way on the fictional web, into runs/laptop
  crawl2chat run --crawl.seed 7 --out runs/seven   the same in another world
  crawl2chat run recipes/pages.toml --crawl.warc 'pages/*.warc.gz'
  crawl2chat run --pretrain.depth 6 --until pretrain
  crawl2chat refine my.warc.gz --out documents     one stage, on ordinary files
  crawl2chat plan recipes/cluster.toml             what a month of Common Crawl takes
  crawl2chat plan recipes/gpu.toml --device h100 --devices 8
  crawl2chat chat runs/laptop
  crawl2chat tokens "How many r are in strawberry?" --with gpt4 --with runs/laptop
  crawl2chat generate runs/laptop "Chronicle of" --stage base --top 10 --max-tokens 2
  crawl2chat serve runs/laptop                     OpenAI's API and the web app, on this machine
  crawl2chat export runs/laptop --out release --gguf model.gguf
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; returns the exit status: 0 done, 1 an error that a message explains, 130 or 143 interrupted."""
    # Arrow's own allocator takes a gibibyte for each process at once, as resident memory on some kernels
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        with interrupts.raised():
            status = _run(arguments)
            status = _flush() or status
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        _drop_output()
        status = 1
    except KeyboardInterrupt as error:
        import multiprocessing

        for process in multiprocessing.active_children():  # one that was being started when the signal came
            process.kill()
        if torchrun.is_first_to_fail():
            print(interrupts.message, file=sys.stderr)
        status = interrupts.exit_status(error)
    if torchrun.world_size() > 1:
        torchrun.leave(status)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    rest, settings = _split_settings(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser.parse_args(rest)  # which prints a list of settings, if asked
    except OSError as error:
        return _unwritten(error)
    _expand_tildes(options)
    if settings and not options.takes_settings:
        parser.error(f"{options.command} takes no settings: {settings[0]}")
    again = "without --force and --from, " if "--force" in rest or "--from" in rest else ""
    goes_on = f"; {again}the same command goes on from here" if options.command in ("run", *STAGE_HELP) else ""
    interrupts.message = f"interrupted{goes_on}"
    from crawl2chat.stages.files import StageError
    from crawl2chat.stages.settings import RecipeError

    try:
        if torchrun.rank():
            return follow()
        status: int = options.command_function(options, *([settings] if options.takes_settings else []))
        torchrun.dismiss_others()
        return status
    except torchrun.RanksLost:
        return 1
    except (StageError, RecipeError) as error:
        if torchrun.is_first_to_fail():
            print(error, file=sys.stderr)
        return 1
    except Exception as error:
        if not torchrun.is_first_to_fail():
            return 1
        told = None
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            out = getattr(options, "out", None)
            told = describe(error, out and Path(out), goes_on=goes_on and ", it goes on from here")
        if told is None:
            raise
        print(told, file=sys.stderr)
        return 1


def _flush() -> int:
    """Write what was printed, while a failure can still be reported; returns the exit status."""
    if sys.stdout is None:  # closed before the command began, so nothing was printed
        return 0
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return 0


def _unwritten(error: OSError) -> int:
    """Report that standard output could not be written, and return the exit status; a broken pipe is raised again."""
    if isinstance(error, BrokenPipeError):
        raise error
    _drop_output()
    print(describe(error) or f"standard output: {error}", file=sys.stderr)
    return 1


def _drop_output() -> None:
    """Have Python's end write nowhere what it could not write before."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _expand_tildes(options: argparse.Namespace) -> None:
    """The shell leaves the ~ of --out=~/run as it is."""
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, value.expanduser())
        elif isinstance(value, list):
            setattr(options, name, [part.expanduser() if isinstance(part, Path) else part for part in value])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crawl2chat", description="From a web crawl to a chat assistant: one command per stage.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"crawl2chat {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = _adder(commands)

    run = add(
        "run", "take a recipe through all its stages, skipping those that are done", run_command, takes_settings=True
    )
    run.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE", help="a TOML file (default: laptop.toml)")
    run.add_argument(
        "--conversations", metavar="FILE", help="fine-tune on these conversations instead of generated ones"
    )
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME, by the recipe's name)"
    )
    run.add_argument(
        "--from", dest="first", choices=STAGE_HELP, metavar="STAGE", help="run this stage and all later ones again"
    )
    run.add_argument("--until", choices=STAGE_HELP, metavar="STAGE", help="stop after this stage")
    run.add_argument("--force", action="store_true", help="run every stage again, including those made by hand")
    run.add_argument("--prune", action="store_true", help="delete earlier results that were moved to replaced/")
    run.add_argument("--settings", action=_ShowSettings, help="list every setting with its default, and exit")

    for name, text in STAGE_HELP.items():
        stage = add(name, text, stage_command, takes_settings=True)
        for metavar, help in STAGE_INPUTS[name]:
            optional = "?" if name == "refine" else None  # --explain can do without
            stage.add_argument("inputs", action=_Append, nargs=optional, type=Path, metavar=metavar, help=help)
        stage.add_argument("--recipe", type=Path, metavar="FILE", help="take the stage's settings from this recipe")
        stage.add_argument("--out", type=Path, required=name != "refine", metavar="DIR", help="the stage's folder")
        stage.add_argument("--force", action="store_true", help="run it again even if nothing has changed")
        if name == "refine":
            stage.add_argument(
                "--explain", metavar="URL",
                help="show what each step does to this page and write nothing; WARC may be a run's folder or recipe",
            )  # fmt: skip
        stage.add_argument("--settings", action=_ShowSettings, help=f"list the settings (--{name}.NAME VALUE)")

    add_talking(add)
    add_serving(add)

    export = add("export", "write a model for transformers or llama.cpp", export_command)
    export.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")
    export.add_argument(
        "--stage", choices=MODEL_STAGES, help="which of the run's models (default: the best by its check-up)"
    )
    export.add_argument("--out", type=Path, metavar="DIR", help="a new folder: weights, tokenizer, model card")
    export.add_argument(
        "--gguf", type=Path, metavar="FILE", help="a single file for llama.cpp and programs built on it"
    )
    export.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16", "q8_0"),
        help="data type of the weights (default: as stored); q8_0 only for GGUF",
    )  # fmt: skip
    export.add_argument(
        "--max-shard-size",
        type=size,
        default="5GB",
        metavar="SIZE",
        help="maximum size of one weight file, such as 500MB (5GB)",
    )
    export.add_argument(
        "--name", metavar="NAME", help="the model's name in its card and in GGUF (default: from the folders)"
    )
    export.add_argument(
        "--license", type=licence, metavar="ID", help="licence to state in the card, such as apache-2.0 (none)"
    )
    export.add_argument(
        "--data-license", type=licence, metavar="ID", help="licence of the training data to state in the card"
    )
    export.add_argument(
        "--data-statement", type=Path, metavar="FILE", help="Markdown file to include as the card's data statement"
    )

    add_evaluation(add)

    verify = add("verify-release", "load an exported folder in transformers and compare the two", verify_command)
    verify.add_argument("release", type=Path, metavar="DIR", help="a folder that `crawl2chat export --out` wrote")

    imported = add("import", "use a dense Qwen3 checkpoint as a run's base model", import_command)
    imported.add_argument("checkpoint", type=Path, metavar="FOLDER", help="a Qwen3 in transformers' form, on disk")
    imported.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")

    add_tokens(add)

    plan = add("plan", "estimate what a recipe needs: work, bytes, hours, cost", plan_command, takes_settings=True)
    plan.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE", help="a TOML file (default: laptop.toml)")
    plan.add_argument("--until", choices=STAGE_HELP, metavar="STAGE", help="plan the stages up to this one")
    _add_machines(plan)

    classify = add("classify", "train a quality classifier for --refine.classifier.model", classify_command)
    classify.add_argument(
        "--positive", nargs="+", type=Path, default=[], metavar="FILE", help="examples of texts to keep"
    )
    classify.add_argument(
        "--negative", nargs="+", type=Path, default=[], metavar="FILE", help="ordinary texts of the crawl"
    )
    classify.add_argument(
        "--labels", nargs="+", type=Path, default=[], metavar="FILE", help="labels that `crawl2chat judge` wrote"
    )
    classify.add_argument(
        "--threshold", type=float, default=3, metavar="N", help="count labels of N or more as positive"
    )
    classify.add_argument("--out", type=Path, required=True, metavar="DIR", help="the classifier's folder")
    classify.add_argument(
        "--bits", type=within(int, 1, 30), default=20, help="use 2^BITS weights; take more for millions of texts (20)"
    )
    classify.add_argument("--epochs", type=within(int, 1), default=5, help="passes over the texts (5)")
    classify.add_argument("--seed", type=within(int, 0), default=0, help="seed of which texts are held out (0)")

    judge = add("judge", "have a language model score texts, as labels for a quality classifier", judge_command)
    judge.add_argument("files", nargs="+", type=Path, metavar="DOCUMENTS", help="a refine stage's folder, or files")
    judge.add_argument(
        "--url", required=True, help="address of any server with OpenAI's chat completions: http://HOST/v1"
    )
    judge.add_argument("--model", required=True, metavar="NAME", help="the model's name on that server")
    judge.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file of labels (JSON lines), which is appended to"
    )
    judge.add_argument("--sample", type=within(int, 1), metavar="N", help="judge only N texts, chosen at random")
    judge.add_argument(
        "--threads", type=within(int, 1), default=4, metavar="N", help="number of requests at a time (4)"
    )
    judge.add_argument(
        "--timeout", type=within(float, 0.1), default=120, metavar="SECONDS", help="timeout for one answer (120)"
    )
    judge.add_argument("--key-variable", metavar="NAME", help="environment variable that holds the server's key")

    report = add("report", "write a run's report.html and print its figures", report_command)
    report.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    return parser


def _split_settings(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options and settings: a setting is a flag with a dot in its name, and what follows it is its value."""
    options: list[str] = []
    settings: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        if not (name.startswith("--") and "." in name):
            options.append(argument)
            continue
        settings.append(argument)
        if not equals and rest and not rest[0].startswith("--"):
            settings.append(rest.pop(0))
    return options, settings


class _Append(argparse.Action):
    """Collects a stage's positional inputs, each with its own name in the help, into one list."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        namespace.inputs = [*(getattr(namespace, "inputs", None) or []), values]


class _ShowSettings(argparse.Action):
    """Prints the settings of a command with their defaults and meanings, as --help does for options."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        from crawl2chat.stages.pipeline import Recipe
        from crawl2chat.stages.settings import settings_help

        name = parser.prog.split()[-1]
        table = Recipe.model_fields[name].annotation if name in STAGE_HELP else Recipe
        print(settings_help(table, "" if table is Recipe else f"{name}."))  # type: ignore[arg-type]
        parser.exit()


def _adder(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> Callable[..., argparse.ArgumentParser]:
    def add(
        name: str, text: str, function: Callable[..., int], takes_settings: bool = False
    ) -> argparse.ArgumentParser:
        epilog = "any setting: --table.name VALUE (see --settings)" if takes_settings else None
        parser = commands.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        parser.set_defaults(command_function=function, takes_settings=takes_settings)
        return parser

    return add


def _add_machines(plan: argparse.ArgumentParser) -> None:
    plan.add_argument("--rates", type=Path, metavar="RUN", help="take rates from this finished run's stages")
    refining = plan.add_argument_group("refining")
    refining.add_argument("--warc", type=Path, help="measure rates on this WARC (default: on a small fictional web)")
    refining.add_argument(
        "--cores", type=within(int, 1), default=1000, metavar="N", help="number of cores for refining (1000)"
    )
    refining.add_argument(
        "--core-price", type=within(float, 0), default=0.04, metavar="DOLLARS", help="price per core and hour (0.04)"
    )
    training = plan.add_argument_group("pretraining")
    training.add_argument(
        "--measure", action="store_true", help="measure the training rate here: a few steps, about a minute"
    )
    training.add_argument(
        "--flops", type=within(float, 1), metavar="FLOPS", help="take this rate, in FLOP per second and device"
    )
    training.add_argument(
        "--device", choices=PLANNED_DEVICES, help="kind of GPU (default: all of these, at assumed rates)"
    )
    training.add_argument("--devices", type=within(int, 1), metavar="N", help="number of devices")
    training.add_argument(
        "--price",
        type=within(float, 0),
        metavar="DOLLARS",
        help="price per device and hour (default: assumed from its name)",
    )


if __name__ == "__main__":
    sys.exit(main())
