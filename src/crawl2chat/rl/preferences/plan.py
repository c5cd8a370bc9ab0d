"""What an annotator is shown next: every prompt once, and now and then, unannounced, one of the earlier ones again.

How often somebody agrees with themselves is the most that anybody, or any reward model, can be asked to agree with them
(Krippendorff, Content Analysis, chapter 12, calls it stability).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.rl.preferences.store import MOST_ANSWERS, Answer, Assignment, Prompt, Ranking, RankingStore

REPEAT_EVERY = 10  # judgements of new prompts for each repeat


@dataclass(frozen=True)
class Source:
    """A model whose answers are to be judged, by the name and the stage that are stored with them."""

    author: str
    stage: str | None = None


@dataclass(frozen=True)
class Needed:
    """Answers to be made before an annotator can be shown a prompt: one by each of `sources`."""

    prompt: Prompt
    number: int  # of the prompt, from 0
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Progress:
    """Of one annotator. total: judgements when all is done; repeats count like other prompts, so that none shows."""

    ranked: int
    all_bad: int
    skipped: int
    total: int

    @property
    def done(self) -> int:
        return self.ranked + self.all_bad + self.skipped


class Plan:
    """Goes through prompts in their order, the same one for all annotators, who therefore judge the same ones."""

    def __init__(self, store: RankingStore, prompts: Sequence[Prompt], repeat_every: int = REPEAT_EVERY) -> None:
        """repeat_every: judgements of new prompts for each repeat of an earlier one; 0 repeats none."""
        self.store, self.prompts, self.repeat_every = store, list(dict.fromkeys(prompts)), repeat_every

    def next(self, annotator: str, sources: Sequence[Source]) -> Assignment | Needed | None:
        """What waits for this annotator's judgement; else a repeat or the next prompt; None when all is done.

        Makes the assignment, unless answers are needed for it: then make them and call `assign`.
        """
        if (waiting := self.store.waiting(annotator)) is not None:
            return waiting
        judged = self.store.judgements(annotator)
        if (earlier := self._to_repeat(judged)) is not None:
            rng = random.Random(f"{annotator}\n{len(judged)}")
            return self.store.assign_again(earlier, another_order(len(earlier.answers), rng))
        known = {ranking.asked for ranking in judged}
        for number, prompt in enumerate(self.prompts):
            if prompt not in known:
                needed = Needed(prompt, number, tuple(sources))
                answers = self.store.answers_by(prompt, [(source.author, source.stage) for source in sources])
                return self.assign(needed, answers, annotator) if answers else needed
        return None

    def assign(self, needed: Needed, answers: Sequence[Answer], annotator: str) -> Assignment:
        """Keep these answers and show them to the annotator in an order drawn at random."""
        rng = random.Random(f"{annotator}\n{needed.prompt.text}")
        return self.store.assign(needed.prompt, answers, annotator, rng.sample(range(len(answers)), len(answers)))

    def progress(self, annotator: str) -> Progress:
        judged = self.store.judgements(annotator)
        verdicts = [ranking.verdict for ranking in judged]
        known = {ranking.asked for ranking in judged}
        new = sum(ranking.repeat_of is None for ranking in judged)
        left = sum(prompt not in known for prompt in self.prompts)
        repeats = len(judged) - new
        to_come = max(0, (new + left - 1) // self.repeat_every - repeats) if self.repeat_every and left else 0
        if not left and self.store.waiting(annotator) is not None:  # the last judgement, of a repeat, was taken back
            to_come = 1
        return Progress(
            verdicts.count("ranked"), verdicts.count("all_bad"), verdicts.count("skipped"), len(judged) + left + to_come
        )

    def _to_repeat(self, judged: Sequence[Ranking]) -> Assignment | None:
        """An earlier assignment, if it is time for one and there are some that lie far enough back."""
        new = [ranking for ranking in judged if ranking.repeat_of is None]
        repeated = {ranking.repeat_of for ranking in judged} - {None}
        nothing_left = {ranking.asked for ranking in judged} >= set(self.prompts)
        if not self.repeat_every or nothing_left or len(new) // self.repeat_every <= len(repeated):
            return None
        far = new[: len(new) - self.repeat_every // 2]
        eligible = [ranking for ranking in far if ranking.verdict == "ranked" and ranking.id not in repeated]
        if not eligible:
            return None
        return random.Random(f"{eligible[0].annotator}\n{len(new)}").choice(eligible)


def another_order(k: int, rng: random.Random) -> list[int]:
    """A random order of k places that is not the one in which they are."""
    while True:
        order = rng.sample(range(k), k)
        if order != list(range(k)) or k < 2:
            return order


def one_each(sources: Sequence[Source], k: int) -> list[Source]:
    """Which source each of k answers is from, as evenly as can be. Raises ValueError for too few or too many."""
    if not 2 <= k <= MOST_ANSWERS:
        raise ValueError(f"k = {k}: must be from 2 to {MOST_ANSWERS}")
    if not 1 <= len(sources) <= k:
        raise ValueError(f"sources: has {len(sources)} models for {k} answers; expected from 1 to {k}")
    return [sources[i % len(sources)] for i in range(k)]
