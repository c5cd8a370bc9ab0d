"""What an annotator is shown next, and ranking in the terminal.

Every prompt is shown once, and now and then, unannounced, an earlier one again. How often somebody agrees with
themselves is the most that anybody, or any reward model, can be asked to agree with them (Krippendorff, Content
Analysis, chapter 12, calls it stability).
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from crawl2chat.generate import Engine, Sampling
from crawl2chat.rl.preferences.store import MAX_ANSWERS, Answer, Assignment, Prompt, Ranking, RankingStore, now
from crawl2chat.stages.interrupts import Terminated

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
    if not 2 <= k <= MAX_ANSWERS:
        raise ValueError(f"k = {k}: must be from 2 to {MAX_ANSWERS}")
    if not 1 <= len(sources) <= k:
        raise ValueError(f"sources: has {len(sources)} models for {k} answers; expected from 1 to {k}")
    return [sources[i % len(sources)] for i in range(k)]


ANSWER_TOKENS = 128
MODEL = Source("model")
KEYS = {"q": "quit", "s": "skip", "b": "all bad", "u": "undo"}

Order = list[int | list[int]]  # places, best first; tied ones in a list of their own


def rank_in_terminal(
    store: RankingStore,
    engine: Engine,
    prompts: Sequence[str | Prompt],
    k: int,
    annotator: str,
    *,
    read: Callable[[str], str] = input,
    source: Source = MODEL,
    repeat_every: int = REPEAT_EVERY,
) -> int:
    """Show k sampled answers to each prompt and store what the person says; returns how many were ranked.

    Prompts that this annotator has judged before are passed over, so the next call goes on where the last one ended,
    however it ended. `s` skips a prompt and `b` finds all its answers bad, which is stored, too; `u` takes the last
    judgement back; `q` or the end of input stops. `source` is what is stored about the answers.
    """
    sources = one_each([source], k)
    plan = Plan(store, [Prompt(prompt) if isinstance(prompt, str) else prompt for prompt in prompts], repeat_every)
    before = plan.progress(annotator).ranked
    while (step := plan.next(annotator, sources)) is not None:
        if isinstance(step, Needed):
            step = plan.assign(step, sample_answers(engine, step.prompt, k, (0, step.number), source), annotator)
        progress = plan.progress(annotator)
        print(f"\n── {progress.done + 1}/{progress.total}: {step.prompt}")
        for place, answer in enumerate(step.answers, 1):
            print(f"\n[{place}] {answer.text}{'' if answer.ended else ' … (cut off)'}")
        began = time.monotonic()
        said = _ask(len(step.answers), read)
        if said == "quit":
            break
        if said == "undo":
            undone = store.withdraw(annotator)
            print("taken back; rank this one again:" if undone else "there is nothing to take back")
        elif said == "skip":
            store.judge(step.id, [], verdict="skipped", seconds=_since(began), time=now())
        elif said == "all bad":
            store.judge(step.id, [], verdict="all_bad", seconds=_since(began), time=now())
        else:
            store.judge(step.id, parse_ordering(said, len(step.answers)), seconds=_since(began), time=now())
    ranked = plan.progress(annotator).ranked - before
    print(f"\n{ranked} rankings stored")
    return ranked


def sample_answers(
    engine: Engine, prompt: Prompt, k: int, seeds: tuple[int, int], source: Source = MODEL
) -> list[Answer]:
    """k answers of the model to one prompt, drawn at temperature 1."""
    ids = engine.tokenizer.encode_chat(prompt.messages, add_generation_prompt=True)[0]
    seed, number = seeds
    drawn = engine.generate([ids] * k, Sampling(max_tokens=ANSWER_TOKENS, seed=seed), range(number * k, number * k + k))
    return [Answer(c.text, c.finish_reason == "stop", source.author, source.stage) for c in drawn]


def parse_ordering(line: str, k: int) -> Order:
    """Places (from 0), best first, of `2413`, `2>4>1>3` or `2 4 1 3`; of two answers, the better one's number.

    Answers with `=` between them are tied and in a list of their own: `2=4>1>3`, or `2=4 1 3`, is [[1, 3], 0, 2].
    Raises ValueError with a word on what is wrong.
    """
    signs = [c for c in line if c not in "> ,"]
    known = [str(place) for place in range(1, k + 1)]
    digits = [c for c in signs if c != "="]
    strange = [c for c in digits if c not in known]
    if strange:
        raise ValueError(f"{strange[0]!r} is none of the answers 1 to {k}")
    twice = [c for c in known if digits.count(c) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named twice")
    around = ["=", *signs, "="]
    if ("=", "=") in pairwise(around):
        raise ValueError("= is for between two answers" if digits else _left_out(known))
    if k == 2 and signs == digits and len(digits) == 1:
        digits += [c for c in known if c not in digits]
        signs = digits
    missing = [c for c in known if c not in digits]
    if missing:
        raise ValueError(_left_out(missing))
    groups: list[list[int]] = []
    for before, sign in pairwise(["", *signs]):
        if sign != "=" and before == "=":
            groups[-1].append(int(sign) - 1)
        elif sign != "=":
            groups.append([int(sign) - 1])
    return [group if len(group) > 1 else group[0] for group in groups]


def _left_out(missing: Sequence[str]) -> str:
    return f"{', '.join(missing)} left out; name all answers, best first"


def _ask(k: int, read: Callable[[str], str]) -> str:
    """What the person said: an ordering that can be parsed, or one of the words of KEYS; "quit" to stop."""
    example = "1 or 2, 1=2 if tied" if k == 2 else f"best first, such as {_example(k)} where 1 and 2 are tied"
    while True:
        try:
            line = read(f"\nbetter ({example}; b all bad, s skips, u undoes, q quits)> ").strip().lower()
        except Terminated:
            raise
        except (EOFError, KeyboardInterrupt):
            return "quit"
        if line in KEYS:
            return KEYS[line]
        try:
            parse_ordering(line, k)
        except ValueError as error:
            print(f"{line!r}: {error}")
        else:
            return line


def _example(k: int) -> str:
    return ">".join(map(str, range(k, 1, -1))) + "=1"


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)
