"""The stage that has a model write questions with short answers from documents, and conversations of them.

With `form = "gaps"` nobody writes: `gaps.py` leaves answers out of sentences.

A question stays if its answer is in the passage that it was written from, if it can be understood without that
passage, and if the writer, given the passage and the question, gives the same answer again. Everything else is counted
by reason and left in `dropped.jsonl`. Llama 3 made its questions about what it knows so (arXiv 2407.21783, section
4.3.6); that consistent answers are mostly right ones, see self-consistency (2203.11171).
"""

import os
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import Conversation, write_conversations
from crawl2chat.evals.judging import mentions
from crawl2chat.evals.questions import SPLITS, QuestionRow, write_questions
from crawl2chat.generate import Sampling
from crawl2chat.generate.chat_models import ChatModel, Remembered, ServerModel, open_local
from crawl2chat.refine.documents import read_documents
from crawl2chat.refine.rules.decontaminate import check_contamination
from crawl2chat.stages.chat_server import ChatServer
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import AnyPath, StageError, write_jsonl
from crawl2chat.synthesis import prompts
from crawl2chat.synthesis.checks import agrees, copies, facts_of, names_of, what_is_wrong
from crawl2chat.synthesis.gaps import GAP, gap_questions
from crawl2chat.synthesis.passages import Passage, Words, choose_passages
from crawl2chat.synthesis.settings import SynthesizeSettings

QUESTIONS, CONVERSATIONS, DROPPED = "questions.jsonl", "conversations.jsonl", "dropped.jsonl"
FACTS_TOKENS, LINE_TOKENS = 64, 48  # maximum lengths of what the writer writes
LINE = ("\n",)


@dataclass
class Draft:
    """A question on its way: `wordings[0]` as it was first written, `said` what the writer answered to it."""

    passage: Passage
    answer: str
    wordings: list[str] = field(default_factory=list)
    said: str = ""

    @property
    def question(self) -> str:
        return self.wordings[0]


