"""The commands that talk with a model: in the terminal, by continuing texts, by ranking its answers."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crawl2chat import api
from crawl2chat.cli.arguments import (
    MODEL_STAGES,
    Add,
    add_documents,
    add_model,
    add_sampling,
    add_weights,
    open_model,
    read_stdin,
    sampling_of,
    tool_names,
    within,
)
from crawl2chat.stages.files import StageError

if TYPE_CHECKING:
    from crawl2chat.generate import Engine, Sampling


def add_chat(add: Add) -> None:
    chat = add("chat", "talk to a model in the terminal", chat_command, example="runs/laptop --tools")
    add_model(chat)
    add_weights(chat)
    chat.add_argument(
        "--tools", type=tool_names, nargs="?", const=["search", "calculator"], metavar="NAMES",
        help="tools that the model may call: search, calculator, python (programs run in a sandbox), with commas "
        "between; without names search,calculator",
    )  # fmt: skip
    add_documents(chat)
    chat.add_argument("--system", metavar="TEXT", help="system message at the beginning")
    add_sampling(chat, temperature=0.0)


def chat_command(options: argparse.Namespace) -> int:
    from crawl2chat.chat.terminal import chat
    from crawl2chat.chat.tools import taught_offer

    model = open_model(options, max_batch=1)
    if options.tools and model.stage == "sft" and not taught_offer(model.folder / "conversations.jsonl"):
        print(
            "(this model was not trained to use tools and may never call one; the stage honesty teaches them)",
            file=sys.stderr,
        )
    if model.is_base:
        print("(a base model: it is shown a page on which a helper answers, and continues it)", file=sys.stderr)
    talk = api.start_talk(
        model, sampling_of(options), options.tools, options.documents, vectors=options.vectors,
        always=options.search == "always",
    )  # fmt: skip
    chat(talk, system=options.system)
    return 0


def add_generate(add: Add) -> None:
    generate = add(
        "generate", "continue texts with a model", generate_command,
        example='runs/laptop "Chronicle of" --stage base --top 10 --max-tokens 2',
    )  # fmt: skip
    add_model(generate)
    add_weights(generate)
    generate.add_argument(
        "prompts", nargs="+", metavar="TEXT",
        help="beginnings of documents, continued as one batch; - reads all of stdin",
    )  # fmt: skip
    generate.add_argument(
        "--samples", type=within(int, 1), default=1, metavar="N", help="continuations to sample for each text (1)"
    )
    generate.add_argument(
        "--top", type=within(int, 1), default=0, metavar="K",
        help="show the K most probable next tokens at each step, before and after the controls below",
    )  # fmt: skip
    add_sampling(generate, temperature=0.8)


def generate_command(options: argparse.Namespace) -> int:
    prompts = [read_stdin("generate") if prompt == "-" else prompt for prompt in options.prompts]
    engine = open_model(options, max_batch=min(128, len(options.prompts) * options.samples)).engine
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


def _print_samples(engine: "Engine", prompts: list[str], samples: int, sampling: "Sampling") -> None:
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


def add_rank(add: Add) -> None:
    rank = add(
        "rank", "rank a model's answers yourself, for --prefer.rankings", rank_command,
        example="runs/laptop --answers 4 --annotator anna",
    )  # fmt: skip
    add_model(rank, stages=MODEL_STAGES[1:])
    rank.add_argument(
        "--answers", type=int, default=2, metavar="K", help="answers per prompt; with 2, one key ranks a pair (2)"
    )
    rank.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help='JSON lines of {"prompt": …} or {"messages": …} (default: the verses that a run\'s made-up web asks for)',
    )  # fmt: skip
    rank.add_argument("--store", type=Path, metavar="FILE", help="where rankings go (RUN/rankings.sqlite)")
    rank.add_argument("--annotator", default="me", metavar="NAME", help="name under which rankings are stored (me)")
    rank.add_argument(
        "--repeat-every", type=within(int, 0), default=10, metavar="N",
        help="show one earlier prompt again, unannounced, per N new ones; 0: none (10)",
    )  # fmt: skip
    files = rank.add_argument_group("in place of ranking")
    files.add_argument("--agreement", action="store_true", help="print how far annotators agree, each with an interval")
    files.add_argument("--export", type=Path, metavar="FILE", help="write ranked lists as JSON lines; - is the screen")
    files.add_argument(
        "--export-pairs", type=Path, metavar="FILE",
        help="write pairs of prompt, chosen and rejected, as TRL reads them",
    )  # fmt: skip
    files.add_argument(
        "--import", dest="import_", type=Path, metavar="FILE",
        help="add the ranked lists or pairs of a file to the store",
    )  # fmt: skip


def rank_command(options: argparse.Namespace) -> int:
    from crawl2chat.chat.line_input import LineInput
    from crawl2chat.rl.preferences.preference_files import read_prompts
    from crawl2chat.rl.preferences.rank import Source, rank_in_terminal
    from crawl2chat.rl.preferences.store import RankingStore

    file = options.store or options.model / "rankings.sqlite"
    if options.import_ or options.export or options.export_pairs or options.agreement:
        return _rank_files(options, file)
    prompts = read_prompts(options.prompts or options.model / "crawl")
    model = open_model(options)
    source = Source(api.name_of(options.model, model.folder), model.stage)
    try:
        rank_in_terminal(
            RankingStore(file), model.engine, prompts, options.answers, options.annotator, read=LineInput().line,
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
    from crawl2chat.stages.files import atomic_write

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

    def shown(name: str, value: dict[str, Any] | None) -> str:
        return str(Figure.from_json(name, value)) if value else "not defined"

    for one in found["annotators"]:
        print(f"{one['name']}: {one['ranked']} ranked, {one['all_bad']} all bad, {one['skipped']} skipped")
    if found["alpha"]:
        print(f"Krippendorff's alpha: {shown('alpha', found['alpha'])} over {found['alpha']['count']} prompts")
    rows = [(f"{row['one']} and {row['other']}", row) for row in found["between"]]
    rows += [(f"{row['name']}, the second time", row) for row in found["with_oneself"]]
    for name, row in rows:
        of = f"{row['pairs']} pairs in {row['prompts']} prompts"
        print(
            f"{name}: same order {shown('same', row['same_share'])} of {of}, Kendall's tau-b {shown('tau', row['tau'])}"
        )
    if not rows:
        print("nobody has ranked the same answers as somebody else, or twice")
