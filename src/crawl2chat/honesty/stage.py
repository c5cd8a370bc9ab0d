"""The honesty stage: a chat model learns what it knows, to look up what it does not, and who it is."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.conversations import Conversation, read_conversations, write_conversations
from crawl2chat.chat.sft import fine_tune, load_ledger, training_documents, write_answers
from crawl2chat.chat.showcase import SHOWN_TOKENS, write_showcase
from crawl2chat.chat.synthesize import exchange
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import Tool
from crawl2chat.evals.knowledge import Question, exposure_bucket
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.checkup import CARD, CONVERSATIONS, checkup
from crawl2chat.honesty.examine import (
    boundary_figures,
    examine_facts,
    fact_figures,
    identity_figures,
    search_figures,
)
from crawl2chat.honesty.identity import identity_conversations
from crawl2chat.honesty.lessons import (
    REFUSALS,
    calculations,
    invent_strangers,
    look_up_nobody,
    look_up_strangers,
    look_up_unknown,
    own_words,
    refusals,
    with_tools,
)
from crawl2chat.honesty.probe import Probe, knowledge, known_values, probe
from crawl2chat.honesty.search import INDEX, SearchIndex, build_index
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.honesty.thinking import thinking
from crawl2chat.model import load_model
from crawl2chat.refine.documents import read_documents
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, atomic_write, write_json
from crawl2chat.tinyweb.ledger import RELATIONS, Ledger, Person
from crawl2chat.tinyweb.wording import answer, questions
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.devices import choose_device


@dataclass(frozen=True)
class Boundary:
    """A person's fact and what probing found: whether the model knows it."""

    person: Person
    probed: Probe
    knowledge: str  # known, maybe, unknown


def honesty(
    crawl: AnyPath, documents: AnyPath, base: AnyPath, model: AnyPath, out: AnyPath, settings: HonestySettings
) -> list[Figure]:
    """Probe what `model` knows of the fictional web, teach it its boundary, tools and identity; measure both sides.

    `documents` are searched in; `base` is the pretraining stage, whose training documents are learned from again.
    Three groups of people, none of them in two: those whose questions were taught before, those who are probed here,
    and those who are only asked about at the end.
    """
    crawl, documents, base, model, out = map(Path, (crawl, documents, base, model, out))
    ledger = load_ledger(crawl, "honesty")
    tokenizer = Tokenizer.load(model)
    write_json(out / CARD, settings.card.model_dump())
    figures = [Figure("indexed_paragraphs", build_index(read_documents(documents), out / INDEX))]
    index = SearchIndex(out / INDEX)
    engine = Engine(load_model(model, device=choose_device(settings)), tokenizer)
    before = examine_facts(engine, ledger, settings.seed, settings.temperature)
    figures += [*fact_figures(before, "before"), *identity_figures(engine, settings.card, "before")]
    earlier, _ = checkup(engine, ledger, settings.card, settings.seed)
    figures += [replace(figure, name=f"before {figure.name}") for figure in earlier]
    found = _probe(engine, ledger, settings)
    _write_probes(found, out / "probes.jsonl")
    figures += [
        Figure(f"probed_{name}", sum(fact.knowledge == name for fact in found), "facts")
        for name in ("known", "maybe", "unknown")
    ]
    made = _conversations(found, ledger, index, read_conversations(model / CONVERSATIONS), settings)
    write_conversations(made, out / CONVERSATIONS)
    figures += fine_tune(made, model, tokenizer, out, settings, "honesty", training_documents(base))
    engine = Engine(load_model(out, device=choose_device(settings)), tokenizer)
    after = examine_facts(engine, ledger, settings.seed, settings.temperature)
    figures += [*fact_figures(after, "after"), *boundary_figures(before, after)]
    figures += identity_figures(engine, settings.card, "after")
    searched, from_search = search_figures(engine, ledger, index, settings.seed)
    thought, sums = thinking(engine, ledger, settings.seed)
    kept, answers = checkup(engine, ledger, settings.card, settings.seed)
    greedy = Sampling(temperature=0, max_tokens=SHOWN_TOKENS)
    tools: dict[str, Tool] = {"calculator": calculate, "search": index.search}
    talks = {"honesty": Talk(engine, greedy), "honesty with tools": Talk(engine, greedy, tools=tools)}
    write_showcase(talks, ledger, settings.seed, out)
    write_answers([*answers, *from_search, *sums], out / "answers.jsonl")
    return [*figures, *searched, *thought, *kept]


