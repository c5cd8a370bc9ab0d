"""The commands that talk with a model: in the terminal, by continuing texts, by ranking its answers."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from crawl2chat.commands import (
    MODEL_STAGES,
    load_engine,
    read_stdin,
    sampling_of,
)
from crawl2chat.options import add_sampling, within

RUN_HELP = "a run's folder, a stage's, or a Hugging Face folder"
STAGE_HELP = "which of the run's models (default: the best by its check-up)"


def add_talking(add: Callable[..., argparse.ArgumentParser]) -> None:
    _add_chat(add("chat", "talk to a model in the terminal", chat_command))
    _add_generate(add("generate", "continue texts with a model", generate_command))

    rank = add("rank", "rank a model's answers yourself, for --prefer.rankings", rank_command)
    rank.add_argument("model", type=Path, metavar="RUN", help="a run's folder with a crawl and a chat model")
    rank.add_argument("--stage", choices=MODEL_STAGES[1:], help="whose answers (of the best by its check-up)")
    rank.add_argument("--answers", type=int, default=2, metavar="K", help="answers to a prompt; 2 is one key a pair")
    rank.add_argument("--store", type=Path, metavar="FILE", help="where rankings go (RUN/rankings.sqlite)")
    rank.add_argument("--annotator", default="me", metavar="NAME", help="whose taste it is")


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
    from crawl2chat.run import StageError

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
    from crawl2chat.run import StageError

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
    from crawl2chat.refine.extract import NOT_TEXT

    print(NOT_TEXT.sub("", text) if sys.stdout.isatty() else text, end="", flush=True)


def rank_command(options: argparse.Namespace) -> int:
    from crawl2chat.chat.line_input import LineInput
    from crawl2chat.chat.sft import load_ledger
    from crawl2chat.prefer.rank import RankingStore, rank_in_terminal
    from crawl2chat.prefer.verses import verse_prompts
    from crawl2chat.run import StageError

    prompts, _ = verse_prompts(load_ledger(options.model / "crawl", "rank").verses)
    engine, _ = load_engine(options)
    store = RankingStore(options.store or options.model / "rankings.sqlite")
    try:
        rank_in_terminal(
            store, engine, [prompt.text for prompt in prompts], options.answers, options.annotator,
            read=LineInput().line,
        )  # fmt: skip
    except ValueError as error:
        raise StageError(str(error)) from error
    return 0


def _load_index(run: Path):  # type: ignore[no-untyped-def]
    """The search index of the run's documents; `run` may also be the folder of one of its stages."""
    from crawl2chat.honesty.search import SearchIndex
    from crawl2chat.honesty.stage import INDEX

    files = [folder / "honesty" / INDEX for folder in (run, run.parent)]
    return SearchIndex(next((file for file in files if file.exists()), files[0]))
