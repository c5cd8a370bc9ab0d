"""What is looked at before a question that a model wrote is kept; each check has a reason that is counted."""

import re
from collections.abc import Sequence

import numpy as np

from crawl2chat.evals.judging import mentions
from crawl2chat.refine.copies.dedup import alike, sign
from crawl2chat.refine.settings import DedupSettings
from crawl2chat.refine.text.words import split_words, words_of
from crawl2chat.synthesis.passages import Words

QUESTION_MARKS = "?？؟՞;"  # of Latin, Chinese, Arabic, Armenian, Greek
SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n")
AROUND = ".,;:!?\"'“”‘’«»()[]–—"
JOINING = frozenset("of de van von du la le the and &".split())  # within names: Isle of Man
LONGEST_QUESTION = 40  # words
# Phrases by which a question points at a text that its reader does not have; English, like the examples of the prompts.
POINTS_AT_TEXT = re.compile(
    r"\b(?:the|this|that|above|given) "
    r"(?:answer|question|text|passage|article|author|paragraph|excerpt|writer|document|statement)\b",
    re.IGNORECASE,
)
OF_QUESTIONS = DedupSettings(ngram=2, buckets=32, hashes_per_bucket=3)  # short texts share few longer n-grams


def names_of(passage: str, words: Words, most_words: int) -> list[str]:
    """Return names, dates and numbers of a passage that can be answers, those of most words first.

    They are words with a capital or a digit in front, and what joins them; a sentence's first word only if it is
    nowhere written in lower case.
    """
    found: dict[str, None] = {}
    for sentence in SENTENCE.split(passage):
        run: list[str] = []
        for i, word in enumerate([*sentence.split(), ""]):
            bare = word.strip(AROUND)
            is_name = bool(bare) and (
                bare[0].isdigit() or (bare[0].isupper() and (i > 0 or bare.lower() not in words.lower))
            )
            if is_name or (run and bare in JOINING):
                run.append(bare)
                if word.endswith(bare):
                    continue  # no comma ends the run
            while run and run[-1] in JOINING:
                run.pop()
            name = " ".join(run)
            if 0 < len(run) <= most_words and mentions(passage, name):
                found[name] = None
            run = []
    named = [name for name in found if " " in name or name.lower() not in words.common]
    return sorted(named, key=lambda name: -len(name.split()))


def facts_of(lines: str, passage: str, most_words: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the facts of a list, one per line, that can be answers, and the others with the reason against each."""
    kept: list[str] = []
    dropped: list[tuple[str, str]] = []
    for line in lines.split("\n"):
        fact = re.sub(r"^(?:[-*•]|\d{1,2}[.)])\s+", "", line.strip()).strip(" .,;:\"'")
        if not fact or fact in kept:
            continue
        if not mentions(passage, fact):
            dropped.append((fact, "answer_not_in_passage"))
        elif len(split_words(fact)) > most_words:
            dropped.append((fact, "answer_too_long"))
        else:
            kept.append(fact)
    return kept, dropped


def what_is_wrong(question: str, answer: str, passage: str, words: Words) -> str | None:
    """The reason against a question as it is read, without the passage; None if nothing is wrong with it.

    It has to name its subject: by a name or number of the passage, or by two words that are not common.
    """
    if not question.endswith(tuple(QUESTION_MARKS)) or len(split_words(question)) > LONGEST_QUESTION:
        return "not_a_question"
    if mentions(question, answer):
        return "question_gives_answer"
    here = {word.lower() for word in words_of(passage)} - words.common
    shared = {word.lower(): word for word in words_of(question)[1:] if word.lower() in here}
    names_it = len(shared) > 1 or any(word[0].isupper() or word[0].isdigit() for word in shared.values())
    return None if names_it and not POINTS_AT_TEXT.search(question) else "needs_the_passage"


def agrees(said: str, answer: str) -> bool:
    """Whether what was said comes to the answer: it contains it, or is at least half of its words in a row."""
    part = said.strip(" .,;:\"'")
    return mentions(said, answer) or (2 * len(split_words(part)) >= len(split_words(answer)) and mentions(answer, part))


def copies(questions: Sequence[tuple[str, str]], min_similarity: float) -> set[int]:
    """The places of questions, each with its answer, that are nearly the same as an earlier one.

    A question that differs from another in the name alone is not a copy: its answer differs, too, and is compared.
    """
    signatures = [sign(f"{question} {answer}", OF_QUESTIONS) for question, answer in questions]
    found: set[int] = set()
    for bucket in range(OF_QUESTIONS.buckets):
        signed = [i for i, signature in enumerate(signatures) if len(signature.buckets) and i not in found]
        if not signed:
            break
        keys = np.array([signatures[i].buckets[bucket] for i in signed], np.uint64)
        order = np.argsort(keys, kind="stable")
        low = np.array([signatures[i].low_bytes for i in signed], np.uint8)
        _, seconds = alike(keys[order], low[order], min_similarity)
        found.update(signed[order[second]] for second in seconds.tolist())
    return found
