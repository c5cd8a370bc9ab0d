"""The commands. Each is a few lines; what it needs is imported when it runs, so that help is quick."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from crawl2chat import __version__

STAGE_HELP = {
    "crawl": "collect pages: a fictional web, your WARC files, Common Crawl",
    "refine": "turn pages into clean documents, with a record of all that is dropped",
    "tokenizer": "learn a byte-pair encoding from documents",
    "pretrain": "train a base model on documents",
    "sft": "teach a base model to answer, from conversations",
    "honesty": "probe what a chat model knows; teach it to say so, to search, and who it is",
    "reinforce": "reward right answers to problems that can be checked",
    "prefer": "rank answers, fit a reward model to the rankings, follow it and see it gamed",
}
STAGE_INPUTS = {
    "crawl": (),
    "refine": (("WARC", "a crawl stage's folder, a WARC file, or a folder of them"),),
    "tokenizer": (("DOCUMENTS", "a refine stage's folder, Parquet with a text column, JSON lines, or text files"),),
    "pretrain": (
        ("DOCUMENTS", "a refine stage's folder, Parquet with a text column, JSON lines, or text files"),
        ("TOKENIZER", "a folder with a tokenizer.json"),
    ),
    "sft": (
        ("CONVERSATIONS", 'JSON lines of {"messages": […]}, or the crawl folder of a fictional web'),
        ("MODEL", "a pretrain stage's folder, or a Qwen3 model in Hugging Face's form"),
    ),
    "honesty": (
        ("CRAWL", "the crawl folder of a fictional web, whose truth is known"),
        ("DOCUMENTS", "a refine stage's folder, to search in"),
        ("BASE", "the pretrain stage's folder, whose documents are learned from again"),
        ("MODEL", "an sft stage's folder"),
    ),
    "reinforce": (
        ("PROBLEMS", "the crawl folder of a fictional web, or JSON lines in GSM8K's form (question, answer #### 42)"),
        ("MODEL", "an earlier stage's folder with a chat model"),
    ),
    "prefer": (
        ("CRAWL", "the crawl folder of a fictional web, whose verses give the topics"),
        ("MODEL", "an earlier stage's folder with a chat model"),
    ),
}
MODEL_STAGES = ("base", "sft", "honesty", "reinforce", "prefer")  # that leave a model; base is pretrain's
EXAMPLES = """
examples:
  crawl2chat run                                   the whole way on the fictional web, into runs/laptop
  crawl2chat run --crawl.seed 7 --out runs/seven   the same in another world
  crawl2chat run recipes/pages.toml --crawl.warc 'pages/*.warc.gz'
  crawl2chat run --pretrain.depth 6 --until pretrain
  crawl2chat refine my.warc.gz --out documents     one stage, on ordinary files
  crawl2chat plan recipes/cluster.toml             what a month of Common Crawl takes
  crawl2chat chat runs/laptop
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; returns the exit status: 0 done, 1 an error that a message explains, 130 interrupted."""
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    rest, settings = _split_settings(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(rest)
    if settings and not options.takes_settings:
        parser.error(f"{options.command} takes no settings: {settings[0]}")
    from crawl2chat.recipe import RecipeError
    from crawl2chat.run import StageError

    try:
        if options.takes_settings:
            return options.command_function(options, settings)
        return options.command_function(options)
    except (StageError, RecipeError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = "without --force and --from, " if "--force" in rest or "--from" in rest else ""
        print(f"interrupted; {again}the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crawl2chat", description="From a web crawl to a chat assistant: every stage a command.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"crawl2chat {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = _adder(commands)

    run = add("run", "take a recipe through all its stages; done ones are skipped", run_command, takes_settings=True)
    run.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE", help="a TOML file (default: laptop.toml)")
    run.add_argument("--conversations", metavar="FILE", help="JSON lines to fine-tune on, instead of made ones")
    run.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (runs/ and the recipe's name)")
    run.add_argument("--from", dest="first", choices=STAGE_HELP, metavar="STAGE", help="run this and later ones anew")
    run.add_argument("--until", choices=STAGE_HELP, metavar="STAGE", help="stop after this stage")
    run.add_argument("--force", action="store_true", help="run every stage anew")
    run.add_argument("--settings", action=_ShowSettings, help="list every setting with its default and leave")

    for name, text in STAGE_HELP.items():
        stage = add(name, text, stage_command, takes_settings=True)
        for metavar, help in STAGE_INPUTS[name]:
            optional = "?" if name == "refine" else None  # --explain can do without
            stage.add_argument("inputs", action=_Append, nargs=optional, type=Path, metavar=metavar, help=help)
        stage.add_argument("--recipe", type=Path, metavar="FILE", help="take the stage's settings from this recipe")
        stage.add_argument("--out", type=Path, required=name != "refine", metavar="DIR", help="the stage's folder")
        stage.add_argument("--force", action="store_true", help="run it anew")
        if name == "refine":
            stage.add_argument(
                "--explain", metavar="URL",
                help="show what each step does to this page, write nothing; WARC may be a run's folder or recipe",
            )  # fmt: skip
        stage.add_argument("--settings", action=_ShowSettings, help=f"list the settings (--{name}.NAME VALUE)")

    chat = add("chat", "talk to a model in the terminal", chat_command)
    chat.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")
    chat.add_argument("--stage", choices=MODEL_STAGES, help="which of a run's models (the last one)")
    chat.add_argument("--tools", action="store_true", help="let it search the run's documents and use a calculator")
    chat.add_argument("--system", metavar="TEXT", help="a system message to begin with")
    _add_sampling(chat, temperature=0.0)

    generate = add("generate", "continue texts with a model", generate_command)
    generate.add_argument("model", type=Path, metavar="RUN", help="a run's folder, a stage's, or a Hugging Face folder")
    generate.add_argument("prompts", nargs="+", metavar="TEXT", help="beginnings of documents; all run as one batch")
    generate.add_argument("--stage", choices=MODEL_STAGES, help="which of a run's models")
    _add_sampling(generate, temperature=0.8)

    rank = add("rank", "rank a model's answers yourself, for --prefer.rankings", rank_command)
    rank.add_argument("model", type=Path, metavar="RUN", help="a run's folder with a crawl and a chat model")
    rank.add_argument("--stage", choices=MODEL_STAGES[1:], help="whose answers (the last one's)")
    rank.add_argument("--answers", type=int, default=2, metavar="K", help="answers to a prompt; 2 is one key a pair")
    rank.add_argument("--store", type=Path, metavar="FILE", help="where rankings go (RUN/rankings.sqlite)")
    rank.add_argument("--annotator", default="me", metavar="NAME", help="whose taste it is")

    tokens = add("tokens", "show how a tokenizer cuts a text", tokens_command)
    tokens.add_argument("tokenizer", type=Path, metavar="RUN", help="a run's folder or one with a tokenizer.json")
    tokens.add_argument("text", metavar="TEXT")

    plan = add("plan", "say what a recipe will take: work, bytes, hours, cost", plan_command, takes_settings=True)
    plan.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE", help="a TOML file (default: laptop.toml)")
    plan.add_argument("--until", choices=STAGE_HELP, metavar="STAGE", help="plan no stage after this")
    plan.add_argument("--measure", type=Path, metavar="WARC", help="measure refine on this (a small fictional web)")
    plan.add_argument("--rates", type=Path, metavar="RUN", help="take refine's rates from this finished run instead")
    plan.add_argument("--cores", type=int, default=1000, metavar="N", help="cores that refine will have (1000)")
    plan.add_argument("--price", type=float, default=0.04, metavar="DOLLARS", help="of a core for an hour (0.04)")
    plan.add_argument("--flops", type=float, metavar="FLOPS", help="FLOP a second of the machine that trains")
    classify = add("classify", "train a quality classifier, for --refine.classifier.model", classify_command)
    classify.add_argument("--positive", nargs="+", type=Path, default=[], metavar="FILE", help="texts like the wanted")
    classify.add_argument("--negative", nargs="+", type=Path, default=[], metavar="FILE", help="texts of the crawl")
    classify.add_argument("--labels", nargs="+", type=Path, default=[], metavar="FILE", help="what `judge` wrote")
    classify.add_argument("--threshold", type=float, default=3, metavar="N", help="a label of N or more is positive")
    classify.add_argument("--out", type=Path, required=True, metavar="DIR", help="the classifier's folder")
    classify.add_argument("--bits", type=int, default=20, help="2^bits weights; more for millions of texts")
    classify.add_argument("--epochs", type=int, default=5, help="times each text is learned from")
    classify.add_argument("--seed", type=int, default=0, help="another seed, other texts held out")

    judge = add("judge", "have a language model score texts, to train a quality classifier from", judge_command)
    judge.add_argument("files", nargs="+", type=Path, metavar="DOCUMENTS", help="a refine stage's folder, or files")
    judge.add_argument("--url", required=True, help="of any server with OpenAI's chat completions: http://HOST/v1")
    judge.add_argument("--model", required=True, metavar="NAME", help="as the server calls it")
    judge.add_argument("--out", type=Path, required=True, metavar="FILE", help="labels, JSON lines; they are added to")
    judge.add_argument("--sample", type=int, metavar="N", help="judge only N of the texts, chosen by chance")
    judge.add_argument("--threads", type=int, default=4, metavar="N", help="questions at a time")
    judge.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="that an answer may take")
    judge.add_argument("--key-variable", metavar="NAME", help="the environment variable that holds the server's key")

    report = add("report", "write report.html of a run and print its figures", report_command)
    report.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    return parser


def run_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.pipeline import Recipe, run_pipeline
    from crawl2chat.recipe import load_settings
    from crawl2chat.report import print_stage, write_report

    file = _find_recipe(options.recipe)
    for name in ("conversations", "until"):
        if getattr(options, name):
            flags = [*flags, f"--{name}={getattr(options, name)}"]
    recipe = load_settings(Recipe, file, flags)
    folder = options.out or Path("runs") / file.stem
    for result in run_pipeline(recipe, folder, first=options.first, force=options.force):
        print_stage(folder / result.stage.name, result.manifest, result.ran)
    print(f"report: {write_report(folder)}")
    return 0


def stage_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.pipeline import Recipe, find_stage, outside_inputs
    from crawl2chat.recipe import load_settings
    from crawl2chat.report import print_stage
    from crawl2chat.run import StageError, run_stage

    if getattr(options, "explain", None):
        return explain_command(options, flags)
    if options.out is None or None in getattr(options, "inputs", []):
        raise StageError(f"{options.command}: give WARC to read and --out DIR to write into, or --explain URL")
    stage = find_stage(options.command)
    table = type(Recipe.model_fields[stage.name].default)
    settings = load_settings(table, options.recipe, flags, table=stage.name)
    inputs = dict(zip(stage.inputs, getattr(options, "inputs", []), strict=True))
    outside = outside_inputs(stage, settings)
    manifest, ran = run_stage(stage, inputs, options.out, settings, outside=outside, force=options.force)
    print_stage(options.out, manifest, ran)
    return 0


def explain_command(options: argparse.Namespace, flags: list[str]) -> int:
    """Of a run by its folder or recipe (the default one's), or of a crawl or WARC, with --out its refine folder."""
    from crawl2chat.recipe import load_settings
    from crawl2chat.refine import explain, explain_terminal
    from crawl2chat.refine.settings import RefineSettings

    place, recipe = options.inputs[0] or Path("runs") / _find_recipe(None).stem, options.recipe
    if place.suffix == ".toml":
        place, recipe = Path("runs") / place.stem, recipe or place
    run = place if (place / "crawl").is_dir() else None
    if run and not recipe and (run / "recipe.toml").exists():
        recipe = run / "recipe.toml"
    settings = load_settings(RefineSettings, recipe, flags, table="refine")
    crawl, refined = (run / "crawl", run / "refine") if run else (place, options.out)
    for page in explain.find_pages(crawl, refined, options.explain, settings):
        explain_terminal.print_page(page)
        for seen in explain.watch_page(page, crawl, settings):
            explain_terminal.print_step(seen, settings)
        explain_terminal.print_outcome(explain.find_outcome(refined, page) if refined else None, seen)
    return 0


def chat_command(options: argparse.Namespace) -> int:
    from crawl2chat.chat.calculator import calculate
    from crawl2chat.chat.terminal import Talk, chat
    from crawl2chat.run import StageError

    engine, stage = _load_engine(options)
    if options.tools and stage == "pretrain":
        raise StageError("chat --tools: a base model can't call tools; take a later --stage")
    index = _load_index(options.model) if options.tools else None
    tools = {"calculator": calculate, "search": index.search} if index else {}
    address = index.address if index else lambda page: None
    if stage == "pretrain":
        print("(a base model: it is shown a page on which a helper answers, and goes on with it)")
    chat(
        Talk(engine, _sampling(options), base=stage == "pretrain", tools=tools, address=address), system=options.system
    )
    return 0


def generate_command(options: argparse.Namespace) -> int:
    from crawl2chat.run import StageError

    (engine, _), sampling = _load_engine(options), _sampling(options)
    try:
        completions = engine.generate(options.prompts, sampling)
    except ValueError as error:
        raise StageError(str(error)) from error
    for prompt, completion in zip(options.prompts, completions, strict=True):
        print(prompt + completion.text)
    return 0


def rank_command(options: argparse.Namespace) -> int:
    from crawl2chat.chat.sft import load_ledger
    from crawl2chat.prefer.rank import RankingStore, rank_in_terminal
    from crawl2chat.prefer.verses import verse_prompts
    from crawl2chat.run import StageError

    prompts, _ = verse_prompts(load_ledger(options.model / "crawl", "rank").verses)
    engine, _ = _load_engine(options)
    store = RankingStore(options.store or options.model / "rankings.sqlite")
    try:
        rank_in_terminal(store, engine, [prompt.text for prompt in prompts], options.answers, options.annotator)
    except ValueError as error:
        raise StageError(str(error)) from error
    return 0


def tokens_command(options: argparse.Namespace) -> int:
    from crawl2chat.tokens import Tokenizer

    folder = options.tokenizer
    tokenizer = Tokenizer.load(folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder)
    ids = tokenizer.encode(options.text)
    for id in ids:
        print(f"{id:6}  {tokenizer.decode_bytes([id])!r}")
    print(f"{len(ids)} tokens, {len(options.text.encode()) / max(1, len(ids)):.2f} bytes a token")
    return 0


def plan_command(options: argparse.Namespace, flags: list[str]) -> int:
    from crawl2chat.pipeline import Recipe
    from crawl2chat.plan import plan
    from crawl2chat.recipe import load_settings

    if options.until:
        flags = [*flags, f"--until={options.until}"]
    recipe = load_settings(Recipe, _find_recipe(options.recipe), flags)
    print(
        plan(
            recipe, warc=options.measure, run=options.rates, cores=options.cores, price=options.price,
            flops=options.flops,
        )
    )  # fmt: skip
    return 0


def classify_command(options: argparse.Namespace) -> int:
    from crawl2chat.refine.classify import train_from_files

    model = train_from_files(
        options.positive, options.negative, options.labels, options.threshold,
        bits=options.bits, epochs=options.epochs, seed=options.seed,
    )  # fmt: skip
    model.save(options.out)
    print(f"{model.describe()}\nclassifier: {options.out}")
    return 0


def judge_command(options: argparse.Namespace) -> int:
    from crawl2chat.refine.judge import Judge, judge_files
    from crawl2chat.run import StageError

    key = os.environ.get(options.key_variable, "") if options.key_variable else ""
    if options.key_variable and not key:
        raise StageError(f"judge --key-variable {options.key_variable}: there is no such environment variable")
    judge = Judge(options.url, options.model, key, options.timeout)
    counts = judge_files(options.files, judge, options.out, threads=options.threads, sample=options.sample)
    print(", ".join(f"{count:,} {what}" for what, count in counts.items()) + f"\nlabels: {options.out}")
    return 1 if counts["unanswered"] else 0


def report_command(options: argparse.Namespace) -> int:
    from crawl2chat.report import print_stage, read_run, write_report

    page = write_report(options.run)
    for folder, manifest in read_run(options.run):
        print_stage(folder, manifest, ran=False)
    print(f"report: {page}")
    return 0


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


def _find_recipe(path: Path | None) -> Path:
    """The file that was named, or laptop.toml as it lies in a checkout or in an installed package."""
    if path is not None:
        return path
    package = Path(__file__).parent
    installed = package / "recipes" / "laptop.toml"
    return installed if installed.exists() else package.parents[1] / "recipes" / "laptop.toml"


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
        from crawl2chat.pipeline import Recipe
        from crawl2chat.recipe import settings_help

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


def _add_sampling(parser: argparse.ArgumentParser, temperature: float) -> None:
    parser.add_argument("--temperature", type=float, default=temperature, help="0 takes the most probable token")
    parser.add_argument("--top-k", type=int, default=0, help="keep the k most probable tokens; 0 keeps all")
    parser.add_argument("--top-p", type=float, default=1.0, help="keep the smallest set that reaches this probability")
    parser.add_argument("--max-tokens", type=int, default=200, help="length of the answer at most")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another answer")


def _sampling(options: argparse.Namespace):  # type: ignore[no-untyped-def]  # its type would import torch
    from crawl2chat.generate import Sampling
    from crawl2chat.run import StageError

    try:
        return Sampling(
            options.temperature, options.top_k, options.top_p, options.max_tokens, tuple(options.stop), options.seed
        )
    except ValueError as error:
        raise StageError(str(error)) from error


def _load_engine(options: argparse.Namespace):  # type: ignore[no-untyped-def]  # its type would import torch
    """The engine of the model that was named and the stage that made it, if one did."""
    import torch

    from crawl2chat.generate import Engine
    from crawl2chat.model import load_model
    from crawl2chat.run import StageError, is_current, read_manifest
    from crawl2chat.tokens import Tokenizer

    folder, found = options.model, None
    for name in [options.stage] if options.stage else reversed(MODEL_STAGES):
        stage = "pretrain" if name == "base" else name
        manifest = read_manifest(folder / stage)
        if manifest and is_current(folder, manifest):
            folder, found = folder / stage, stage
            break
        if manifest:
            print(f"{folder / stage}: made from an earlier state of the run, so left out", file=sys.stderr)
    if options.stage and not found:
        raise StageError(f"{folder}: has no finished model of the stage {options.stage}")
    manifest = read_manifest(folder)
    model = load_model(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    return Engine(model, Tokenizer.load(folder)), found or (manifest and manifest.stage)


def _load_index(run: Path):  # type: ignore[no-untyped-def]
    """The search index of the run's documents; `run` may also be the folder of one of its stages."""
    from crawl2chat.honesty.search import SearchIndex
    from crawl2chat.honesty.stage import INDEX

    files = [folder / "honesty" / INDEX for folder in (run, run.parent)]
    return SearchIndex(next((file for file in files if file.exists()), files[0]))


if __name__ == "__main__":
    sys.exit(main())
