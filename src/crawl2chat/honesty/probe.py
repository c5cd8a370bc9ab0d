"""What does the model know? Ask the same thing many times; a model that knows gives the same answer each time.

Llama 3 (arXiv 2407.21783, section 4.3.6) samples answers to questions about its own training documents and judges
them; SliCK (arXiv 2405.05904) names the classes. Agreement of samples predicts whether an answer is right also where
nobody knows the truth (SelfCheckGPT, arXiv 2303.08896; semantic entropy, Nature 630, 2024).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crawl2chat.evals.judging import FACT_TOKENS, Question, is_refusal, mentions, question_prompt
from crawl2chat.generate import Engine, Sampling
from crawl2chat.stages.figures import Figure, area_under_roc, bootstrap

REFUSAL = frozenset({"(refusal)"})  # the meaning of every refusal
# Words that say nothing by themselves, so that answers which differ only in them say the same.
EMPTY_WORDS = frozenset(
    "a an and answer are as at be been by can do for from had has have he her him his i in is it its know me my no of "
    "on or our she so tell that the their them there they this to was we well were with yes you your".split()
)


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
    engine: Engine,
    facts: Sequence[Sequence[Question]],
    wordings: Sequence[Sequence[str]],
    samples: int,
    temperature: float,
    seed: int,
) -> list[Probe]:
    """Ask each fact's questions `samples` times each, all as one job for the engine.

    wordings: of each fact, all the ways to ask for it; words of theirs in an answer say nothing new.
    """
    asked = [question for questions in facts for question in questions for _ in range(samples)]
    prompts = [question_prompt(engine.tokenizer, question.text) for question in asked]
    completions = engine.generate(prompts, Sampling(temperature, max_tokens=FACT_TOKENS, seed=seed))
    texts = iter(completion.text for completion in completions)
    return [
        judged(tuple(questions), tuple(next(texts) for _ in range(samples * len(questions))), ways)
        for questions, ways in zip(facts, wordings, strict=True)
    ]


def judged(questions: tuple[Question, ...], answers: tuple[str, ...], wordings: Sequence[str]) -> Probe:
    """What answers to the same question, in one or several wordings, show of what a model knows."""
    numbers = cluster(answers, wordings)
    largest, count = Counter(numbers).most_common(1)[0]
    right = sum(questions[0].accepts(answer, mentions) for answer in answers)
    said = answers[numbers.index(largest)]
    return Probe(questions, answers, right / len(answers), count / len(answers), said)


def cluster(answers: Sequence[str], wordings: Sequence[str]) -> list[int]:
    """Number the answers by what they say: equal numbers for answers that say the same.

    What an answer says are its words other than those of the question, in any of its wordings, and empty words. Two
    answers say the same if one says nothing that the other does not: "Telm." and "She first saw daylight in Telm."
    All refusals say the same, and so do all answers that say nothing.
    """
    asked = {_stem(word) for wording in wordings for word in _words(wording)}
    meanings: list[frozenset[str]] = []
    numbers: list[int] = []
    for answer in answers:
        meaning = REFUSAL if is_refusal(answer) else frozenset(map(_stem, _words(answer))) - asked
        for number, other in enumerate(meanings):
            if meaning == other or (meaning and other and (meaning < other or other < meaning)):
                meanings[number] = meaning & other
                break
        else:
            number = len(meanings)
            meanings.append(meaning)
        numbers.append(number)
    return numbers


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in EMPTY_WORDS]


def _stem(word: str) -> str:
    """Cut the endings in which an answer's verb differs from the question's: keeps, keeping, kept stays."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if len(word) > len(ending) + 2 and word.endswith(ending):
            return word.removesuffix(ending)
    return word


def knowledge(probed: Probe, known_from: float, unknown_to: float) -> Literal["known", "maybe", "unknown"]:
    """The class of a fact by the share of right answers."""
    if probed.right_share >= known_from:
        return "known"
    return "unknown" if probed.right_share <= unknown_to else "maybe"


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Chance that a right answer has a higher score than a wrong one, ties counting half; NaN without both kinds."""
    marked = list(zip(scores, right, strict=True))
    return area_under_roc([score for score, mark in marked if mark], [score for score, mark in marked if not mark])


def auroc_figure(name: str, probes: Sequence[Probe]) -> list[Figure]:
    """How well agreement tells right from wrong, with a bootstrap interval over the facts; none without both kinds."""
    pairs = np.array([(found.agreement, found.said_right) for found in probes]).reshape(-1, 2)
    return bootstrap(name, "", pairs, lambda rows: auroc(rows[:, 0].tolist(), rows[:, 1].astype(bool).tolist()))
