"""The fine-tuning stage: conversations and a base model in, a chat model out."""

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crawl2chat.chat.conversations import (
    Conversation,
    Documents,
    document_rows,
    pack,
    read_conversations,
    write_conversations,
)
from crawl2chat.chat.settings import FineTuneSettings, SftSettings
from crawl2chat.chat.showcase import SHOWN_TOKENS, write_showcase
from crawl2chat.chat.synthesize import conversations_of, fact_questions, sum_questions
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import offer_by_name
from crawl2chat.evals.grading import is_correct
from crawl2chat.evals.knowledge import FACT_TOKENS, SUM_TOKENS, Answer, accuracy_by_group, ask, mentions
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import load_model
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.stages.stage import METRICS, read_manifest
from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments
from crawl2chat.tokenizer.tokenizer import TOOL_CALL, TOOL_RESPONSE
from crawl2chat.train.data import RowBatches
from crawl2chat.train.devices import choose_device
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import save_stage_model

SUMS_PER_DIGITS = 100
FEW_STEPS = 50


def sft(conversations: AnyPath, model: AnyPath, out: AnyPath, settings: SftSettings) -> list[Figure]:
    """Train `model` on the assistant's part of conversations.

    `conversations` is a file that `read_conversations` reads, or the crawl folder of a fictional web: conversations
    are then made from its ledger, two people of five are held out of them and one is left to be probed; the answers
    about those who were taught and those who were held out are measured.
    """
    conversations, model, out = Path(conversations), Path(model), Path(out)
    ledger = None if conversations.is_file() else load_ledger(conversations, "sft")
    tokenizer = Tokenizer.load(model)
    made = conversations_of(ledger, settings) if ledger else _read(conversations, model, tokenizer)
    write_conversations(made, out / "conversations.jsonl")
    figures = fine_tune(made, model, tokenizer, out, settings, "sft", training_documents(model))
    if ledger:
        engine = Engine(load_model(out, device=choose_device(settings)), tokenizer)
        figures += _measure(engine, ledger, settings.seed, out)
        base = Engine(load_model(model, device=choose_device(settings)), tokenizer)
        greedy = Sampling(temperature=0, max_tokens=SHOWN_TOKENS)
        write_showcase({"base": Talk(base, greedy, base=True), "sft": Talk(engine, greedy)}, ledger, settings.seed, out)
    return figures


