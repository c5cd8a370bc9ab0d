"""The fine-tuning stage: conversations and a base model in, a chat model out."""

import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from crawl2chat.chat.conversations import (
    Conversation,
    Documents,
    document_rows,
    pack,
    read_conversations,
    write_conversations,
)
from crawl2chat.chat.held_out import answer_pairs, compare_answers, pairs_of
from crawl2chat.chat.measured import (
    CONVERSATIONS,
    Measured,
    ask_each_fact,
    ask_problems,
    held_out_questions,
    in_two_ways,
    share_out,
    write_answers,
)
from crawl2chat.chat.settings import FineTuneSettings, SftSettings
from crawl2chat.chat.showcase import SHOWCASE, Way, ask_all, showcase_questions, ways_before
from crawl2chat.chat.tools import offer_by_name
from crawl2chat.evals.judging import FACT_TOKENS, accuracy_by_group, ask, mentions
from crawl2chat.evals.questions import QuestionRow, of_split, read_questions
from crawl2chat.evals.tasks import read_problems
from crawl2chat.generate import Engine
from crawl2chat.model import Transformer, load_model
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import AnyPath, StageError, write_jsonl
from crawl2chat.stages.stage import METRICS, read_manifest
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments
from crawl2chat.train.data import RowBatches
from crawl2chat.train.devices import choose_device, load_engine
from crawl2chat.train.loop import train
from crawl2chat.train.lora import Start
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import save_stage_model

HELD_OUT = "held_out.jsonl"
HELD_OUT_SHARE, FEWEST_HELD_OUT = 0.02, 4  # of the conversations of a file
FEW_STEPS = 50


def sft(
    conversations: AnyPath,
    model: AnyPath,
    out: AnyPath,
    settings: SftSettings,
    *,
    questions: AnyPath | None = None,
    problems: AnyPath | None = None,
) -> list[Figure]:
    """Train `model` on the assistant's part of a file of conversations.

    `questions` and `problems`, where there are any, measure what was learned: questions that conversations answer,
    held-out questions about what can only be known from reading, and held-out problems at once and step by step. What
    is held out is left in `out`, for later stages to measure again.
    """
    conversations, model, out = Path(conversations), Path(model), Path(out)
    tokenizer = Tokenizer.load(model)
    training, held_out = _hold_out(_read(conversations, model, tokenizer), conversations, settings)
    for file, times in settings.mixed_in():
        more, more_held_out = _hold_out(_read(file, model, tokenizer), file, settings)
        training += _repeat(more, times, f"{file.name} {settings.seed}")
        held_out += more_held_out
    write_conversations(training, out / CONVERSATIONS)
    if held_out:
        write_conversations(held_out, out / HELD_OUT)
    asked = read_questions(questions) if questions else []
    _, to_solve = share_out(read_problems(problems), problems) if problems else ([], [])
    measured = Measured(held_out_questions(asked), to_solve)
    measured.write(out)
    shown, pairs = showcase_questions(measured, settings.seed), pairs_of(held_out, settings.answers, settings.seed)
    engine = load_engine(model, tokenizer, settings, out)
    showcase, before = ask_all(ways_before(model, engine), shown, settings.seed), answer_pairs(engine, pairs)
    del engine  # as large as the model
    figures = fine_tune(training, model, tokenizer, out, settings, "sft", training_documents(model), held_out)
    after = load_engine(out, tokenizer, settings, out)
    if pairs:
        taught = pairs_of(training, len(pairs), settings.seed)
        figures += compare_answers(before, after, pairs, taught, out)
    if measured:
        figures += _measure(after, taught_rows(asked, training), measured, settings.seed, out)
    write_jsonl(out / SHOWCASE, [*showcase, *ask_all([Way("sft", after)], shown, settings.seed)])
    return figures


def taught_rows(rows: Sequence[QuestionRow], conversations: Sequence[Conversation]) -> list[QuestionRow]:
    """The questions with known answers of the split train that conversations answer, in one wording or another."""
    said = {messages[0]["content"] for messages in conversations}
    return [row for row in of_split(rows, "train") if row.answers and not said.isdisjoint(row.wordings)]


