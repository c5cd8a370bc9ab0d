"""The honesty stage: a chat model learns what it knows, to look up what it does not, and who it is."""

import random
import sys
from collections.abc import Iterator, Sequence
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
from crawl2chat.chat.showcase import SHOWCASE, Way, ask_all, not_asked, showcase_questions, ways_before
from crawl2chat.chat.tools import AnyTool, offer_form, taught_offer
from crawl2chat.evals.judging import Answer, Question
from crawl2chat.evals.questions import QuestionRow, of_split
from crawl2chat.evals.tasks import Problem, read_problems
from crawl2chat.generate import Engine
from crawl2chat.honesty.cards import card_conversations
from crawl2chat.honesty.checkup import checkup
from crawl2chat.honesty.coverage import curve, tally
from crawl2chat.honesty.examine import (
    boundary_figures,
    examine_facts,
    fact_figures,
    identity_figures,
    search_figures,
    thinking,
)
from crawl2chat.honesty.identity import identity_conversations
from crawl2chat.honesty.invented import invented_questions
from crawl2chat.honesty.lessons import (
    Boundary,
    calculations,
    read_lessons,
    teach_the_probed,
    teach_the_rest,
    teach_the_unanswerable,
    with_more_answers,
)
from crawl2chat.honesty.probe import knowledge, probe
from crawl2chat.honesty.products import product_conversations, product_figures
from crawl2chat.honesty.reading import reading_figures, reading_lessons
from crawl2chat.honesty.retention import own_answers, own_texts, read_prompts
from crawl2chat.honesty.search import INDEX, SearchIndex, build_index
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.honesty.talks import joined, talks_of_subjects
from crawl2chat.refine.documents import read_documents
from crawl2chat.search.index import open_index
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, write_json, write_jsonl
from crawl2chat.stages.stage import read_manifest
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.devices import load_engine

BEFORE_AND_AFTER = "before_and_after.jsonl"
COVERAGE = "coverage.json"  # curves of accuracy against coverage, ready to plot


