"""What does the model know? Ask the same thing many times; who knows answers the same each time, and rightly.

Llama 3 (arXiv 2407.21783, section 4.3.6) samples answers to questions about its own training documents and judges
them; SliCK (arXiv 2405.05904) names the classes. Agreement of samples predicts whether an answer is right also where
nobody knows the truth (SelfCheckGPT, arXiv 2303.08896; semantic entropy, Nature 630, 2024).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crawl2chat.evals.knowledge import FACT_TOKENS, Question, is_refusal, mentions, question_prompt
from crawl2chat.generate import Engine, Sampling
from crawl2chat.stages.figures import Figure
from crawl2chat.tinyweb.ledger import Ledger

RESAMPLES = 500  # of the bootstrap
Meaning = Callable[[str], object]  # equal for answers that say the same


@dataclass(frozen=True)
class Probe:
    """One fact, asked many times: how often the answer was right, how far the answers agree, what they mostly say."""

    questions: tuple[Question, ...]  # one or several wordings of the same
    answers: tuple[str, ...]
    right_share: float
    agreement: float  # share of the largest cluster of answers that say the same
    said: str  # an answer of that cluster

    @property
    def said_right(self) -> bool:
        return self.questions[0].accepts(self.said, mentions)

    @property
    def refused(self) -> bool:
        return is_refusal(self.said)


def probe(
    engine: Engine, facts: Sequence[Sequence[Question]], meaning: Meaning, samples: int, temperature: float, seed: int
) -> list[Probe]:
    """Ask each fact's wordings `samples` times each, all as one job for the engine."""
    asked = [question for wordings in facts for question in wordings for _ in range(samples)]
    prompts = [question_prompt(engine.tokenizer, question.text) for question in asked]
    completions = engine.generate(prompts, Sampling(temperature, max_tokens=FACT_TOKENS, seed=seed))
    texts = iter(completion.text for completion in completions)
    return [
        _judged(tuple(wordings), tuple(next(texts) for _ in range(samples * len(wordings))), meaning)
        for wordings in facts
    ]


def known_values(ledger: Ledger) -> Meaning:
    """Answers about people mean the same when they name the same towns, years, trades, foods and pets.

    It stands in for a judge that reads: the wordings of answers differ, and these words are what they come down to.
    All refusals mean the same, and so do all answers that name nothing.
    """
    values = sorted({value for person in ledger.people for value in person.facts.values()}, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, values)) + r")(?!\w)", re.IGNORECASE)

    def meaning(answer: str) -> object:
        return "refusal" if is_refusal(answer) else frozenset(value.lower() for value in pattern.findall(answer))

    return meaning


def knowledge(probed: Probe, known_from: float, unknown_to: float) -> Literal["known", "maybe", "unknown"]:
    """The class of a fact by the share of right answers."""
    if probed.right_share >= known_from:
        return "known"
    return "unknown" if probed.right_share <= unknown_to else "maybe"


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Chance that a right answer has a higher score than a wrong one, ties counting half; NaN without both kinds."""
    positive = np.array([score for score, mark in zip(scores, right, strict=True) if mark])
    negative = np.array([score for score, mark in zip(scores, right, strict=True) if not mark])
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def auroc_figure(name: str, probes: Sequence[Probe]) -> list[Figure]:
    """How well agreement tells right from wrong, with a bootstrap interval over the facts; none without both kinds."""
    pairs = np.array([(found.agreement, found.said_right) for found in probes]).reshape(-1, 2)
    value = auroc(pairs[:, 0].tolist(), pairs[:, 1].astype(bool).tolist())
    if value != value:
        return []
    draws = np.random.default_rng(0).integers(0, len(pairs), size=(RESAMPLES, len(pairs)))
    areas = [auroc(pairs[draw, 0].tolist(), pairs[draw, 1].astype(bool).tolist()) for draw in draws]
    areas = [area for area in areas if area == area]
    low, high = np.quantile(areas, (0.025, 0.975)).tolist()
    return [Figure(name, value, "", (low, high), len(pairs))]


def _judged(questions: tuple[Question, ...], answers: tuple[str, ...], meaning: Meaning) -> Probe:
    meanings = [meaning(answer) for answer in answers]
    largest, count = Counter(meanings).most_common(1)[0]
    right = sum(questions[0].accepts(answer, mentions) for answer in answers)
    said = answers[meanings.index(largest)]
    return Probe(questions, answers, right / len(answers), count / len(answers), said)
