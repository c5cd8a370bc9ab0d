"""Learning from the prompt alone: words whose meaning only the page tells, and phrases by example."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.crawl.tinyweb.glossary import ask_meaning, define, phrase_line
from crawl2chat.crawl.tinyweb.ledger import Ledger, PhraseBook, write_lines
from crawl2chat.evals.greedy import greedy
from crawl2chat.evals.subject import Subject
from crawl2chat.figures import Figure, share

SHOTS = (0, 1, 2, 4, 8, 16)
ANSWER_TOKENS = 6  # a meaning is one word
PHRASE_TOKENS = 24


@dataclass(frozen=True)
class Case:
    """A prompt, and what is right as its continuation; `other`: what would be, had the labels not been shuffled."""

    prompt: str
    answer: str
    other: str = ""


def measure_in_context(subject: Subject) -> list[Figure]:
    """Share of right answers by the number of examples before the question, with their controls.

    glossary/N: N definitions of invented words, each with a meaning drawn anew, then a question about one of them; at
    0 nothing tells. glossary_absent/N: the same page, but the question is about a word that is not defined there.
    glossary_shuffled/N: the same questions with the page's meanings changed about, and the old meaning still counted
    as right; glossary_follows/N: the share that follows the page as it now is.
    phrase_book/N: N lines of a phrase book, then a phrase that no page holds; phrase_book_shuffled/N: each line with
    another one's translation. That language is the same on all pages, so here the weights can know it, too.
    """
    ledger = subject.ledger
    if ledger is None or not ledger.glossaries:
        return []
    count, seed = subject.settings.questions, subject.settings.seed
    groups: dict[str, list[Case]] = {}
    for shots in SHOTS:
        groups[f"glossary/{shots}"] = glossary_cases(ledger, shots, count, seed)
        if shots:
            groups[f"glossary_absent/{shots}"] = glossary_cases(ledger, shots, count, seed, absent=True)
        if shots > 1:
            groups[f"glossary_shuffled/{shots}"] = glossary_cases(ledger, shots, count, seed, shuffled=True)
    for shots in SHOTS if ledger.phrase_books else ():
        groups[f"phrase_book/{shots}"] = phrase_cases(ledger, shots, count, seed)
        if shots > 1:
            groups[f"phrase_book_shuffled/{shots}"] = phrase_cases(ledger, shots, count, seed, shuffled=True)
    said = _continuations(subject, groups)
    figures, rows = [], []
    for name, cases in groups.items():
        answers = [first_phrase(text) for text in said[name]]
        shuffled = name.startswith("glossary_shuffled")
        wanted = [case.other if shuffled else case.answer for case in cases]
        figures.append(_share(name, answers, wanted))
        if shuffled:
            follows = [case.answer for case in cases]
            figures.append(_share(name.replace("shuffled", "follows"), answers, follows))
        rows += [
            json.dumps({"group": name, "prompt": case.prompt, "right": right, "said": answer}, ensure_ascii=False)
            for case, right, answer in zip(cases, wanted, answers, strict=True)
        ]
    write_lines(subject.out / "in-context.jsonl", rows)
    pool = len(_pools(ledger)[1])
    return [*figures, Figure("glossary_guess", 1 / pool, "share", None, pool)]


def glossary_cases(
    ledger: Ledger, shots: int, count: int, seed: int, *, absent: bool = False, shuffled: bool = False
) -> list[Case]:
    """Pages as the web has them, with `shots` words of its pool defined anew; the same words for the same seed."""
    words, meanings = _pools(ledger)
    cases = []
    for i in range(count):
        rng = random.Random(f"{seed}/glossary/{shots}/{i}")
        chosen = rng.sample(words, shots + 1)
        drawn = rng.sample(meanings, shots + 1)
        asked = shots if absent or not shots else rng.randrange(shots)  # the last one is not defined
        told = drawn[1:shots] + drawn[:1] if shuffled else drawn[:shots]
        page = " ".join(define(word, meaning) for word, meaning in zip(chosen, told, strict=False))
        prompt = f"{page}\n\n{ask_meaning(chosen[asked])}" if page else ask_meaning(chosen[asked])
        cases.append(Case(prompt, told[asked] if shuffled else drawn[asked], drawn[asked]))
    return cases


def phrase_cases(ledger: Ledger, shots: int, count: int, seed: int, *, shuffled: bool = False) -> list[Case]:
    """Lines of phrase books and a phrase of another book."""
    books = ledger.phrase_books
    cases = []
    for i in range(count):
        rng = random.Random(f"{seed}/phrases/{shots}/{i}")
        shown_of, asked_of = rng.sample(books, 2) if len(books) > 1 else (books[0], books[0])
        lines, (english, foreign) = _lines(shown_of, asked_of, shots, rng)
        foreigns = [translation for _, translation in lines]
        if shuffled:
            foreigns = foreigns[1:] + foreigns[:1]
        page = "\n".join(phrase_line(e, f) for (e, _), f in zip(lines, foreigns, strict=True))
        cases.append(Case(f"{page}\n{phrase_line(english, '')}".strip(), foreign))
    return cases


def first_phrase(text: str) -> str:
    """What a continuation says before its first line or sentence ends."""
    return text.split("\n")[0].split(".")[0].strip()


def _lines(
    shown_of: PhraseBook, asked_of: PhraseBook, shots: int, rng: random.Random
) -> tuple[list[tuple[str, str]], tuple[str, str]]:
    asked = rng.choice(list(asked_of.phrases.items()))
    others = [line for line in shown_of.phrases.items() if line != asked]
    return rng.sample(others, min(shots, len(others))), asked


def _pools(ledger: Ledger) -> tuple[list[str], list[str]]:
    """All words that glossaries define, and all meanings that they give."""
    words = sorted({word for glossary in ledger.glossaries for word in glossary.entries})
    return words, sorted({meaning for glossary in ledger.glossaries for meaning in glossary.entries.values()})


def _continuations(subject: Subject, groups: dict[str, list[Case]]) -> dict[str, list[str]]:
    said = {}
    for name, cases in groups.items():
        tokens = ANSWER_TOKENS if name.startswith("glossary") else PHRASE_TOKENS
        said[name] = greedy(subject.engine, [case.prompt for case in cases], tokens, stop=("\n", "."))
    return said


def _share(name: str, answers: Sequence[str], wanted: Sequence[str]) -> Figure:
    right = sum(answer == value for answer, value in zip(answers, wanted, strict=True))
    return share(name, right, len(answers))
