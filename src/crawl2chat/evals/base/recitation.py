"""Recitation: which of the fictional web's passages a model goes on with word for word, by how often it met them.

As in Carlini et al. (arXiv 2202.07646): a text is prompted with some of its tokens and continued greedily, and counts
as recited only where every word to its end is right.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, takewhile

from crawl2chat.evals.base.subject import Subject
from crawl2chat.generate import Engine, Sampling
from crawl2chat.match.matches import find_matches, training_texts
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import atomic_write

PROMPT = 16  # tokens, about a third of a passage
PROMPTS = (8, 16, 32)  # tokens before one and the same place


@dataclass(frozen=True)
class Recital:
    """A passage, what the model was given of it, and how far it went on with it."""

    passage: str
    copies: int  # counted in the training documents
    prompt_tokens: int
    prompt: str
    continuation: str
    words: int  # of the passage behind the prompt
    words_right: int  # before the first wrong one

    @property
    def whole(self) -> bool:
        return self.words_right == self.words


def measure_recitation(subject: Subject) -> list[Figure]:
    """Shares of passages recited by copies in training and by tokens of prompt; of other webs nothing is known.

    `recall/N`: prompted as `generate` does, with end-of-text and the passage's first 16 tokens, by copies to the
    nearest power of two. `recall_by_prompt/N`: over all passages, prompted with the N tokens before their 33rd, so that
    what has to follow is the same. Writes recitation.jsonl.
    """
    passages = [passage.text for passage in subject.ledger.passages] if subject.ledger else []
    if not passages:
        return []
    copies = count_copies(subject, passages)
    begun = recite(subject.engine, passages, copies, 0, PROMPT)
    by_prompt = {n: recite(subject.engine, passages, copies, max(PROMPTS) - n, n) for n in PROMPTS}
    with atomic_write(subject.out / "recitation.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        for recital in [*begun, *(recital for recitals in by_prompt.values() for recital in recitals)]:
            file.write(json.dumps(asdict(recital), ensure_ascii=False) + "\n")
    by_copies: dict[int, list[Recital]] = defaultdict(list)
    for recital in sorted(begun, key=lambda recital: recital.copies):
        by_copies[_level(recital.copies)].append(recital)
    figures = [
        *(_recall(f"recall/{n}", found) for n, found in by_copies.items()),
        _recall("recall_at_1_to_2_copies", [r for r in begun if _level(r.copies) in (1, 2)]),
        _recall("recall_at_64_copies_and_more", [r for r in begun if _level(r.copies) >= 64]),
        *(_recall(f"recall_by_prompt/{n}", found) for n, found in by_prompt.items()),
        *(median(f"words_recited/{n}", [r.words_right for r in found], "words") for n, found in by_copies.items()),
    ]
    return [figure for figure in figures if figure.count]


def count_copies(subject: Subject, passages: Sequence[str]) -> list[int]:
    """How often each passage stands whole in the training documents; the ledger counts those held out, too."""
    found = find_matches(passages, training_texts(subject.tokenizer, subject.searched))
    return [
        next((m.copies for m in matches if (m.begin, m.end) == (0, len(passage))), 0)
        for passage, matches in zip(passages, found, strict=True)
    ]


def recite(engine: Engine, passages: Sequence[str], copies: Sequence[int], begin: int, n_tokens: int) -> list[Recital]:
    """Prompt with `n_tokens` of each passage's tokens from `begin` on, and go on greedily.

    A passage's beginning stands behind the end-of-text token. Passages that end with the prompt are left out, and
    those that the engine's context has no room for.
    """
    tokenizer, end = engine.tokenizer, begin + n_tokens
    room = engine.context + begin if begin else engine.context - 1  # for a passage
    cut = [(tokenizer.encode(passage), passage, n) for passage, n in zip(passages, copies, strict=True)]
    cut = [(ids, passage, n) for ids, passage, n in cut if end < len(ids) <= room]
    if not cut:
        return []
    prompts = [[*([] if begin else [tokenizer.end_of_text]), *ids[begin:end]] for ids, _, _ in cut]
    longest = max(len(ids) for ids, _, _ in cut) - end
    completions = engine.generate(prompts, Sampling(temperature=0, max_tokens=longest + 2))
    recitals = []
    for (ids, passage, n_copies), completion in zip(cut, completions, strict=True):
        prompt, rest = tokenizer.decode(ids[begin:end]), tokenizer.decode(ids[end:])
        right = words_right(rest, completion.text)
        recitals.append(Recital(passage, n_copies, n_tokens, prompt, completion.text, len(rest.split()), right))
    return recitals


def words_right(expected: str, found: str) -> int:
    """How many of the expected words stand in `found` before the first that differs; behind the last, anything may."""
    pairs = enumerate(zip(expected, found, strict=False))
    departure = next((i for i, (one, other) in pairs if one != other), min(len(expected), len(found)))
    same, rest = expected[:departure], expected[departure:]
    within_a_word = same and not same[-1].isspace() and rest and not (departure == len(found) and rest[0].isspace())
    return len(same.split()) - bool(within_a_word)


def median(name: str, values: Sequence[float], unit: str) -> Figure:
    """The median with the narrowest interval of order statistics that is sure to hold 95 % (fewer than 6 have none)."""
    ordered, n = sorted(values), len(values)
    below = accumulate(math.comb(n, k) for k in range(n))  # over 2^n: the chance that at most k lie below the median
    outside = sum(1 for _ in takewhile(lambda ways: 40 * ways <= 2**n, below))  # so many may be left out at each end
    interval = (ordered[outside - 1], ordered[n - outside]) if outside else None
    return Figure(name, statistics.median(ordered), unit, interval, n)


def _recall(name: str, recitals: Sequence[Recital]) -> Figure:
    return share(name, sum(recital.whole for recital in recitals), len(recitals))


def _level(copies: int) -> int:
    """The nearest power of two, as passages have that many copies less those held out."""
    return 2 ** round(math.log2(copies)) if copies else 0