def honesty(
    questions: AnyPath,
    model: AnyPath,
    out: AnyPath,
    settings: HonestySettings,
    *,
    refine: AnyPath | None = None,
    problems: AnyPath | None = None,
    pretrain: AnyPath | None = None,
) -> list[Figure]:
    """Probe what `model` knows of the questions, teach it its boundary, tools and identity; measure before and after.

    `refine`: the documents to search in; without any, neither searching nor the calculator is taught or measured on
    questions. A model whose chat template offers no tools learns to read what is found next to the question.
    `pretrain`: the folder of that stage, whose training documents are learned again.
    Three kinds of questions, none of them in two: those that are taught, those that are probed and then taught, and
    those that are only asked at the end (`evals/questions.py`). `problems` teach the calculator; those that an
    earlier stage left in `model` are asked if none are given.
    """
    questions, model, out = map(Path, (questions, model, out))
    rows, refusals = read_lessons(questions)
    rows += invented_questions(settings.invented, settings.invented_measured, settings.seed)
    held_out = of_split(rows, "held_out")
    to_learn, to_solve = (
        share_out(read_problems(problems), problems) if problems else ([], read_measured(model).problems)
    )
    measured = Measured(held_out_questions(rows), to_solve)
    measured.write(out)
    tokenizer = Tokenizer.load(model)
    write_json(out / CARD, settings.card.model_dump(exclude=None if settings.card.limits else {"limits"}))
    figures: list[Figure] = []
    index: SearchIndex | None = None  # of paragraphs, which the model itself searches
    read: SearchIndex | None = None  # of passages, which are put next to the question
    manifest = read_manifest(model)
    calls = offer_form(manifest.stage if manifest else None, taught_offer(model / CONVERSATIONS), tokenizer) is not None
    if not calls and settings.calculations + settings.products:
        print("honesty: this model's chat template offers no tools, so it is not taught to calculate", file=sys.stderr)
        settings = settings.model_copy(update={"calculations": 0, "products": 0})
    if refine and calls:
        figures.append(Figure("indexed_paragraphs", build_index(read_documents(refine), out / INDEX)))
        index = SearchIndex(out / INDEX)
    elif refine:
        read = SearchIndex(open_index(refine).file)
    engine = load_engine(model, tokenizer, settings, out)
    shown = showcase_questions(measured, settings.seed)
    showcase = ask_all(ways_before(model, engine), not_asked(shown, model), settings.seed)
    before = examine_facts(engine, held_out, settings)
    identity, was, were_others = identity_figures(engine, settings.card, "before")
    figures += [*fact_figures(before, "before"), *identity]
    earlier_figures, _ = checkup(engine, measured, settings.card, settings.seed, before.answers, was, were_others)
    figures += [replace(figure, name=f"before {figure.name}") for figure in earlier_figures]
    if read:
        figures += reading_figures(engine, held_out, read, settings.seed, "before")[0]
    found = _probe(engine, of_split(rows, "probe"), settings)
    write_jsonl(out / "probes.jsonl", map(_probe_row, found))
    figures += [
        Figure(f"probed_{name}", sum(fact.knowledge == name for fact in found), "facts")
        for name in ("known", "maybe", "unknown")
    ]
    earlier = read_conversations(model / CONVERSATIONS) if (model / CONVERSATIONS).is_file() else []
    retained = own_answers(engine, read_prompts(settings.retention)) if settings.retention else []
    lessons = _conversations(found, rows, to_learn, index, refusals, earlier, settings, retained, read)

    def fits(conversation: Conversation) -> bool:
        return len(tokenizer.encode_chat(conversation)[0]) <= settings.seq_len

    learned = training_documents(Path(pretrain)) if pretrain else ()
    learned = learned or own_texts(engine, settings.own_texts, settings.seed)
    made = joined(lessons, settings.talks, fits, random.Random(f"talks {settings.seed}"))
    write_conversations(made, out / CONVERSATIONS)
    figures += fine_tune(made, model, tokenizer, out, settings, "honesty", learned)
    engine = load_engine(out, tokenizer, settings, out)
    after = examine_facts(engine, held_out, settings)
    identity, said, said_to_others = identity_figures(engine, settings.card, "after")
    figures += [*fact_figures(after, "after"), *boundary_figures(before, after), *identity]
    figures += tally(before.answers, after.answers)
    searched: list[Figure] = []
    from_search: list[Answer] = []
    if index:
        searched, from_search = search_figures(engine, held_out, index, settings.seed)
    elif read:
        searched, from_search = reading_figures(engine, held_out, read, settings.seed)
    thought, solved = thinking(engine, measured.problems, settings.seed, calls=calls)
    if settings.products:
        thought += product_figures(engine, settings.seed)
    kept, answers = checkup(engine, measured, settings.card, settings.seed, after.answers, said, said_to_others)
    ways = [Way("honesty", engine)]
    if index:
        tools: dict[str, AnyTool] = {"calculator": calculate, "search": index.search}
        ways.append(Way("honesty", engine, "tools", tools, index.address))
    elif read:
        ways.append(Way("honesty", engine, "tools", reads=read))
    write_jsonl(out / SHOWCASE, [*showcase, *ask_all(ways, shown, settings.seed)])
    write_answers([*answers, *from_search, *solved], out / "answers.jsonl")
    write_jsonl(out / BEFORE_AND_AFTER, side_by_side([*before.answers, *was], [*after.answers, *said]))
    write_json(out / COVERAGE, {"before": curve(before.sampled), "after": curve(after.sampled)})
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
    index: SearchIndex | None,
    refusals: Sequence[str],
    earlier: Sequence[Conversation],
    settings: HonestySettings,
    retained: Sequence[Conversation] = (),
    read: SearchIndex | None = None,
) -> list[Conversation]:
    rng = random.Random(f"honesty {settings.seed}")
    apart = random.Random(f"cards and products {settings.seed}")
    made = [
        *with_more_answers(list(teach_the_probed(found, index, refusals, rng)), settings.answered),
        *(talks_of_subjects(found, index, refusals, apart) if settings.talks else ()),
        *teach_the_unanswerable(rows, index, refusals, rng),
        *(teach_the_rest(rows, earlier, index, rng) if index else ()),
        *(reading_lessons(rows, earlier, read, refusals, rng) if read else ()),
        *calculations(problems, settings.calculations, rng),
        *product_conversations(settings.products, apart),
        *identity_conversations(settings.card, settings.identity, rng),
        *card_conversations(settings.card, settings.cards, apart),
        *rng.sample(list(earlier), round(settings.replay * len(earlier))),
        *retained,
    ]
    rng.shuffle(made)
    return made


def side_by_side(before: Sequence[Answer], after: Sequence[Answer]) -> Iterator[dict[str, object]]:
    """Rows with both answers to each question, to be read next to each other."""
    for then, now in zip(before, after, strict=True):
        yield {
            "question": then.question.text,
            "group": then.question.group,
            "expected": then.question.expected,
            "before": then.text,
            "after": now.text,
            "right": [then.right, now.right],
            "refused": [then.refused, now.refused],
        }


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