class Dropped:
    """What was not kept, with the reason."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, reason: str, passage: Passage, **what: str) -> None:
        self.rows.append({"reason": reason, **what, "source": passage.source, "passage": passage.text})

    def figures(self) -> list[Figure]:
        reasons = Counter(row["reason"] for row in self.rows)
        return [Figure(f"dropped/{reason}", n) for reason, n in reasons.most_common()]


def synthesize(
    documents: AnyPath, out: AnyPath, settings: SynthesizeSettings, *, pretrain: AnyPath | None = None
) -> list[Figure]:
    """Write questions and conversations about `documents`; returns how much was written and kept, and why not.

    pretrain: the folder of the model that writes, unless settings name a server. What it was asked is remembered next
    to `out`, so that neither a killed run nor other settings ask the same twice.
    """
    out = Path(out)
    writer = Remembered(_writer(settings, pretrain), out.parent / f"{out.name}-asked.jsonl", "synthesize")
    passages, words = choose_passages(read_documents(documents), settings)
    if not passages:
        raise StageError(f"{documents}: no passage in these documents is long enough to ask about")
    dropped = Dropped()
    drafts = _written(writer, passages, words, settings, dropped)
    n_written = len(drafts)
    drafts = _unlike(drafts, settings, dropped)
    if settings.form == "questions":
        drafts = _answered_alike(writer, drafts, dropped)
    if settings.unknown_only:
        drafts = _unknown(writer, drafts, dropped)
    if settings.form == "questions":
        _reword(writer, drafts, words, settings, dropped)
    write_jsonl(out / DROPPED, dropped.rows)
    if not drafts:
        raise StageError(
            f"synthesize: none of {n_written} questions about {len(passages)} passages was good enough to keep; "
            f"{out / DROPPED} has the reasons. Take more documents or a larger model"
        )
    conversations = _conversations(writer, drafts, settings)
    write_questions(map(_row_of, drafts), out / QUESTIONS)
    write_conversations(conversations, out / CONVERSATIONS)
    splits = Counter(draft.passage.split for draft in drafts)
    return [
        Figure("passages", len(passages)),
        Figure("questions_written", n_written),
        share("kept", len(drafts), n_written),
        *(Figure(f"questions/{split}", splits[split]) for split in SPLITS),
        Figure("wordings_per_question", sum(len(draft.wordings) for draft in drafts) / len(drafts)),
        Figure("conversations", len(conversations)),
        *dropped.figures(),
    ]


def _writer(settings: SynthesizeSettings, model: AnyPath | None) -> ChatModel:
    if settings.url and settings.model:
        key = os.environ.get(settings.key_variable or "", "")
        if settings.key_variable and not key:
            raise StageError(f"synthesize.key_variable = {settings.key_variable}: no such environment variable")
        server = ChatServer(settings.url, settings.model, key, settings.timeout, caller="synthesize")
        return ServerModel(server, settings.threads)
    if model is None:
        raise StageError("synthesize: no model to write with; give --with MODEL, or --url URL and --model NAME")
    return open_local(model, settings.weights)


def _written(
    writer: Remembered, passages: Sequence[Passage], words: Words, settings: SynthesizeSettings, dropped: Dropped
) -> list[Draft]:
    """A draft for each fact of a passage that has a question: one of the writer's, or a sentence with a gap."""
    facts = [names_of(passage.text, words, settings.answer_words) for passage in passages]
    if settings.answers == "listed":
        asked = [prompts.list_facts(passage.text) for passage in passages]
        for i, lines in enumerate(writer.answer(asked, _greedy(FACTS_TOKENS), "lists of facts")):
            facts[i], others = facts_of(lines or "", passages[i].text, settings.answer_words)
            for fact, why in others:
                dropped.add(why, passages[i], answer=fact)
    if settings.form == "gaps":
        return [
            draft
            for passage, of_passage in zip(passages, facts, strict=True)
            for draft in _with_gaps(passage, of_passage, settings, dropped)
        ]
    drafts = [
        Draft(passage, fact)
        for passage, of_passage in zip(passages, facts, strict=True)
        for fact in of_passage[: settings.questions]
    ]
    questions = writer.answer(
        [prompts.write_question(draft.passage.text, draft.answer) for draft in drafts], _greedy(LINE_TOKENS, LINE),
        "questions",
    )  # fmt: skip
    written: list[Draft] = []
    for draft, text in zip(drafts, questions, strict=True):
        draft.wordings = [(text or "").strip()]
        if reason := what_is_wrong(draft.question, draft.answer, draft.passage.text, words):
            dropped.add(reason, draft.passage, question=draft.question, answer=draft.answer)
        else:
            written.append(draft)
    return written


def _with_gaps(passage: Passage, facts: Sequence[str], settings: SynthesizeSettings, dropped: Dropped) -> list[Draft]:
    """Some of the facts, each left out of a sentence of its own."""
    made: list[Draft] = []
    sentences: set[str] = set()
    for fact in facts:
        if len(made) == settings.questions:
            break
        wordings = gap_questions(passage.text, fact, settings.wordings)
        sentence = wordings[0].replace(GAP, fact) if wordings else ""
        if not wordings:
            dropped.add("no_sentence_for_a_gap", passage, answer=fact)
        elif sentence not in sentences:
            made.append(Draft(passage, fact, wordings, fact))
        sentences.add(sentence)
    return made


def _unlike(drafts: list[Draft], settings: SynthesizeSettings, dropped: Dropped) -> list[Draft]:
    """Those that neither are nearly an earlier one nor hold a question of an evaluation."""
    again = copies([(draft.question, draft.answer) for draft in drafts], settings.min_similarity)
    kept: list[Draft] = []
    for i, draft in enumerate(drafts):
        contaminated = check_contamination(draft.question, settings.decontaminate).dropped
        if contaminated or i in again:
            reason = "in_an_evaluation" if contaminated else "near_duplicate"
            dropped.add(reason, draft.passage, question=draft.question, answer=draft.answer)
        else:
            kept.append(draft)
    return kept


def _answered_alike(writer: Remembered, drafts: list[Draft], dropped: Dropped) -> list[Draft]:
    """Those to which the writer, given the passage, answers what the question was written for."""
    said = writer.answer(
        [prompts.answer_from(draft.passage.text, draft.question) for draft in drafts], _greedy(LINE_TOKENS, LINE),
        "answers",
    )  # fmt: skip
    kept: list[Draft] = []
    for draft, text in zip(drafts, said, strict=True):
        if agrees(text or "", draft.answer):
            kept.append(replace(draft, said=(text or "").strip()))
        else:
            dropped.add(
                "answered_otherwise", draft.passage, question=draft.question, answer=draft.answer, said=text or ""
            )
    return kept