def _hold_out(
    conversations: list[Conversation], file: Path, settings: SftSettings
) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations to train on, in their order, and those that are only measured with; equal ones stay together."""
    share = settings.held_out
    if share is None:
        crawl = read_manifest(file.parent)
        share = 0.0 if crawl and crawl.stage == "crawl" else HELD_OUT_SHARE
    keys = [json.dumps(messages, sort_keys=True) for messages in conversations]
    different = list(dict.fromkeys(keys))
    n = min(max(FEWEST_HELD_OUT, round(share * len(different))), len(different) // 5) if share else 0
    if share and not n:
        print(f"{file}: too few conversations to hold out any, so no validation loss is measured", file=sys.stderr)
    chosen = set(random.Random(f"held out {settings.seed}").sample(different, n))
    training = [messages for key, messages in zip(keys, conversations, strict=True) if key not in chosen]
    held_out = dict(zip(keys, conversations, strict=True))
    return training, [held_out[key] for key in different if key in chosen]


def _repeat(conversations: list[Conversation], times: float, seed: str) -> list[Conversation]:
    """All of them as often as `times` says, and for its fraction a choice of them, in their order."""
    whole, part = divmod(times, 1)
    n = round(part * len(conversations))
    chosen = sorted(random.Random(seed).sample(range(len(conversations)), n))
    return conversations * int(whole) + [conversations[i] for i in chosen]


def _read(file: Path, model: Path, tokenizer: Tokenizer) -> list[Conversation]:
    """The conversations of a file, with tools offered as `serve` offers them; reports what of it is not learned."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    read = read_conversations(file, say)
    n_calls = sum(any(m["role"] == "tool" or m.keys() & {"tool_calls", "tools"} for m in messages) for messages in read)
    if n_calls and not tokenizer.template.reads_tools:
        raise StageError(
            f"{file}: {n_calls:,} of {len(read):,} conversations use tools, but this model's chat template offers "
            "none; remove these conversations, or import the model with --tools"
        )
    n_offers = sum("tools" in messages[0] for messages in read)
    manifest = read_manifest(model)
    if not n_offers or manifest is None or manifest.stage == "import":
        return read
    counted = f"{n_offers:,} of {len(read):,} conversations"
    say(f"{file}: tools offered in {counted}; this model reads their names, not their descriptions")
    return [offer_by_name(messages) for messages in read]


def fine_tune(
    conversations: list[Conversation],
    base: Path,
    tokenizer: Tokenizer,
    out: Path,
    settings: FineTuneSettings,
    stage: str,
    documents: Documents = (),
    held_out: Sequence[Conversation] = (),
) -> list[Figure]:
    """Train `base` on the assistant's part of conversations and write `out/model`; return figures on the training.

    For each row of theirs, `settings.documents` rows are running text of `documents`. Without it, the model
    forgets what it has read about people that no conversation speaks of (docs/decisions.md). The loss on the
    conversations in `held_out` is measured before, during and after training.
    """
    model = Start(base, settings.lora).trainable(settings.seed)
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
    validation: list[Figure] = []
    evaluate: Callable[[int], dict[str, float]] | None = None
    if held_out:
        held_ids, held_weights, _ = pack(held_out, tokenizer, settings.seq_len, settings.seed)

        def held_out_loss(model: Transformer) -> float:
            return loss_of(model, held_ids, held_weights, max(1, settings.micro_batch_tokens // settings.seq_len))

        def evaluate(step: int) -> dict[str, float]:
            return {"held_out_loss": round(held_out_loss(model), 4)}

        validation.append(Figure("held_out_loss_before", held_out_loss(load_model(base)), "nats/token"))
    if not (out / "model").exists():
        batches = RowBatches(ids, weights, settings.batch_rows, settings.seed)
        objective = NextToken(model, batches, settings, tokens_per_epoch=len(ids) * settings.seq_len)
        train(objective, steps, settings, out, label=stage, evaluate=evaluate, adapter_lr=settings.lora.lr)
        save_stage_model(model, tokenizer, out)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)  # of use only until the model is there
    if held_out:
        after = held_out_loss(load_model(out, device=choose_device(settings)))
        validation.append(Figure("held_out_loss", after, "nats/token", count=len(held_out)))
    return [
        Figure("conversations", len(conversations) - too_long),
        Figure("conversations_too_long", too_long),
        Figure("learned_tokens_per_epoch", float(weights.sum()), "tokens"),
        Figure("steps", steps),
        *_losses(out / METRICS),
        *validation,
    ]


@torch.no_grad()
def loss_of(model: Transformer, ids: NDArray[np.int64], weights: NDArray[np.float32], rows: int) -> float:
    """Mean cross-entropy, in nats per token that counts, of packed conversations; `rows` of them per forward pass."""
    device = next(model.parameters()).device
    total = 0.0
    for start in range(0, len(ids), rows):
        ids_bt = torch.from_numpy(ids[start : start + rows]).to(device)
        weights_bt = torch.from_numpy(weights[start : start + rows, 1:]).to(device)
        logits = model(ids_bt[:, :-1]).float()
        losses = F.cross_entropy(logits.flatten(0, 1), ids_bt[:, 1:].flatten(), reduction="none")
        total += float((losses * weights_bt.flatten()).sum())
    return total / float(weights[:, 1:].sum())


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


def _measure(
    engine: Engine, taught_rows: Sequence[QuestionRow], measured: Measured, seed: int, out: Path
) -> list[Figure]:
    """Facts that conversations taught and facts that nobody was asked about; held-out problems in two ways."""
    known = [row for row in of_split(measured.questions, "held_out") if row.answers]
    taught = ask(engine, ask_each_fact(taught_rows, seed), mentions, FACT_TOKENS)
    held_out = ask(engine, ask_each_fact(known, seed), mentions, FACT_TOKENS)
    at_once, in_steps = (ask_problems(engine, way) for way in in_two_ways(measured.problems, seed))
    answers = [*taught, *held_out, *at_once, *in_steps]
    write_answers(answers, out / "answers.jsonl")
    return [
        *accuracy_by_group("facts_taught", taught),
        *accuracy_by_group("facts_held_out", held_out),
        *accuracy_by_group(f"{measured.what}_at_once", at_once),
        *accuracy_by_group(f"{measured.what}_step_by_step", in_steps),
        share("answers_that_end", sum(answer.stopped for answer in answers), len(answers)),
    ]
