"""The commands about texts and conversations: how they are cut into tokens, what is in them, which are good."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from crawl2chat.api import find_model
from crawl2chat.cli.arguments import WEIGHT_FORMS, Add, key_of, read_stdin, text_of, within
from crawl2chat.stages.files import StageError

if TYPE_CHECKING:
    from crawl2chat.generate.chat_models import ChatModel

PUBLIC_ENCODINGS = ("gpt2", "gpt4", "gpt4o")  # tokenizer.public has more about them
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,39}", re.ASCII)


def add_tokens(add: Add) -> None:
    tokens = add(
        "tokens", "show how texts are cut into tokens, by several encodings next to each other", tokens_command,
        example='"How many r are in strawberry?" --with gpt4 --with runs/laptop',
    )  # fmt: skip
    tokens.usage = "crawl2chat tokens [-h] [--with ENCODING] [--merges] [RUN] TEXT"
    tokens.add_argument(
        "words", nargs="+", metavar="[RUN] TEXT", help="RUN is the same as --with RUN; - for TEXT is all of stdin"
    )
    tokens.add_argument(
        "--with", dest="encodings", action="append", default=[], metavar="ENCODING",
        help="gpt2, gpt4, gpt4o, a run's folder, a folder or file with a tokenizer.json, or NAME=PATH of these; "
        "repeatable (gpt2, gpt4 and gpt4o)",
    )  # fmt: skip
    tokens.add_argument("--merges", action="store_true", help="replay the merges that make the tokens of bytes")


def tokens_command(options: argparse.Namespace) -> int:
    from rich.console import Console

    from crawl2chat.tokenizer.public import open_encoding
    from crawl2chat.tokenizer.terminal import print_cuts, print_merges

    *run, text = options.words
    if len(run) > 1:
        raise StageError(f"tokens: expected one TEXT, or RUN TEXT, not {len(options.words)} arguments; quote the text")
    places = [*run, *options.encodings] or list(PUBLIC_ENCODINGS)
    named = dict(map(_named, places))
    encodings = {name: open_encoding(place) for name, place in named.items()}
    text = read_stdin("tokens") if text == "-" else text_of("tokens", text)
    (print_merges if options.merges else print_cuts)(Console(highlight=False), text, encodings)
    return 0


def _named(given: str) -> tuple[str, str]:
    """What an encoding is called, and where it is; a tilde that the shell left is the home folder."""
    name, equals, path = given.partition("=")
    if not (equals and NAME.fullmatch(name)):
        name = path = given
    return name, path if path in PUBLIC_ENCODINGS else str(Path(path).expanduser())


def named_tokenizer(text: str) -> tuple[str, Path]:
    """A type for argparse: NAME=PATH of an encoding that is shown in addition to others."""
    name, equals, path = text.partition("=")
    if not (equals and path and NAME.fullmatch(name)) or name in (*PUBLIC_ENCODINGS, "run"):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NAME=PATH, a path to a tokenizer.json or a folder with one, and a name of letters, "
            f"digits, '.', '_', '+' and '-' other than run, {', '.join(PUBLIC_ENCODINGS)}"
        )
    return name, Path(path).expanduser()


def add_conversations(add: Add) -> None:
    conversations = add(
        "conversations", "show what is in files of conversations, and what of it a model would learn",
        conversations_command, example="chats.jsonl more.csv --show-mask runs/smollm2",
    )  # fmt: skip
    conversations.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="messages as OpenAI has them, ShareGPT, Alpaca, or prompt and completion; JSON lines, JSON, CSV, Parquet",
    )  # fmt: skip
    conversations.add_argument(
        "--show-mask", type=Path, metavar="MODEL",
        help="count tokens by this model's tokenizer, and print some conversations as it reads them, with what is "
        "learned in colour",
    )  # fmt: skip
    conversations.add_argument(
        "--count", type=within(int, 1), default=3, metavar="N", help="number of conversations of each file to print (3)"
    )


def conversations_command(options: argparse.Namespace) -> int:
    from rich.console import Console

    from crawl2chat.chat.conversations import read_conversations
    from crawl2chat.chat.overview import print_masks, print_overview
    from crawl2chat.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(find_model(options.show_mask)[0]) if options.show_mask else None
    console = Console(highlight=False)
    print_overview(console, options.files, tokenizer)
    if tokenizer:
        for file in options.files:
            print_masks(console, read_conversations(file)[: options.count], tokenizer)
    return 0


def add_classify(add: Add) -> None:
    classify = add(
        "classify", "train a quality classifier for --refine.classifier.model", classify_command,
        example="--positive good.jsonl --negative mine/refine --out mine/classifier",
    )  # fmt: skip
    files = {
        "--positive": "examples of texts to keep",
        "--negative": "ordinary texts of the crawl",
        "--labels": "labels that `crawl2chat judge` wrote",
    }
    for flag, help in files.items():
        classify.add_argument(flag, nargs="+", type=Path, default=[], metavar="FILE", help=help)
    classify.add_argument(
        "--threshold", type=float, default=3, metavar="N", help="count labels of N or more as positive (3)"
    )
    classify.add_argument("--out", type=Path, required=True, metavar="DIR", help="the classifier's folder")
    classify.add_argument(
        "--bits", type=within(int, 1, 30), default=20, help="use 2^BITS weights; take more for millions of texts (20)"
    )
    classify.add_argument("--epochs", type=within(int, 1), default=5, help="passes over the texts (5)")
    classify.add_argument("--seed", type=within(int, 0), default=0, help="seed of which texts are held out (0)")


def classify_command(options: argparse.Namespace) -> int:
    from crawl2chat.refine.quality.classify import train_from_files
    from crawl2chat.stages.disks import check_writable

    check_writable(options.out)
    model = train_from_files(
        options.positive, options.negative, options.labels, options.threshold,
        bits=options.bits, epochs=options.epochs, seed=options.seed,
    )  # fmt: skip
    model.save(options.out)
    print(f"{model.describe()}\nclassifier: {options.out}")
    return 0


def add_judge(add: Add) -> None:
    judge = add(
        "judge", "have a language model score texts, as labels for a quality classifier", judge_command,
        example="mine/refine --url http://localhost:8000/v1 --model judge --out labels.jsonl --sample 500",
    )  # fmt: skip
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


def add_judge_answers(add: Add) -> None:
    judge = add(
        "judge-answers", "have a language model rank answers by a rubric, as an annotator for `prefer`",
        judge_answers_command, example="answers.jsonl --with runs/smollm2/pretrain --out judged.jsonl",
    )  # fmt: skip
    judge.epilog = f"{JUDGE_NOTES}{judge.epilog}"
    judge.add_argument("file", type=Path, metavar="ANSWERS", help="JSON lines: prompts with answers, or pairs")
    judge.add_argument("--with", dest="folder", type=Path, metavar="PATH", help="folder of the model that judges")
    judge.add_argument("--url", help="have a model on a server with OpenAI's chat completions judge: http://HOST/v1")
    judge.add_argument("--model", metavar="NAME", help="the model's name on that server")
    judge.add_argument("--key-variable", metavar="NAME", help="environment variable that holds the server's key")
    judge.add_argument(
        "--threads", type=within(int, 1), default=4, metavar="N", help="number of requests to the server at a time (4)"
    )
    judge.add_argument("--weights", choices=WEIGHT_FORMS, help="form in which the judging model's matrices are kept")
    judge.add_argument(
        "--by", choices=("compare", "score"), default="compare",
        help="compare each two answers in both orders, or score each answer from 1 to 5 (compare)",
    )  # fmt: skip
    judge.add_argument("--rubric", metavar="TEXT", help="what makes an answer good, in a sentence or two")
    judge.add_argument("--out", type=Path, required=True, metavar="FILE", help="ranked lists as JSON lines")


JUDGE_NOTES = """\
ANSWERS has lines of {"prompt" or "messages", "answers": ["...", "..."]}, or pairs {"prompt", "chosen", "rejected"}; an
order that it has already is what the judge is compared with. --out has ranked lists, which `--prefer.rankings` and
`rank --import` take. Judgements are remembered in FILE-asked.jsonl: the same command goes on from there.

