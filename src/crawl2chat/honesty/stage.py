"""The honesty stage: a chat model learns what it knows, to look up what it does not, and who it is."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.conversations import Conversation, read_conversations, write_conversations
from crawl2chat.chat.measured import (
    CARD,
    CONVERSATIONS,
    Measured,
    held_out_questions,
    read_measured,
    share_out,
    write_answers,
)
from crawl2chat.chat.sft import fine_tune, training_documents
from crawl2chat.chat.showcase import SHOWN_TOKENS, write_showcase
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import Tool
from crawl2chat.evals.judging import Question
from crawl2chat.evals.questions import QuestionRow, of_split
from crawl2chat.evals.tasks import Problem, read_problems
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.checkup import checkup
from crawl2chat.honesty.examine import (
    boundary_figures,
    examine_facts,
    fact_figures,
    identity_figures,
    search_figures,
    thinking,
)
from crawl2chat.honesty.identity import identity_conversations
from crawl2chat.honesty.lessons import (
    Boundary,
    calculations,
    read_lessons,
    teach_the_probed,
    teach_the_rest,
    teach_the_unanswerable,
)
from crawl2chat.honesty.probe import knowledge, probe
from crawl2chat.honesty.search import INDEX, SearchIndex, build_index
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.model import load_model
from crawl2chat.refine.documents import read_documents
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, write_json, write_jsonl
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.devices import choose_device


def honesty(
    questions: AnyPath,
    documents: AnyPath,
    model: AnyPath,
    out: AnyPath,
    settings: HonestySettings,
    *,
    problems: AnyPath | None = None,
    pretrain: AnyPath | None = None,
) -> list[Figure]:
    """Probe what `model` knows of the questions, teach it its boundary, tools and identity; measure before and after.

    `documents` are searched in; `pretrain` is the folder of that stage, whose training documents are learned again.
    Three kinds of questions, none of them in two: those that are taught, those that are probed and then taught, and
    those that are only asked at the end (`evals/questions.py`). `problems` teach the calculator; those that an
    earlier stage left in `model` are asked if none are given.
    """
    questions, documents, model, out = map(Path, (questions, documents, model, out))
    rows, refusals = read_lessons(questions)
    held_out = of_split(rows, "held_out")
    to_learn, to_solve = (
        share_out(read_problems(problems), problems) if problems else ([], read_measured(model).problems)
    )
    measured = Measured(held_out_questions(rows), to_solve)
    measured.write(out)
    tokenizer = Tokenizer.load(model)
    write_json(out / CARD, settings.card.model_dump())
    figures = [Figure("indexed_paragraphs", build_index(read_documents(documents), out / INDEX))]
    index = SearchIndex(out / INDEX)
    engine = Engine(load_model(model, device=choose_device(settings)), tokenizer)
    before = examine_facts(engine, held_out, settings.seed, settings.temperature)
    figures += [*fact_figures(before, "before"), *identity_figures(engine, settings.card, "before")]
    earlier_figures, _ = checkup(engine, measured, settings.card, settings.seed)
    figures += [replace(figure, name=f"before {figure.name}") for figure in earlier_figures]
    found = _probe(engine, of_split(rows, "probe"), settings)
    write_jsonl(out / "probes.jsonl", map(_probe_row, found))
    figures += [
        Figure(f"probed_{name}", sum(fact.knowledge == name for fact in found), "facts")
        for name in ("known", "maybe", "unknown")
    ]
    earlier = read_conversations(model / CONVERSATIONS) if (model / CONVERSATIONS).is_file() else []
    made = _conversations(found, rows, to_learn, index, refusals, earlier, settings)
    write_conversations(made, out / CONVERSATIONS)
    learned = training_documents(Path(pretrain)) if pretrain else ()
    figures += fine_tune(made, model, tokenizer, out, settings, "honesty", learned)
    engine = Engine(load_model(out, device=choose_device(settings)), tokenizer)
    after = examine_facts(engine, held_out, settings.seed, settings.temperature)
    figures += [*fact_figures(after, "after"), *boundary_figures(before, after)]
    figures += identity_figures(engine, settings.card, "after")
    searched, from_search = search_figures(engine, held_out, index, settings.seed)
    thought, solved = thinking(engine, measured.problems, settings.seed)
    kept, answers = checkup(engine, measured, settings.card, settings.seed)
    greedy = Sampling(temperature=0, max_tokens=SHOWN_TOKENS)
    tools: dict[str, Tool] = {"calculator": calculate, "search": index.search}
    talks = {"honesty": Talk(engine, greedy), "honesty with tools": Talk(engine, greedy, tools=tools)}
    write_showcase(talks, measured, settings.seed, out)
    write_answers([*answers, *from_search, *solved], out / "answers.jsonl")
    return [*figures, *searched, *thought, *kept]


def _probe(engine: Engine, rows: Sequence[QuestionRow], settings: HonestySettings) -> list[Boundary]:
    """Ask about the facts set aside for it, each in several wordings."""
    rng = random.Random(f"probes {settings.seed}")
    facts = [
        [
            Question(wording, row.answers, row.group)
            for wording in rng.sample(row.wordings, min(settings.wordings, len(row.wordings)))
        ]
        for row in rows
    ]
    wordings = [row.wordings for row in rows]
    probes = probe(engine, facts, wordings, settings.samples, settings.temperature, settings.seed)
    return [
        Boundary(row, probed, knowledge(probed, settings.known_from, settings.unknown_to))
        for row, probed in zip(rows, probes, strict=True)
    ]


def _conversations(
    found: Sequence[Boundary],
    rows: Sequence[QuestionRow],
    problems: Sequence[Problem],
    index: SearchIndex,
    refusals: Sequence[str],
    earlier: Sequence[Conversation],
    settings: HonestySettings,
) -> list[Conversation]:
    rng = random.Random(f"honesty {settings.seed}")
    made = [
        *teach_the_probed(found, index, refusals, rng),
        *teach_the_unanswerable(rows, index, refusals, rng),
        *teach_the_rest(rows, earlier, index, rng),
        *calculations(problems, settings.calculations, rng),
        *identity_conversations(settings.card, settings.identity, rng),
        *rng.sample(list(earlier), round(settings.replay * len(earlier))),
    ]
    rng.shuffle(made)
    return made


def _probe_row(fact: Boundary) -> dict[str, object]:
    question = fact.probed.questions[0]
    return {
        "question": question.text,
        "expected": question.expected,
        "group": fact.row.group,
        "right_share": fact.probed.right_share,
        "agreement": fact.probed.agreement,
        "mostly": fact.probed.said,
        "knowledge": fact.knowledge,
    }
