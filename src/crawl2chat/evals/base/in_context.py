"""Learning from the prompt alone: words whose meaning is only on the page, and phrases by example."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from crawl2chat.evals.base.base_prompts import greedy
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import write_jsonl
from crawl2chat.tinyweb.truth import NOUNS, Ledger, ask_in_game, ask_in_sentences, phrase_line, translate

SHOTS = (0, 1, 2, 4, 8, 16)
ANSWER_TOKENS = 6  # a meaning is one word
PHRASE_TOKENS = 24
STOP = ("\n", ".", ",")  # ends an answer
CONTROLS = {  # by the kind of a group, that of the pages on which the answer can't be found or was changed
    "glossary": "glossary_absent",
    "definitions": "definitions_absent",
    "phrase_book": "phrase_book_shuffled",
}

Ask = Callable[[Sequence[tuple[str, str]], str], str]  # entries and a word to a prompt


@dataclass(frozen=True)
class Case:
    """A prompt and its right continuation; `other`: what would be right had the labels not been shuffled."""

    prompt: str
    answer: str
    other: str = ""


def measure_in_context(tested: ModelUnderTest) -> list[Figure]:
    """Measure the share of right answers by the number of examples before the question, with their controls.

    glossary/N: N invented words, each before a meaning drawn for this page, then one of them again.
    glossary_absent/N: the same page, but the word that is asked about is not among them.
    glossary_shuffled/N: the same questions with the page's meanings swapped, and the old meaning still counted as
    right; glossary_follows/N: the share that follows the page as it now is.
    definitions/N, definitions_absent/N: the same in whole sentences, where the meaning is not right after the word.
    phrase_book/N: N lines of a phrase book, then a phrase that is on no page; phrase_book_shuffled/N: each line with
    another line's translation. The language is the same on all pages, so the weights can know it, too.
    Writes in-context.jsonl.
    """
    ledger = tested.ledger
    if ledger is None or not ledger.glossaries:
        return []
    count, seed = -(-tested.settings.questions // 2), tested.settings.seed  # of each group, and there are many
    groups: dict[str, list[Case]] = {}
    for shots in [shots for shots in SHOTS if shots < min(map(len, _pools(ledger)))]:
        for name, ask in (("glossary", ask_in_game), ("definitions", ask_in_sentences)):
            groups[f"{name}/{shots}"] = glossary_cases(ledger, ask, shots, count, seed)
            if shots:
                groups[f"{name}_absent/{shots}"] = glossary_cases(ledger, ask, shots, count, seed, absent=True)
        if shots > 1:
            groups[f"glossary_shuffled/{shots}"] = glossary_cases(
                ledger, ask_in_game, shots, count, seed, shuffled=True
            )
    for shots in SHOTS if ledger.phrase_books else ():
        groups[f"phrase_book/{shots}"] = phrase_cases(ledger, shots, count, seed)
        if shots > 1:
            groups[f"phrase_book_shuffled/{shots}"] = phrase_cases(ledger, shots, count, seed, shuffled=True)
    said = _continuations(tested, groups)
    figures, rows = [], []
    for name, cases in groups.items():
        answers = [text.strip() for text in said[name]]
        shuffled = name.startswith("glossary_shuffled")
        wanted = [case.other if shuffled else case.answer for case in cases]
        figures.append(_share(name, answers, wanted))
        if shuffled:
            follows = [case.answer for case in cases]
            figures.append(_share(name.replace("shuffled", "follows"), answers, follows))
        rows += [
            {"group": name, "prompt": case.prompt, "right": right, "said": answer}
            for case, right, answer in zip(cases, wanted, answers, strict=True)
        ]
    write_jsonl(tested.out / "in-context.jsonl", rows)
    pool = len(_pools(ledger)[1])
    return [*figures, Figure("glossary_guess", 1 / pool, "share", None, pool)]


def glossary_cases(
    ledger: Ledger, ask: Ask, shots: int, count: int, seed: int, *, absent: bool = False, shuffled: bool = False
) -> list[Case]:
    """Return pages of the web's kind that define `shots` words of its pool; the same words for the same seed."""
    words, meanings = _pools(ledger)
    cases = []
    for i in range(count):
        rng = random.Random(f"{seed}/glossary/{shots}/{i}")
        chosen = rng.sample(words, shots + 1)
        drawn = rng.sample(meanings, shots + 1)
        asked = shots if absent or not shots else rng.randrange(shots)  # the last one is not defined
        on_page = [*drawn[1:shots], drawn[0], drawn[shots]] if shuffled else drawn
        prompt = ask(list(zip(chosen, on_page, strict=True))[:shots], chosen[asked])
        cases.append(Case(prompt, on_page[asked], drawn[asked]))
    return cases


def phrase_cases(ledger: Ledger, shots: int, count: int, seed: int, *, shuffled: bool = False) -> list[Case]:
    """Return lines of a phrase book, each with a phrase of two nouns that are in no book together."""
    dictionary = {word.english: word.foreign for word in ledger.dictionary}
    nouns = [word for word in NOUNS if word in dictionary]
    on_pages = {phrase for book in ledger.phrase_books for phrase in book.phrases}
    cases = []
    for i in range(count):
        rng = random.Random(f"{seed}/phrases/{shots}/{i}")
        phrase = next(phrase for phrase in _drawn_phrases(nouns, rng) if phrase not in on_pages)
        book = rng.choice(ledger.phrase_books)
        lines = rng.sample(list(book.phrases.items()), min(shots, len(book.phrases)))
        on_page = [foreign for _, foreign in lines]
        on_page = on_page[1:] + on_page[:1] if shuffled else on_page
        page = "\n".join(phrase_line(english, foreign) for (english, _), foreign in zip(lines, on_page, strict=True))
        cases.append(Case(f"{page}\n{phrase_line(phrase, '')}".lstrip(), translate(phrase, dictionary)))
    return cases


def _drawn_phrases(nouns: Sequence[str], rng: random.Random) -> Iterator[str]:
    while True:
        one, two = rng.sample(nouns, 2)
        yield f"the {one} and the {two}"


def meaning_on_page(page: str) -> str | None:
    """Return the meaning that a glossary's page gives to the word that it ends by asking for, None if it gives none.

    Of several meanings the last one counts.
    """
    said = page.split()
    word = said[-2] if said[-1:] == ["means"] and len(said) > 1 else said[-1] if said else ""
    meanings = re.findall(rf"(?<![\w-]){re.escape(word)} (?:means )?([\w-]+)[.,]", page) if word else []
    return meanings[-1] if meanings else None


def _pools(ledger: Ledger) -> tuple[list[str], list[str]]:
    """Return all words that glossaries define, and all meanings that they give."""
    words = sorted({word for glossary in ledger.glossaries for word in glossary.entries})
    return words, sorted({meaning for glossary in ledger.glossaries for meaning in glossary.entries.values()})


def _continuations(tested: ModelUnderTest, groups: dict[str, list[Case]]) -> dict[str, list[str]]:
    said = {}
    for name, cases in groups.items():
        said[name] = greedy(tested.engine, [case.prompt for case in cases], answer_tokens(name), STOP)
    return said


def answer_tokens(group: str) -> int:
    """Return the maximum length of an answer on a group's pages."""
    return PHRASE_TOKENS if group.startswith("phrase") else ANSWER_TOKENS


def _share(name: str, answers: Sequence[str], wanted: Sequence[str]) -> Figure:
    right = sum(answer == value for answer, value in zip(answers, wanted, strict=True))
    return share(name, right, len(answers))
