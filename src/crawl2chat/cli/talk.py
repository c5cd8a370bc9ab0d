"""The commands that talk with a model: in the terminal, by continuing texts, by ranking its answers."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crawl2chat.cli.arguments import add_sampling, within
from crawl2chat.cli.run import (
    MODEL_STAGES,
    find_model,
    load_engine,
    name_of,
    read_stdin,
    sampling_of,
)

RUN_HELP = "a run's folder, a stage's, or a Hugging Face folder"
STAGE_HELP = "which of the run's models (default: the best by its check-up)"


def add_talking(add: Callable[..., argparse.ArgumentParser]) -> None:
    _add_chat(add("chat", "talk to a model in the terminal", chat_command))
    _add_generate(add("generate", "continue texts with a model", generate_command))

    _add_rank(add("rank", "rank a model's answers yourself, for --prefer.rankings", rank_command))


def _add_rank(rank: argparse.ArgumentParser) -> None:
    rank.add_argument("model", type=Path, metavar="RUN", help=RUN_HELP)
    rank.add_argument("--stage", choices=MODEL_STAGES[1:], help="whose answers (of the best by its check-up)")
    rank.add_argument("--answers", type=int, default=2, metavar="K", help="answers per prompt; 2 is one key per pair")
    rank.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help='JSON lines of {"prompt": …} or {"messages": …} (default: the verses that a run\'s made-up web asks for)',
    )  # fmt: skip
    rank.add_argument("--store", type=Path, metavar="FILE", help="where rankings go (RUN/rankings.sqlite)")
    rank.add_argument("--annotator", default="me", metavar="NAME", help="whose taste it is")
    rank.add_argument(
        "--repeat-every", type=within(int, 0), default=10, metavar="N",
        help="show one earlier prompt again, unannounced, per N new ones; 0: none (10)",
    )  # fmt: skip
    files = rank.add_argument_group("in place of ranking")
    files.add_argument("--agreement", action="store_true", help="print how far annotators agree, each with an interval")
    files.add_argument("--export", type=Path, metavar="FILE", help="write ranked lists as JSON lines; - is the screen")
    files.add_argument(
        "--export-pairs",
        type=Path,
        metavar="FILE",
        help="write pairs of prompt, chosen and rejected, as TRL reads them",
    )
    files.add_argument(
        "--import",
        dest="import_",
        type=Path,
        metavar="FILE",
        help="add the ranked lists or pairs of a file to the store",
    )


def _add_chat(chat: argparse.ArgumentParser) -> None:
    chat.add_argument("model", type=Path, metavar="RUN", help=RUN_HELP)
    chat.add_argument("--stage", choices=MODEL_STAGES, help=STAGE_HELP)
    chat.add_argument("--tools", action="store_true", help="let it search the run's documents and use a calculator")
    chat.add_argument("--system", metavar="TEXT", help="system message at the beginning")
    add_sampling(chat, temperature=0.0)


def _add_generate(generate: argparse.ArgumentParser) -> None:
    generate.add_argument("model", type=Path, metavar="RUN", help=RUN_HELP)
    generate.add_argument(
        "prompts",
        nargs="+",
        metavar="TEXT",
        help="beginnings of documents, continued as one batch; - reads all of stdin",
    )
    generate.add_argument("--stage", choices=MODEL_STAGES, help=STAGE_HELP)
    generate.add_argument(
        "--samples", type=within(int, 1), default=1, metavar="N", help="continuations to sample for each text (1)"
    )
    generate.add_argument(
        "--top", type=within(int, 1), default=0, metavar="K",
        help="show the K most probable next tokens at each step, before and after the controls below",
    )  # fmt: skip
    add_sampling(generate, temperature=0.8)


def chat_command(options: argparse.Namespace) -> int:
    from crawl2chat.chat.calculator import calculate
    from crawl2chat.chat.talk import Talk
    from crawl2chat.chat.terminal import chat
    from crawl2chat.stages.files import StageError

    engine, stage = load_engine(options, max_batch=1)
    if options.tools and stage == "pretrain":
        raise StageError("chat --tools: a base model can't call tools; take a later --stage")
    if options.tools and stage == "sft":
        print(
            "(this model was taught no tools and may never call one; the stage honesty teaches them)", file=sys.stderr
        )
    index = _load_index(options.model) if options.tools else None
    tools = {"calculator": calculate, "search": index.search} if index else {}
    address = index.address if index else lambda page: None
    if stage == "pretrain":
        print("(a base model: it is shown a page on which a helper answers, and goes on with it)", file=sys.stderr)
    talk = Talk(engine, sampling_of(options), base=stage == "pretrain", tools=tools, address=address)
    chat(talk, system=options.system)
    return 0


def generate_command(options: argparse.Namespace) -> int:
    from crawl2chat.stages.files import StageError

    prompts = [read_stdin("generate") if prompt == "-" else prompt for prompt in options.prompts]
    engine, _ = load_engine(options, max_batch=min(128, len(options.prompts) * options.samples))
    sampling = sampling_of(options, top_logprobs=options.top)
    try:
        if options.top:
            from crawl2chat.report.next_token import print_steps

            print_steps(engine, prompts, options.samples, sampling)
        elif len(prompts) == options.samples == 1:
            pieces = engine.stream(prompts[0], sampling)
            _write(prompts[0] + next(pieces, ""))  # nothing of a prompt that is refused
            try:
                for piece in pieces:
                    _write(piece)
            finally:  # Ctrl-C, too
                _write("\n")
        else:
            _print_samples(engine, prompts, options.samples, sampling)
    except ValueError as error:
        raise StageError(str(error)) from error
    return 0


def _print_samples(engine, prompts: list[str], samples: int, sampling) -> None:  # type: ignore[no-untyped-def]  # as below
    """All as one batch, each below a line that says which it is."""
    completions = engine.generate(prompts * samples, sampling)
    for i, prompt in enumerate(prompts):
        for sample, completion in enumerate(completions[i :: len(prompts)], 1):
            print(f"--- prompt {i + 1}/{len(prompts)}, sample {sample}/{samples}, {len(completion.ids)} tokens")
            _write(prompt + completion.text + "\n")


def _write(text: str) -> None:
    """At once; on a screen without control characters, which a model may have learned from pages."""
    from crawl2chat.refine.text.extract import NOT_TEXT

    print(NOT_TEXT.sub("", text) if sys.stdout.isatty() else text, end="", flush=True)


def rank_command(options: argparse.Namespace) -> int:
    from crawl2chat.chat.line_input import LineInput
    from crawl2chat.rl.from_ledger import has_only_ledger, prompts_of_ledger
    from crawl2chat.rl.preferences.plan import Source
    from crawl2chat.rl.preferences.preference_files import read_prompts
    from crawl2chat.rl.preferences.rank import rank_in_terminal
    from crawl2chat.rl.preferences.store import RankingStore
    from crawl2chat.stages.files import StageError

    file = options.store or options.model / "rankings.sqlite"
    if options.import_ or options.export or options.export_pairs or options.agreement:
        return _rank_files(options, file)
    crawl = options.model / "crawl"
    if not options.prompts and has_only_ledger(crawl):
        prompts = [row.prompt for row in prompts_of_ledger(crawl) if row.split == "train"]
    else:
        prompts = read_prompts(options.prompts or crawl)
    engine, stage = load_engine(options)
    source = Source(name_of(options.model, find_model(options)[0]), stage)
    try:
        rank_in_terminal(
            RankingStore(file), engine, prompts, options.answers, options.annotator, read=LineInput().line,
            source=source, repeat_every=options.repeat_every,
        )  # fmt: skip
    except ValueError as error:
        raise StageError(str(error)) from error
    return 0


def _rank_files(options: argparse.Namespace, file: Path) -> int:
    """Import first, so that an export has what came in."""
    from crawl2chat.rl.preferences import preference_files as files
    from crawl2chat.rl.preferences.agreement import report
    from crawl2chat.rl.preferences.store import RankingStore
    from crawl2chat.stages.files import StageError, atomic_write

    if options.import_:
        read = files.read_judgements(options.import_, options.annotator)
        added = files.import_judgements(RankingStore(file), read)
        print(f"{added} judgements added to {file}; it had {len(read) - added} already", file=sys.stderr)
    elif not file.is_file():
        raise StageError(f"{file}: no such file; rank first, or name another --store")
    judgements = RankingStore.read(file).judgements()
    for out, lines in ((options.export, files.ranked_lines), (options.export_pairs, files.pair_lines)):
        if out is None:
            continue
        if str(out) == "-":
            sys.stdout.writelines(lines(judgements))
            continue
        with atomic_write(out) as temporary, open(temporary, "w", encoding="utf-8") as handle:
            handle.writelines(lines(judgements))
    if options.agreement:
        _print_agreement(report(judgements))
    return 0


def _print_agreement(found: dict[str, Any]) -> None:
    from crawl2chat.stages.figures import Figure

    def told(name: str, value: dict[str, Any] | None) -> str:
        return str(Figure.from_json(name, value)) if value else "not defined"

    for one in found["annotators"]:
        print(f"{one['name']}: {one['ranked']} ranked, {one['all_bad']} all bad, {one['skipped']} skipped")
    if found["alpha"]:
        print(f"Krippendorff's alpha: {told('alpha', found['alpha'])} over {found['alpha']['count']} prompts")
    rows = [(f"{row['one']} and {row['other']}", row) for row in found["between"]]
    rows += [(f"{row['name']}, the second time", row) for row in found["with_oneself"]]
    for name, row in rows:
        of = f"{row['pairs']} pairs in {row['prompts']} prompts"
        print(
            f"{name}: same order {told('same', row['same_share'])} of {of}, Kendall's tau-b {told('tau', row['tau'])}"
        )
    if not rows:
        print("nobody has ranked the same answers as somebody else, or twice")


def _load_index(run: Path):  # type: ignore[no-untyped-def]
    """The search index of the run's documents; `run` may also be the folder of one of its stages."""
    from crawl2chat.honesty.search import INDEX, SearchIndex, find_index

    return SearchIndex(find_index(run) or run / "honesty" / INDEX)