"""


def judge_answers_command(options: argparse.Namespace) -> int:
    from rich.console import Console

    from crawl2chat.generate.chat_models import Remembered, ServerModel, open_local
    from crawl2chat.rl.preferences import judge
    from crawl2chat.rl.preferences.preference_files import ranked_lines
    from crawl2chat.stages.chat_server import ChatServer
    from crawl2chat.stages.disks import check_writable
    from crawl2chat.stages.figures import figure_table
    from crawl2chat.stages.files import atomic_write

    if bool(options.folder) == bool(options.url) or bool(options.url) != bool(options.model):
        raise StageError("judge-answers: give either --with PATH, or --url URL and --model NAME")
    check_writable(options.out)
    asked = judge.read_answers(options.file)
    if options.url:
        key = key_of("judge-answers", options.key_variable) or ""
        server = ChatServer(options.url, options.model, key, caller="judge-answers")
        model: ChatModel = ServerModel(server, options.threads)
    else:
        model = open_local(options.folder, options.weights)
    memory = options.out.with_name(f"{options.out.stem}-asked.jsonl")
    judged, figures = judge.judge_answers(
        Remembered(model, memory, "judge"), asked, options.by, options.rubric or judge.RUBRIC
    )
    with atomic_write(options.out) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        handle.writelines(ranked_lines(judged))
    Console(width=120, highlight=False).print(figure_table(figures))
    print(f"rankings: {options.out}")
    return 0


def judge_command(options: argparse.Namespace) -> int:
    from crawl2chat.refine.quality.judge import judge_files
    from crawl2chat.stages.chat_server import ChatServer

    judge = ChatServer(options.url, options.model, key_of("judge", options.key_variable) or "", options.timeout)
    counts = judge_files(options.files, judge, options.out, threads=options.threads, sample=options.sample)
    print(", ".join(f"{count:,} {what}" for what, count in counts.items()) + f"\nlabels: {options.out}")
    return 1 if counts["unanswered"] else 0
