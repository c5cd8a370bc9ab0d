"""Whether a base model writes something new or recites: diversity and copies by how it samples, and known passages.

Recitation as in Carlini et al. (arXiv 2202.07646): a text is prompted with some of its tokens and continued greedily,
and counts as recited only if every word to its end is right.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, takewhile

from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.generate import Engine, Sampling
from crawl2chat.match.matches import Match, covered_words, find_matches, items_of, training_texts
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.stages.files import write_jsonl
from crawl2chat.tokenizer import Tokenizer

TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.2)  # at top-p 1
TOP_PS = (0.5, 0.8, 0.95)  # at temperature 1
MAX_TOKENS = 80  # of a continuation
TOKENS_LEFT = 40  # of a held-out document, after the part that is the prompt
GROUPS = 16  # of the jackknife
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)  # by groups − 2
HELD_OUT = "held_out"  # the group of what people wrote
PROMPT_TOKENS = 16  # about a third of a passage
COMPARED_PROMPTS = (8, 16, 32)  # tokens, all before the same place

Grams = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Continuation:
    """What was written after a prompt ("": as a new document), and whether it ended by itself."""

    prompt: str
    text: str
    ended: bool


def measure_continuation(tested: ModelUnderTest) -> list[Figure]:
    """Measure diversity, self-similarity, copying and endings per setting, and of the held-out text (`held_out`).

    Every second text is a document without a prompt, the others continue held-out documents of which 40 tokens are
    left; `held_out` is these documents' own text, cut to the same 80 tokens. N-grams are of words and punctuation.
    `distinct_N`: distinct n-grams over all n-grams of a setting (Li et al., arXiv 1510.03055, section 5.1).
    `self_similarity`: share of a text's 3-grams that are also in another text of its setting, mean over all pairs.
    `verbatim`: share of a text's words in training matches of 8 words or more, mean over texts.
    `training_text_searched`: share of the training tokens in which copies are looked for.
    `ended`: share of the texts after held-out documents that end within 80 tokens. Writes continuations.jsonl.
    At temperature 0 all texts without a prompt are the same, though the intervals count each of them.
    Measures nothing if fewer than two documents were held out, as similarity needs two.
    """
    if len(tested.documents) < 2:
        return []
    tokens = min(MAX_TOKENS, tested.engine.context // 2)
    prompts, written = _beginnings(tested, tokens)
    groups = {HELD_OUT: written} | _continue(tested.engine, prompts, tokens, tested.settings.seed)
    texts = [continuation.text for group in groups.values() for continuation in group]
    found = iter(find_matches(texts, training_texts(tested.tokenizer, tested.searched)))
    matches = {name: [next(found) for _ in group] for name, group in groups.items()}
    rows = (
        {"setting": name, **vars(continuation), "matches": [vars(match) for match in spans]}
        for name, group in groups.items()
        for continuation, spans in zip(group, matches[name], strict=True)
    )
    write_jsonl(tested.out / "continuations.jsonl", rows)
    n_tokens = len(tested.training.ids)
    searched = Figure("training_text_searched", len(tested.searched.ids) / n_tokens, "share", None, n_tokens)
    return [searched, *(figure for name, group in groups.items() for figure in _figures(name, group, matches[name]))]


def _figures(name: str, group: Sequence[Continuation], matches: Sequence[Sequence[Match]]) -> list[Figure]:
    items = [items_of(continuation.text) for continuation in group]
    words = [covered_words(c.text, spans) for c, spans in zip(group, matches, strict=True)]
    figures = [
        *(jackknife(f"distinct_{n}/{name}", [ngrams(text, n) for text in items], distinct) for n in (1, 2, 3)),
        jackknife(f"self_similarity/{name}", [ngrams(text, 3) for text in items], similarity),
        mean(f"verbatim/{name}", [covered / n for covered, n in words if n] or [0.0], "share"),
    ]
    after_prompt = [continuation.ended for continuation in group if continuation.prompt]
    if name != HELD_OUT:  # all of those end there
        figures.append(share(f"ended/{name}", sum(after_prompt), len(after_prompt)))
    return figures


def ngrams(items: Sequence[str], n: int) -> Grams:
    return list(zip(*(items[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[Grams]) -> float:
    """Return the share of distinct n-grams among all n-grams of the texts."""
    total = sum(map(len, texts))
    return len({gram for text in texts for gram in text}) / total if total else 0.0


def similarity(texts: Sequence[Grams]) -> float:
    """Return the mean share of a text's n-grams that are in another text, over all pairs of texts that have any."""
    texts = [text for text in texts if text]
    holders = Counter(gram for text in texts for gram in set(text))
    if len(texts) < 2:
        return 0.0
    return statistics.fmean(sum(holders[gram] - 1 for gram in text) / len(text) for text in texts) / (len(texts) - 1)