def _read(file: Path, model: Path, tokenizer: Tokenizer) -> list[Conversation]:
    """The conversations of a file, with tools offered as `serve` offers them; reports what of it is not learned."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    read = read_conversations(file, say)
    n_calls = sum(any(m["role"] == "tool" or m.keys() & {"tool_calls", "tools"} for m in messages) for messages in read)
    missing = [tag for tag in (*TOOL_CALL, *TOOL_RESPONSE) if tag not in tokenizer.controls]
    if n_calls and missing:
        raise StageError(
            f"{file}: {n_calls:,} of {len(read):,} conversations use tools, but this model's tokenizer has no token "
            f"{', '.join(missing)}; remove these conversations"
        )
    n_offers = sum("tools" in messages[0] for messages in read)
    manifest = read_manifest(model)
    if not n_offers or manifest is None or manifest.stage == "import":
        return read
    counted = f"{n_offers:,} of {len(read):,} conversations"
    say(f"{file}: tools offered in {counted}; this model reads their names, not their descriptions")
    return [offer_by_name(messages) for messages in read]


def load_ledger(folder: Path, stage: str) -> Ledger:
    """The truth about a fictional web. Raises StageError, in the name of the stage, where there is none."""
    try:
        return Ledger.load(folder)
    except FileNotFoundError as error:
        raise StageError(
            f"{stage}: {folder} is no fictional web, so no conversations can be made from it"
            + ("; name a file of conversations (--conversations FILE in a run)" if stage == "sft" else "")
        ) from error


def fine_tune(
    conversations: list[Conversation],
    base: Path,
    tokenizer: Tokenizer,
    out: Path,
    settings: FineTuneSettings,
    stage: str,
    documents: Documents = (),
) -> list[Figure]:
    """Train `base` on the assistant's part of conversations and write `out/model`; figures on the training.

    Beside them, `settings.documents` rows for each of theirs are running text of `documents`. Without it, the model
    forgets what it has read about people that no conversation speaks of (docs/decisions.md).
    """
    model = load_model(base)
    context = model.config.max_position_embeddings
    if settings.seq_len > context:
        raise StageError(f"{stage}.seq_len = {settings.seq_len}: the model's context is {context} tokens; set it lower")
    ids, weights, too_long = pack(conversations, tokenizer, settings.seq_len, settings.seed)
    if not len(ids):
        raise StageError(
            f"{stage}: none of {len(conversations)} conversations fits {stage}.seq_len = {settings.seq_len}"
        )
    n_rows = round(settings.documents * len(ids))
    text_ids, text_weights = document_rows(documents, n_rows, settings.seq_len, settings.seed)
    ids, weights = np.concatenate([ids, text_ids]), np.concatenate([weights, text_weights])
    steps = max(1, round(settings.epochs * len(ids) / settings.batch_rows))
    if steps < FEW_STEPS:
        print(
            f"{stage}: {len(conversations) - too_long} conversations make only {steps} steps, which may teach little; "
            f"raise --{stage}.epochs or lower --{stage}.batch_tokens",
            file=sys.stderr,
        )
    if not (out / "model").exists():
        batches = RowBatches(ids, weights, settings.batch_rows, settings.seed)
        objective = NextToken(model, batches, settings, tokens_per_epoch=len(ids) * settings.seq_len)
        train(objective, steps, settings, out, label=stage)
        save_stage_model(model, tokenizer, out)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)  # of use only until the model is there
    return [
        Figure("conversations", len(conversations) - too_long),
        Figure("conversations_too_long", too_long),
        Figure("learned_tokens_per_epoch", float(weights.sum()), "tokens"),
        Figure("steps", steps),
        *_losses(out / METRICS),
    ]


def training_documents(model: Path) -> Documents:
    """What the base model was trained on, where its stage has left it; nothing for a model from elsewhere."""
    folder = model / "tokens" / "training"
    return TokenizedDocuments.load(folder) if folder.is_dir() else ()


def _losses(file: Path) -> list[Figure]:
    """The loss on the conversations at the beginning and at the end."""
    losses = [line["loss"] for line in read_metrics(file) if "loss" in line]
    if not losses:
        return []
    return [Figure("first_loss", losses[0], "nats/token"), Figure("last_loss", losses[-1], "nats/token")]


def _measure(engine: Engine, ledger: Ledger, seed: int, out: Path) -> list[Figure]:
    """Facts about people whose questions were taught and about people who were never asked about; held-out sums."""
    taught = ask(engine, fact_questions(ledger, "train", seed), mentions, FACT_TOKENS)
    held_out = ask(engine, fact_questions(ledger, "held_out", seed), mentions, FACT_TOKENS)
    at_once, in_steps = (
        ask(engine, questions, is_correct, SUM_TOKENS) for questions in sum_questions(ledger, SUMS_PER_DIGITS, seed)
    )
    answers = [*taught, *held_out, *at_once, *in_steps]
    write_answers(answers, out / "answers.jsonl")
    return [
        *accuracy_by_group("facts_taught", taught),
        *accuracy_by_group("facts_held_out", held_out),
        *accuracy_by_group("sums_at_once", at_once),
        *accuracy_by_group("sums_step_by_step", in_steps),
        share("answers_that_end", sum(answer.stopped for answer in answers), len(answers)),
    ]


def write_answers(answers: Iterable[Answer], file: Path) -> None:
    with atomic_write(file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for answer in answers:
            question = answer.question
            row = {
                "question": question.text,
                "answer": answer.text,
                "expected": question.expected,
                "right": answer.right,
                "group": question.group,
            }
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