def _probe(engine: Engine, ledger: Ledger, settings: HonestySettings) -> list[Boundary]:
    """Ask about the people set aside for it, and about those whom nobody was taught and no page names."""
    rng = random.Random(f"probes {settings.seed}")
    people = [p for p in ledger.people if p.split == "probe" or (p.split == "train" and not p.exposures)]
    owners: list[Person] = []
    facts: list[list[Question]] = []
    for person in people:
        for relation in RELATIONS:
            wordings = rng.sample(questions(relation), settings.wordings)
            group, value = exposure_bucket(person.exposures), person.facts[relation]
            facts.append([Question(wording.format(name=person.name), (value,), group) for wording in wordings])
            owners.append(person)
    probes = probe(engine, facts, known_values(ledger), settings.samples, settings.temperature, settings.seed)
    return [
        Boundary(person, probed, knowledge(probed, settings.known_from, settings.unknown_to))
        for person, probed in zip(owners, probes, strict=True)
    ]


def _conversations(
    found: Sequence[Boundary],
    ledger: Ledger,
    index: SearchIndex,
    earlier: Sequence[Conversation],
    settings: HonestySettings,
) -> list[Conversation]:
    rng = random.Random(f"honesty {settings.seed}")
    made = [
        *_about_the_probed(found, index, rng),
        *_about_strangers(ledger, settings, rng),
        *_known_in_spite_of_tools(ledger, rng),
        *calculations(ledger, settings.calculations, rng),
        *identity_conversations(settings.card, settings.identity, rng),
        *rng.sample(list(earlier), round(settings.replay * len(earlier))),
    ]
    rng.shuffle(made)
    return made


def _about_the_probed(found: Sequence[Boundary], index: SearchIndex, rng: random.Random) -> Iterator[Conversation]:
    """Known: answer. Unknown: refuse, or search if that is possible. In between: only search is taught."""
    for fact in found:
        if fact.knowledge == "known":
            for conversation in own_words(fact.probed):
                yield conversation
                yield with_tools(conversation)
            continue
        if fact.knowledge == "unknown":
            for question in fact.probed.questions:
                yield exchange(question.text, rng.choice(REFUSALS))
        yield from look_up_unknown(fact.probed, index, rng)


def _about_strangers(ledger: Ledger, settings: HonestySettings, rng: random.Random) -> Iterator[Conversation]:
    """People who are invented here: refused, searched for in vain, and read about on a page made up for it."""
    people, world = invent_strangers(ledger, settings.strangers + settings.looked_up, settings.seed)
    unknown, looked_up = people[: settings.strangers], people[settings.strangers :]
    yield from refusals(unknown, rng)
    yield from look_up_nobody(unknown[::2], rng)
    yield from look_up_strangers(looked_up, world, rng)


def _known_in_spite_of_tools(ledger: Ledger, rng: random.Random) -> Iterator[Conversation]:
    for person in ledger.people:
        if person.split == "train" and person.exposures:
            for relation in RELATIONS:
                question = rng.choice(questions(relation)).format(name=person.name)
                yield with_tools(exchange(question, answer(person, relation, rng)))


def _write_probes(found: Sequence[Boundary], file: Path) -> None:
    with atomic_write(file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for fact in found:
            question = fact.probed.questions[0]
            row = {
                "question": question.text,
                "expected": question.expected,
                "exposures": fact.person.exposures,
                "right_share": fact.probed.right_share,
                "agreement": fact.probed.agreement,
                "mostly": fact.probed.said,
                "knowledge": fact.knowledge,
            }
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