def jackknife(name: str, texts: Sequence[Grams], statistic: Callable[[Sequence[Grams]], float]) -> Figure:
    """Return a share over texts with its 95 % interval from leaving out a sixteenth of them at a time (Kott 2001)."""
    value = statistic(texts)
    n = min(GROUPS, len(texts))
    if n < 2:
        return Figure(name, value, "share", None, len(texts))
    without = [statistic([text for i, text in enumerate(texts) if i % n != left_out]) for left_out in range(n)]
    half = STUDENT_T[n - 2] * math.sqrt((n - 1) * statistics.pvariance(without))
    return Figure(name, value, "share", (max(0.0, value - half), min(1.0, value + half)), len(texts))


def _beginnings(tested: ModelUnderTest, tokens: int) -> tuple[list[list[int]], list[Continuation]]:
    """Return prompts, every second one the end-of-text token alone, and how the held-out documents continue them.

    Each document is used once, since a second use would make the held-out text look repetitive.
    """
    decode, room = tested.tokenizer.decode, tested.engine.context - tokens
    prompts, written = [], []
    for i in range(min(tested.settings.samples, len(tested.held_out))):
        ids = tested.held_out[i].tolist()
        end = max(1, len(ids) - TOKENS_LEFT) if i % 2 else 1
        prompt = ids[max(0, end - room) : end]
        prompts.append(prompt)
        written.append(
            Continuation(_text(prompt, tested.tokenizer), decode(ids[end : end + tokens]), end + tokens > len(ids))
        )
    return prompts, written


def _continue(
    engine: Engine, prompts: Sequence[Sequence[int]], tokens: int, seed: int
) -> dict[str, list[Continuation]]:
    """Continue all prompts with all settings at once, so that the engine's batch is full."""
    settings = {f"temperature_{t:g}": Sampling(temperature=t, max_tokens=tokens, seed=seed) for t in TEMPERATURES}
    settings |= {f"top_p_{p:g}": Sampling(top_p=p, max_tokens=tokens, seed=seed) for p in TOP_PS}
    requests = {
        name: [engine.submit(prompt, sampling, seed=i) for i, prompt in enumerate(prompts)]
        for name, sampling in settings.items()
    }
    while engine.running or engine.waiting:
        engine.step()
    return {
        name: [
            Continuation(_text(r.prompt, engine.tokenizer), r.completion.text, r.completion.finish_reason == "stop")
            for r in group
        ]
        for name, group in requests.items()
    }


