"""What a seed decides once for the whole fictional web: its names, places, values and invented words."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.tinyweb import words

_ONSETS = (*"bdfghjklmnprstvwz", "br", "ch", "dr", "gl", "sh", "st", "th", "tr")
_VOWELS = tuple("aeiou")
_CODAS = (*"lmnrstdkx", "nd", "rn", "lt", "sk")
_TOWN_ENDINGS = ("mere", "ford", "wick", "ham", "stead", "holm", "dale", "bury", "port", "combe", "gate", "haven")


@dataclass(frozen=True)
class World:
    seed: int
    women: tuple[str, ...]  # first names
    men: tuple[str, ...]
    extras: tuple[str, ...]  # first names of people who are in no ledger: heroes, interviewees, readers
    surnames: tuple[str, ...]
    extra_surnames: tuple[str, ...]
    towns: tuple[str, ...]
    trades: tuple[str, ...]
    foods: tuple[str, ...]
    pets: tuple[str, ...]
    glossary_words: tuple[str, ...]
    dictionary: dict[str, str]  # English → the invented language, word for word
    language: str  # its name

    def rng(self, part: str) -> random.Random:
        """Random numbers of a part's own, so that one part's size leaves the others as they are."""
        return random.Random(f"{self.seed}/{part}")


def make_world(seed: int, people: int) -> World:
    rng = random.Random(f"{seed}/world")
    coiner = _Coiner(rng)
    english = (*words.NOUNS[::3], *words.ADJECTIVES[::5], *_LANGUAGE_VERBS, "the", "and", "near")
    return World(
        seed=seed,
        women=tuple(coiner.name(1, ("a", "e", "ia", "is", "ea")) for _ in range(36)),
        men=tuple(coiner.name(1, ("o", "an", "ert", "us", "ik")) for _ in range(36)),
        extras=tuple(coiner.name(1, ("a", "o", "i", "en", "el")) for _ in range(40)),
        surnames=tuple(coiner.name(2, _CODAS) for _ in range(people)),
        extra_surnames=tuple(coiner.name(2, _CODAS) for _ in range(40)),
        towns=tuple(coiner.name(2, _TOWN_ENDINGS) for _ in range(24)),
        trades=tuple(rng.sample(words.TRADES, 24)),
        foods=tuple(rng.sample(words.FOODS, 24)),
        pets=tuple(rng.sample(words.PETS, 24)),
        glossary_words=tuple(coiner.word(1) for _ in range(32)),
        dictionary={word: coiner.word(1) for word in english},
        language=coiner.name(1, ("ish", "ese", "ian")),
    )


_LANGUAGE_VERBS = ("sleeps", "sings", "waits", "falls", "shines", "moves")


class _Coiner:
    """Coins pronounceable words, none of which begins with another: a name is then never found inside another."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.coined: set[str] = set()
        self.english = {*words.NOUNS, *words.ADJECTIVES, *words.PAST_VERBS, *words.PETS, *words.TRADES}

    def name(self, syllables: int, endings: Sequence[str]) -> str:
        return self._new(syllables, endings).capitalize()

    def word(self, syllables: int) -> str:
        return self._new(syllables, _CODAS)

    def _new(self, syllables: int, endings: Sequence[str]) -> str:
        pick = self.rng.choice
        while True:
            opening = "".join(pick(_ONSETS) + pick(_VOWELS) for _ in range(syllables))
            ending = pick(endings)
            last = pick(_ONSETS) + ("" if ending[0] in _VOWELS else pick(_VOWELS))
            if ending in _TOWN_ENDINGS:
                last = ""
            new = f"{opening}{last}{ending}"
            clash = any(new.startswith(old) or old.startswith(new) for old in self.coined)
            if len(new) >= 4 and new not in self.english and not clash:
                self.coined.add(new)
                return new
