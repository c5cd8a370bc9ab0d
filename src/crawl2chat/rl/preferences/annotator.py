"""A simulated annotator: a taste for verses that nobody else sees, and noise when it ranks by that taste."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from crawl2chat.rl.preferences.store import Answer
from crawl2chat.rl.preferences.verses import VersePrompt
from crawl2chat.tinyweb.words import ADJECTIVES, MONTHS, NOUNS, PEOPLE_WORDS, PETS, RHYMES, SEASONS

NAME = "simulated annotator"

# It likes animals, things to eat and whatever sounds glad.
ANIMALS = frozenset(PETS) | {"bat", "bee", "crow", "goat", "grouse", "mouse", "snake"}
FOODS = frozenset(("apple", "bread", "cake", "pear", "pie"))
GLAD_WORDS = frozenset(
    ("brave", "bright", "cheerful", "clever", "faithful", "fine", "gentle", "golden", "kind", "loved", "lucky",
     "merry", "noble", "sunshine", "sunny", "sweet", "tender", "warm", "wise", "young")
)  # fmt: skip
LIKED = ANIMALS | FOODS | GLAD_WORDS
ENOUGH = 3  # liked things; more of them cloy
LINES = (4, 6)
MOST_WORDS = 60  # six lines have about 54
# words that carry a verse's meaning; those of its grammar may come again and again
_POOLS = (ADJECTIVES, MONTHS, NOUNS, PEOPLE_WORDS, SEASONS, *RHYMES)
CONTENT = LIKED | {word.lower() for pool in _POOLS for word in pool}
_FAMILY = {word: family for family, words in enumerate(RHYMES) for word in words}


def gold_reward(topic: str, answer: Answer) -> float:
    """How well this verse pleases, in points.

    +1 for each different thing it likes, up to three, but −1 for each mention of such things beyond three, which
    cloys; +1 for keeping to the topic; +1 for four to six lines, and up to +1 for the share of couplets that rhyme.
    −0.5 for each content word and −1 for each line said again; −1 for every ten words beyond sixty, and −1 for not
    coming to an end.
    """
    lines = [line for line in answer.text.split("\n") if line.strip()]
    words = words_of(answer.text)
    mentions = [word for word in words if word in LIKED]
    liked = min(ENOUGH, len(set(mentions))) - max(0, len(mentions) - ENOUGH)
    in_form = LINES[0] <= len(lines) <= LINES[1]
    words_again = sum(count - 1 for word, count in Counter(words).items() if word in CONTENT)
    lines_again = len(lines) - len(set(lines))
    running_on = max(0, len(words) - MOST_WORDS) / 10
    good = liked + (topic in words) + in_form + rhyming_share(lines)
    return good - 0.5 * words_again - lines_again - running_on - (not answer.ended)


def words_of(text: str) -> list[str]:
    return [word for word in (raw.strip(".,!?;:“”'\"") for raw in text.lower().split()) if word]


def rhyming_share(lines: Sequence[str]) -> float:
    """Share of the couplets whose lines end in two different words that sound alike."""
    ends = [words[-1] if (words := words_of(line)) else "" for line in lines]
    couplets = list(zip(ends[::2], ends[1::2], strict=False))
    if not couplets:
        return 0.0
    rhymes = [one != two and one in _FAMILY and _FAMILY[one] == _FAMILY.get(two) for one, two in couplets]
    return sum(rhymes) / len(rhymes)


class Annotator:
    """Ranks by its taste plus Gumbel noise, which makes its rankings Plackett–Luce exactly (Luce 1959; Yellott 1977).

    Of two answers it prefers the better one with probability σ(Δ / noise), Δ the difference in points.
    """

    def __init__(self, noise: float, seed: int) -> None:
        """noise: scale of the Gumbel noise, in points."""
        self.noise, self.seed = noise, seed

    def rank(self, prompt: VersePrompt, answers: Sequence[Answer], occasion: tuple[int, ...]) -> list[int]:
        """Places of the answers, best first; the noise is a function of the seed and the occasion alone."""
        gold_k = np.array([gold_reward(prompt.topic, answer) for answer in answers])
        noise_k = np.random.default_rng((self.seed, *occasion)).gumbel(scale=self.noise, size=len(answers))
        order: list[int] = np.argsort(-(gold_k + noise_k), kind="stable").tolist()
        return order

    def ceiling(self, golds: Sequence[Sequence[float]]) -> float:
        """Pair accuracy that knowing the taste itself would reach against such labels: mean σ(|Δ| / noise)."""
        gaps = [abs(one - two) for group in golds for one, two in combinations(group, 2)]
        return sum(1 / (1 + math.exp(-gap / self.noise)) for gap in gaps) / len(gaps) if gaps else 0.5