def _unknown(writer: Remembered, drafts: list[Draft], dropped: Dropped) -> list[Draft]:
    """Those that the writer does not answer by heart."""
    said = writer.answer(
        [prompts.answer_by_heart(draft.question) for draft in drafts], _greedy(LINE_TOKENS), "answers by heart"
    )
    kept: list[Draft] = []
    for draft, text in zip(drafts, said, strict=True):
        if mentions(text or "", draft.answer):
            dropped.add(
                "known_without_passage", draft.passage, question=draft.question, answer=draft.answer, said=text or ""
            )
        else:
            kept.append(draft)
    return kept


def _reword(
    writer: Remembered, drafts: list[Draft], words: Words, settings: SynthesizeSettings, dropped: Dropped
) -> None:
    """Add other wordings to the drafts: those that pass the same checks as the first."""
    for i in range(1, settings.wordings):
        sampling = Sampling(settings.temperature, max_tokens=LINE_TOKENS, stop=LINE, seed=settings.seed + i)
        others = writer.answer([prompts.reword(draft.question) for draft in drafts], sampling, "other wordings")
        tried: list[tuple[Draft, str]] = []
        for draft, other in zip(drafts, others, strict=True):
            wording = (other or "").strip()
            if wording.lower() in map(str.lower, draft.wordings):
                dropped.add("wording_again", draft.passage, question=wording, answer=draft.answer)
            elif reason := what_is_wrong(wording, draft.answer, draft.passage.text, words):
                dropped.add(f"wording_{reason}", draft.passage, question=wording, answer=draft.answer)
            else:
                tried.append((draft, wording))
        said = writer.answer(
            [prompts.answer_from(draft.passage.text, wording) for draft, wording in tried], _greedy(LINE_TOKENS, LINE),
            "answers to other wordings",
        )  # fmt: skip
        for (draft, wording), text in zip(tried, said, strict=True):
            if agrees(text or "", draft.answer):
                draft.wordings.append(wording)
            else:
                dropped.add(
                    "wording_answered_otherwise", draft.passage, question=wording, answer=draft.answer, said=text or ""
                )


def _conversations(writer: Remembered, drafts: Iterable[Draft], settings: SynthesizeSettings) -> list[Conversation]:
    """The questions to teach, in each wording, with or without the passage, and an answer that names the fact."""
    taught = [draft for draft in drafts if draft.passage.split == "train"]
    sentences: Sequence[str | None] = [None] * len(taught)  # of a gap, the fact alone is the answer
    if settings.form == "questions":
        sentences = writer.answer(
            [prompts.answer_in_a_sentence(draft.passage.text, draft.question) for draft in taught],
            _greedy(LINE_TOKENS), "sentences",
        )  # fmt: skip
    rng = random.Random(f"synthesize {settings.seed}")
    made: list[Conversation] = []
    for draft, sentence in zip(taught, sentences, strict=True):
        text = (sentence or "").strip()
        whole = mentions(text, draft.answer) and text.endswith((".", "!", "。")) and "\n" not in text
        reply = text if whole else f"{draft.answer[0].upper()}{draft.answer[1:]}."
        for wording in draft.wordings:
            with_passage = rng.random() < settings.with_passage
            made.append(exchange(f"{draft.passage.text}\n\n{wording}" if with_passage else wording, reply))
    rng.shuffle(made)
    return made


def _row_of(draft: Draft) -> QuestionRow:
    said = draft.said.strip(" .,;:\"'")
    shorter = said != draft.answer and mentions(draft.answer, said)
    answers = (draft.answer, said) if shorter else (draft.answer,)
    return QuestionRow(tuple(draft.wordings), answers, "documents", draft.passage.split, draft.passage.source)


def _greedy(max_tokens: int, stop: tuple[str, ...] = ()) -> Sampling:
    return Sampling(temperature=0, max_tokens=max_tokens, stop=stop)
