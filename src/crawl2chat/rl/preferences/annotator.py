"""A simulated annotator: a taste that nobody else sees, and noise when it ranks by that taste."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from crawl2chat.rl.preferences.preference_files import PromptRow
from crawl2chat.rl.preferences.store import Answer
from crawl2chat.stages.files import AnyPath, StageError

NAME = "simulated annotator"
TASTE = "taste.json"  # next to a file of prompts
MAX_LIKED = 3  # things it likes; more of them cloy
LINES = (4, 6)
MIN_WORDS, MAX_WORDS = 12, 60  # six lines of verse have about 54
MIN_LETTERS = 3  # of a word that carries meaning, where no list says which do
FUNCTION_WORDS = frozenset(
    "about after again all also and any are back been before but can could did does even every first for from get had "
    "has have her here him his how into its just let like made make many may more most much must nor not now off only "
    "other our out over own please said same say she should some such tell than that the their them then there these "
    "they this through too very was well were what when where which while who why will with would write yet you your"
    .split()
)  # fmt: skip


@dataclass(frozen=True)
class Taste:
    """What pleases. The default one likes no words in particular; it wants the topic, a short form and no repetition.

    liked: words worth a point. content: words that should not be repeated; None: all long ones but function words.
    rhymes: of a word, the number of its family; None: rhymes don't count.
    """

    liked: frozenset[str] = frozenset()
    content: frozenset[str] | None = None
    rhymes: dict[str, int] | None = field(default=None, hash=False)

    @staticmethod
    def load(file: AnyPath) -> "Taste":
        """Read `{"liked": ["…"], "content": ["…"], "rhymes": [["…", "…"]]}`. Raises StageError for anything else."""
        expected = 'expected {"liked": ["…"], "content": ["…"], "rhymes": [["…", "…"]]}'
        try:
            given = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StageError(f"{file}: can't be read: {error}; {expected}") from error
        if not isinstance(given, dict) or given.keys() != {"liked", "content", "rhymes"}:
            raise StageError(
                f"{file}: found {', '.join(given) if isinstance(given, dict) else repr(given)[:40]}; {expected}"
            )
        for name, words in [("liked", given["liked"]), ("content", given["content"])]:
            if not _are_texts(words):
                raise StageError(f"{file}: {name} is not a list of texts; {expected}")
        if not isinstance(given["rhymes"], list) or not all(map(_are_texts, given["rhymes"])):
            raise StageError(f"{file}: rhymes is not a list of lists of texts; {expected}")
        families = {word: family for family, words in enumerate(given["rhymes"]) for word in words}
        return Taste(frozenset(given["liked"]), frozenset(given["content"]), families)

    @staticmethod
    def beside(prompts: Path) -> "Taste":
        """The taste in the folder of a file of prompts, or in a folder with one; the default one if there is none."""
        file = (prompts if prompts.is_dir() else prompts.parent) / TASTE
        return Taste.load(file) if file.exists() else Taste()

    def reward(self, prompt: PromptRow, answer: Answer) -> float:
        """How well this answer pleases, in points.

        +1 for each different thing it likes, up to three, but −1 for each mention of such things beyond three, which
        cloys; up to +1 for the share of the topic's words that appear; +1 for four to six lines, and up to +1 for the
        share of couplets that rhyme. −0.5 for each content word and −1 for each line that is repeated; −1 for every
        ten words beyond sixty, and −1 for not coming to an end. Where rhymes don't count, 12 to 60 words in any lines
        are as good a form as four to six lines.
        """
        lines = [line for line in answer.text.split("\n") if line.strip()]
        words = words_of(answer.text)
        mentions = [word for word in words if word in self.liked]
        liked = min(MAX_LIKED, len(set(mentions))) - max(0, len(mentions) - MAX_LIKED)
        topic = self.topic_words(prompt)
        on_topic = sum(word in words for word in topic) / len(topic) if topic else 0
        in_form = LINES[0] <= len(lines) <= LINES[1]
        if self.rhymes is None:
            in_form = in_form or MIN_WORDS <= len(words) <= MAX_WORDS
        words_again = sum(count - 1 for word, count in Counter(words).items() if self._has_content(word))
        lines_again = len(lines) - len(set(lines))
        running_on = max(0, len(words) - MAX_WORDS) / 10
        good = liked + on_topic + in_form + self.rhyming_share(lines)
        return good - 0.5 * words_again - lines_again - running_on - (not answer.ended)

    def topic_words(self, prompt: PromptRow) -> list[str]:
        """What an answer should mention: the group's words, or those of a prompt that has no group of its own."""
        words = list(dict.fromkeys(words_of(prompt.group)))
        return words if len(words) == 1 else [word for word in words if self._has_content(word)] or words

    def rhyming_share(self, lines: Sequence[str]) -> float:
        """Share of the couplets whose lines end in two different words that sound alike."""
        ends = [words[-1] if (words := words_of(line)) else "" for line in lines]
        couplets = list(zip(ends[::2], ends[1::2], strict=False))
        if not couplets or not self.rhymes:
            return 0.0
        family = self.rhymes
        rhymes = [one != two and one in family and family[one] == family.get(two) for one, two in couplets]
        return sum(rhymes) / len(rhymes)

    def _has_content(self, word: str) -> bool:
        if self.content is not None:
            return word in self.content
        return len(word) >= MIN_LETTERS and word not in FUNCTION_WORDS


def words_of(text: str) -> list[str]:
    return [word for word in (raw.strip(".,!?;:“”'\"") for raw in text.lower().split()) if word]


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


class Annotator:
    """Ranks by its taste plus Gumbel noise, which makes its rankings Plackett–Luce exactly (Luce 1959; Yellott 1977).

    Of two answers it prefers the better one with probability σ(Δ / noise), Δ the difference in points.
    """

    def __init__(self, noise: float, seed: int, taste: Taste) -> None:
        """noise: scale of the Gumbel noise, in points."""
        self.noise, self.seed, self.taste = noise, seed, taste

    def rank(self, prompt: PromptRow, answers: Sequence[Answer], occasion: tuple[int, ...]) -> list[int]:
        """Places of the answers, best first; the noise is a function of the seed and the occasion alone."""
        gold_k = np.array([self.taste.reward(prompt, answer) for answer in answers])
        noise_k = np.random.default_rng((self.seed, *occasion)).gumbel(scale=self.noise, size=len(answers))
        order: list[int] = np.argsort(-(gold_k + noise_k), kind="stable").tolist()
        return order

    def ceiling(self, golds: Sequence[Sequence[float]]) -> float:
        """Pair accuracy that knowing the taste itself would reach against such labels: mean σ(|Δ| / noise)."""
        gaps = [abs(one - two) for group in golds for one, two in combinations(group, 2)]
        return sum(1 / (1 + math.exp(-gap / self.noise)) for gap in gaps) / len(gaps) if gaps else 0.5
