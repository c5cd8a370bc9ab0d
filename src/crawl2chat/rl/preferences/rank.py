"""A person ranks a model's answers in the terminal."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from crawl2chat.generate import Engine, Sampling
from crawl2chat.rl.preferences.plan import REPEAT_EVERY, Needed, Plan, Source, one_each
from crawl2chat.rl.preferences.store import Answer, Prompt, RankingStore, now
from crawl2chat.stages.interrupts import Terminated

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
    seed: int = 0,
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
            step = plan.assign(step, sample_answers(engine, step.prompt, k, (seed, step.number), source), annotator)
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
