"""The command of each stage."""

import argparse
import re
from pathlib import Path
from typing import NamedTuple

from crawl2chat.api import find_recipe
from crawl2chat.cli.arguments import Add, add_all, add_seed, add_settings, text_of
from crawl2chat.stages.files import StageError

DOCUMENTS = ("DOCUMENTS", "a refine stage's folder, Parquet with a text column, JSON lines, text or Markdown")


class StageCommand(NamedTuple):
    """How a stage is shown: its help, its inputs (name and help of each), an example, and inputs it can do without.

    Each of the latter is an option: its name, which input it gives, and its help. shortcuts: likewise, of settings.
    """

    help: str
    inputs: tuple[tuple[str, str], ...]
    example: str
    options: tuple[tuple[str, str, str], ...] = ()
    shortcuts: tuple[tuple[str, str, str], ...] = ()


STAGES = {
    "crawl": StageCommand(
        "collect pages: a made-up web, your WARC files, Common Crawl, a web site, folders of documents",
        (),
        "--crawl.source warc --crawl.warc 'pages/*.warc.gz' --out mine/crawl",
    ),
    "refine": StageCommand(
        "turn pages into clean documents, recording everything that is dropped and why",
        (("WARC", "a crawl stage's folder, a WARC or WET file, or a folder of them"),),
        "pages.warc.gz --out mine/refine",
    ),
    "tokenizer": StageCommand(
        "learn a byte-pair encoding from documents",
        (DOCUMENTS,),
        "texts/ --out mine/tokenizer --tokenizer.vocab_size 8192",
    ),
    "pretrain": StageCommand(
        "train a base model on documents",
        (DOCUMENTS, ("TOKENIZER", "a folder with a tokenizer.json")),
        "texts/ mine/tokenizer --out mine/pretrain --pretrain.depth 6",
    ),
    "base": StageCommand(
        "measure what the base model is: compression, recitation, knowledge, learning from its prompt",
        (
            ("CRAWL", "a crawl stage's folder; a made-up web has the ledger that some measurements need"),
            ("DOCUMENTS", "what the model was pretrained on"),
            ("MODEL", "a pretrain stage's folder"),
        ),
        "mine/crawl mine/refine mine/pretrain --out mine/base",
    ),
    "synthesize": StageCommand(
        "have a model write questions with answers, and conversations, about documents; keep what can be checked",
        (DOCUMENTS,),
        "mine/refine --with runs/smollm2/pretrain --out mine/synthesize",
        (("--with", "pretrain", "folder of the model that writes: a stage's, or one in Hugging Face's form"),),
        (
            ("--url", "url", "have a model on a server with OpenAI's chat completions write: http://HOST/v1"),
            ("--model", "model", "the model's name on that server"),
            ("--key-variable", "key_variable", "environment variable that holds the server's key"),
        ),
    ),
    "sft": StageCommand(
        "fine-tune a base model on conversations, so that it answers",
        (
            (
                "CONVERSATIONS",
                'a file of conversations: {"messages": […]}, ShareGPT, Alpaca, or prompt and completion; JSON, CSV, …',
            ),
            ("MODEL", "a pretrain stage's folder, or a Qwen3 model in Hugging Face's form"),
        ),
        "chats.jsonl mine/pretrain --out mine/sft --sft.epochs 3",
        (
            ("--questions", "questions", "questions to measure with, as honesty reads them"),
            ("--problems", "problems", "problems to measure with, as reinforce reads them"),
        ),
    ),
    "honesty": StageCommand(
        "probe what a chat model knows; teach it to say when it doesn't, to search, and who it is",
        (
            (
                "QUESTIONS",
                'JSON lines of {"wordings": […], "answers": […], "group": …, "split": "train", "probe" or "held_out"}',
            ),
            ("MODEL", "a folder with a chat model, such as an sft stage's"),
        ),
        "questions.jsonl mine/sft --documents mine/refine --out mine/honesty",
        (
            (
                "--documents",
                "refine",
                "documents to search in: a refine stage's folder, Parquet, JSON lines, text or Markdown",
            ),
            ("--problems", "problems", "problems to teach the calculator with and to measure, as reinforce reads them"),
            ("--base", "pretrain", "the pretrain stage's folder, whose training documents are learned from again"),
        ),
    ),
    "reinforce": StageCommand(
        "reinforce right answers to problems that can be checked",
        (
            ("PROBLEMS", "JSON lines (question, answer #### 42), a folder with problems.jsonl, or a task in FILE.py"),
            ("MODEL", "an earlier stage's folder with a chat model"),
        ),
        "problems.jsonl mine/sft --out mine/reinforce",
    ),
    "prefer": StageCommand(
        "fit a reward model to rankings of answers, optimise against it, and see it gamed",
        (
            (
                "PROMPTS",
                'JSON lines of prompts ("prompt" or "messages"; "group" and "split" if you like), or a folder with '
                "prompts.jsonl; or a file of pairs (chosen, rejected), which is prompts and rankings in one",
            ),
            ("MODEL", "an earlier stage's folder with a chat model"),
        ),
        "prompts.jsonl mine/reinforce --out mine/prefer",
    ),
}