def _text(prompt: Sequence[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode(prompt[1:] if prompt[0] == tokenizer.end_of_text else prompt)


@dataclass(frozen=True)
class Recital:
    """A passage, the part that was the prompt, and how far the model continued it rightly."""

    passage: str
    copies: int  # counted in the training documents
    prompt_tokens: int
    prompt: str
    continuation: str
    words: int  # of the passage after the prompt
    words_right: int  # before the first wrong one

    @property
    def whole(self) -> bool:
        return self.words_right == self.words


def measure_recitation(tested: ModelUnderTest) -> list[Figure]:
    """Measure the passages recited, by copies in training and by tokens of prompt; needs a made-up web's ledger.

    `recall/N`: prompted as `generate` does, with end-of-text and the passage's first 16 tokens, by copies to the
    nearest power of two. `recall_by_prompt/N`: over all passages, prompted with the N tokens before their 33rd, so that
    what has to follow is the same. Writes recitation.jsonl.
    """
    passages = [passage.text for passage in tested.ledger.passages] if tested.ledger else []
    if not passages:
        return []
    copies = count_copies(tested, passages)
    begun = recite(tested.engine, passages, copies, 0, PROMPT_TOKENS)
    by_prompt = {n: recite(tested.engine, passages, copies, max(COMPARED_PROMPTS) - n, n) for n in COMPARED_PROMPTS}
    write_jsonl(tested.out / "recitation.jsonl", [*begun, *chain.from_iterable(by_prompt.values())])
    by_copies: dict[int, list[Recital]] = defaultdict(list)
    for recital in sorted(begun, key=lambda recital: recital.copies):
        by_copies[copies_level(recital.copies)].append(recital)
    figures = [
        *(_recall(f"recall/{n}", found) for n, found in by_copies.items()),
        _recall("recall_at_1_to_2_copies", [r for r in begun if copies_level(r.copies) in (1, 2)]),
        _recall("recall_at_64_copies_and_more", [r for r in begun if copies_level(r.copies) >= 64]),
        *(_recall(f"recall_by_prompt/{n}", found) for n, found in by_prompt.items()),
        *(median(f"words_recited/{n}", [r.words_right for r in found], "words") for n, found in by_copies.items()),
    ]
    return [figure for figure in figures if figure.count]


def count_copies(tested: ModelUnderTest, passages: Sequence[str]) -> list[int]:
    """Return how often each passage is whole in the training documents; the ledger counts held-out ones, too."""
    found = find_matches(passages, training_texts(tested.tokenizer, tested.searched))
    return [
        next((m.copies for m in matches if (m.begin, m.end) == (0, len(passage))), 0)
        for passage, matches in zip(passages, found, strict=True)
    ]


def recite(engine: Engine, passages: Sequence[str], copies: Sequence[int], begin: int, n_tokens: int) -> list[Recital]:
    """Prompt with `n_tokens` of each passage's tokens from `begin` on, and continue greedily.

    A passage's beginning follows the end-of-text token. Passages that end with the prompt or exceed the engine's
    context are left out.
    """
    tokenizer, end = engine.tokenizer, begin + n_tokens
    room = engine.context + begin if begin else engine.context - 1  # for a passage
    cut = [(tokenizer.encode(passage), passage, n) for passage, n in zip(passages, copies, strict=True)]
    cut = [(ids, passage, n) for ids, passage, n in cut if end < len(ids) <= room]
    if not cut:
        return []
    prompts = [prompt_of(tokenizer, ids, begin, end) for ids, _, _ in cut]
    longest = max(len(ids) for ids, _, _ in cut) - end
    completions = engine.generate(prompts, Sampling(temperature=0, max_tokens=longest + 2))
    recitals = []
    for (ids, passage, n_copies), completion in zip(cut, completions, strict=True):
        prompt, rest = tokenizer.decode(ids[begin:end]), tokenizer.decode(ids[end:])
        right = words_right(rest, completion.text)
        recitals.append(Recital(passage, n_copies, n_tokens, prompt, completion.text, len(rest.split()), right))
    return recitals


def prompt_of(tokenizer: Tokenizer, ids: Sequence[int], begin: int, end: int) -> list[int]:
    """Return what a model is given of a passage's tokens; its beginning follows the end-of-text token."""
    return [*([] if begin else [tokenizer.end_of_text]), *ids[begin:end]]


def words_right(expected: str, found: str) -> int:
    """Return how many expected words `found` has before the first difference; after the last, anything may follow."""
    pairs = enumerate(zip(expected, found, strict=False))
    departure = next((i for i, (one, other) in pairs if one != other), min(len(expected), len(found)))
    same, rest = expected[:departure], expected[departure:]
    within_a_word = same and not same[-1].isspace() and rest and not (departure == len(found) and rest[0].isspace())
    return len(same.split()) - bool(within_a_word)


def median(name: str, values: Sequence[float], unit: str) -> Figure:
    """Return the median with the narrowest order statistics around it that cover 95 % (None for fewer than 6)."""
    ordered, n = sorted(values), len(values)
    below = accumulate(math.comb(n, k) for k in range(n))  # over 2^n: the chance that at most k lie below the median
    outside = sum(1 for _ in takewhile(lambda ways: 40 * ways <= 2**n, below))  # this many may be left out at each end
    interval = (ordered[outside - 1], ordered[n - outside]) if outside else None
    return Figure(name, statistics.median(ordered), unit, interval, n)


def _recall(name: str, recitals: Sequence[Recital]) -> Figure:
    return share(name, sum(recital.whole for recital in recitals), len(recitals))


def copies_level(copies: int) -> int:
    """Return the nearest power of two: passages have that many copies, without those held out."""
    return 2 ** round(math.log2(copies)) if copies else 0