def add_stages(add: Add) -> None:
    for name, (text, inputs, example, choices, shortcuts) in STAGES.items():
        stage = add(name, text, stage_command, example=example, takes_settings=True)
        for metavar, help in inputs:
            optional = "?" if name == "refine" else None  # --explain can do without
            stage.add_argument("inputs", action=_Append, nargs=optional, type=Path, metavar=metavar, help=help)
        for option, name_of_input, help in choices:
            stage.add_argument(option, dest=name_of_input, type=Path, metavar="PATH", help=help)
        for option, setting, help in shortcuts:
            stage.add_argument(option, dest=f"{name}.{setting}", metavar=setting.upper(), help=help)
        stage.add_argument("--recipe", metavar="FILE", help="take the stage's settings from this recipe")
        stage.add_argument("--out", type=Path, required=name != "refine", metavar="DIR", help="the stage's folder")
        stage.add_argument("--force", action="store_true", help="run it again even if nothing has changed")
        if name == "refine":
            stage.add_argument(
                "--explain", metavar="URL",
                help="show what each step does to this page and write nothing; WARC may be a run's folder or recipe",
            )  # fmt: skip
        if name not in ("refine", "tokenizer"):  # which have none
            add_seed(stage, f"as --{name}.seed, unless the recipe sets it")
        add_all(stage)
        add_settings(stage)


def stage_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.report import print_stage
    from crawl2chat.stages.checks import check_inputs, check_settings, check_sources, outside_inputs
    from crawl2chat.stages.pipeline import Recipe, files_beside, find_stage
    from crawl2chat.stages.settings import load_settings
    from crawl2chat.stages.stage import run_stage

    recipe = find_recipe(options.recipe) if options.recipe else None
    if getattr(options, "explain", None):
        return _explain(options, recipe, flags)
    places = getattr(options, "inputs", [])
    if options.out is None or None in places:
        raise StageError(f"{options.command}: give WARC to read and --out DIR to write into, or --explain URL")
    stage = find_stage(options.command)
    for path in places:
        if address := re.match(r"(https?|s3):/+(.+)", str(path)):
            raise StageError(
                f"{stage.name} reads files, not addresses; for a WARC: crawl2chat crawl --crawl.source warc "
                f"--crawl.warc {address[1]}://{address[2]} --out CRAWL, then {stage.name} CRAWL; "
                "a web site is fetched with --crawl.source site --crawl.site.addresses ADDRESS"
            )
    table = type(Recipe.model_fields[stage.name].default)
    values = {name: value for name, value in vars(options).items() if "." in name and value is not None}
    settings = load_settings(table, recipe, flags, table=stage.name, values=values, seed=getattr(options, "seed", None))
    inputs = dict(zip(stage.inputs, places, strict=True))
    inputs |= {name: path for name in stage.optional if (path := getattr(options, name, None))}
    inputs |= files_beside(inputs)
    outside = outside_inputs(settings)
    check_settings(stage, settings)

    def check() -> None:
        check_inputs(stage, inputs, settings)
        check_sources(settings)

    manifest, ran = run_stage(
        stage, inputs, options.out, settings, outside=outside, force=options.force, made_by="command",
        check=check,
    )  # fmt: skip
    print_stage(options.out, manifest, ran, everything=options.all)
    return 0


def follow() -> int:
    """What the ranks other than the first do under torchrun: join it in the work that it calls them to.

    That is a stage which all ranks go through, or the training of one that the first goes through alone.
    """
    from crawl2chat.parallel import torchrun
    from crawl2chat.stages.pipeline import Recipe, find_stage

    for call in torchrun.calls():
        if device := call.get("training"):
            from crawl2chat.train.loop import join_training

            join_training(device)
            continue
        stage = find_stage(call["stage"])
        settings = type(Recipe.model_fields[stage.name].default).model_validate(call["settings"])
        optional = {name: Path(path) for name, path in call["optional"].items()}
        stage.load()(*map(Path, call["inputs"]), Path(call["out"]), settings, **optional)
    return 0


def _explain(options: argparse.Namespace, recipe: Path | None, flags: list[str]) -> int:
    """Of a run by its folder or recipe (the default one's), or of a crawl or WARC, with --out its refine folder."""
    from crawl2chat.refine.explain import explain
    from crawl2chat.refine.settings import RefineSettings
    from crawl2chat.stages.settings import load_settings

    place = options.inputs[0] or Path("runs") / find_recipe().stem
    if place.suffix == ".toml":
        place, recipe = Path("runs") / place.stem, recipe or find_recipe(place)
    run = place if (place / "crawl").is_dir() else None
    if run and not recipe and (run / "recipe.toml").exists():
        recipe = run / "recipe.toml"
    settings = load_settings(RefineSettings, recipe, flags, table="refine")
    crawl, refined = (run / "crawl", run / "refine") if run else (place, options.out)
    explain(crawl, refined, text_of("refine --explain", options.explain), settings)
    return 0


class _Append(argparse.Action):
    """Collects a stage's positional inputs, each with its own name in the help, into one list."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        namespace.inputs = [*(getattr(namespace, "inputs", None) or []), values]
