"""Continuation: how a base model's texts differ among themselves and from its training text, by how it samples."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crawl2chat.evals.base.subject import Subject
from crawl2chat.generate import Engine, Sampling
from crawl2chat.match.matches import Match, covered_words, find_matches, items_of, training_texts
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.stages.files import atomic_write
from crawl2chat.tokenizer import Tokenizer

TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.2)  # at top-p 1
TOP_PS = (0.5, 0.8, 0.95)  # at temperature 1
TOKENS = 80  # of a continuation at most
LEFT = 40  # tokens of a held-out document behind the part that is a prompt
GROUPS = 16  # of the jackknife
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)  # by groups − 2
HELD_OUT = "held_out"  # the group of what people wrote

Grams = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Continuation:
    """What was written behind a prompt (none: as a new document), and whether it came to an end by itself."""

    prompt: str
    text: str
    ended: bool


def measure_continuation(subject: Subject) -> list[Figure]:
    """Diversity, self-similarity, copying and endings of each setting, beside what people wrote (`held_out`).

    Every second text is a document from nothing, the others go on with held-out documents of which 40 tokens are
    left; `held_out` is these documents' own text, cut to the same 80 tokens. N-grams are of words and punctuation.
    `distinct_N`: distinct n-grams over all n-grams of a setting (Li et al., arXiv 1510.03055, section 5.1).
    `self_similarity`: the share of a text's 3-grams that stand in another one of its setting, mean over all pairs.
    `verbatim`: share of a text's words in training matches of 8 words or more, mean over texts.
    `training_text_searched`: share of the training tokens in which copies are looked for.
    `ended`: share of the texts behind held-out documents that end within 80 tokens. Writes continuations.jsonl.
    At temperature 0 texts from nothing are all the same, and the intervals there take them for as many.
    Measures nothing where fewer than two documents were held out, as one text is like no other.
    """
    if len(subject.documents) < 2:
        return []
    tokens = min(TOKENS, subject.engine.context // 2)
    prompts, written = _beginnings(subject, tokens)
    groups = {HELD_OUT: written} | _continue(subject.engine, prompts, tokens, subject.settings.seed)
    texts = [continuation.text for group in groups.values() for continuation in group]
    found = iter(find_matches(texts, training_texts(subject.tokenizer, subject.searched)))
    matches = {name: [next(found) for _ in group] for name, group in groups.items()}
    _write(subject, groups, matches)
    n_tokens = len(subject.training.ids)
    searched = Figure("training_text_searched", len(subject.searched.ids) / n_tokens, "share", None, n_tokens)
    return [searched, *(figure for name, group in groups.items() for figure in _figures(name, group, matches[name]))]


def _figures(name: str, group: Sequence[Continuation], matches: Sequence[Sequence[Match]]) -> list[Figure]:
    items = [items_of(continuation.text) for continuation in group]
    words = [covered_words(c.text, spans) for c, spans in zip(group, matches, strict=True)]
    figures = [
        *(jackknife(f"distinct_{n}/{name}", [ngrams(text, n) for text in items], distinct) for n in (1, 2, 3)),
        jackknife(f"self_similarity/{name}", [ngrams(text, 3) for text in items], similarity),
        mean(f"verbatim/{name}", [covered / n for covered, n in words if n] or [0.0], "share"),
    ]
    behind = [continuation.ended for continuation in group if continuation.prompt]
    if name != HELD_OUT:  # those end there, all of them
        figures.append(share(f"ended/{name}", sum(behind), len(behind)))
    return figures


def ngrams(items: Sequence[str], n: int) -> Grams:
    return list(zip(*(items[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[Grams]) -> float:
    """Share of the n-grams of all texts that are there for the first time."""
    total = sum(map(len, texts))
    return len({gram for text in texts for gram in text}) / total if total else 0.0


def similarity(texts: Sequence[Grams]) -> float:
    """Mean share of a text's n-grams that stand in another text, over all pairs of texts that have any."""
    texts = [text for text in texts if text]
    holders = Counter(gram for text in texts for gram in set(text))
    if len(texts) < 2:
        return 0.0
    return statistics.fmean(sum(holders[gram] - 1 for gram in text) / len(text) for text in texts) / (len(texts) - 1)


def jackknife(name: str, texts: Sequence[Grams], statistic: Callable[[Sequence[Grams]], float]) -> Figure:
    """A share over texts with its 95 % interval from leaving out a sixteenth of them at a time (Kott 2001)."""
    value = statistic(texts)
    n = min(GROUPS, len(texts))
    if n < 2:
        return Figure(name, value, "share", None, len(texts))
    without = [statistic([text for i, text in enumerate(texts) if i % n != left_out]) for left_out in range(n)]
    half = STUDENT_T[n - 2] * math.sqrt((n - 1) * statistics.pvariance(without))
    return Figure(name, value, "share", (max(0.0, value - half), min(1.0, value + half)), len(texts))


def _beginnings(subject: Subject, tokens: int) -> tuple[list[list[int]], list[Continuation]]:
    """Prompts, every second one the end-of-text token alone, and how the held-out documents go on behind them.

    Each document is taken once: a second time it would make what people wrote look alike.
    """
    decode, room = subject.tokenizer.decode, subject.engine.context - tokens
    prompts, written = [], []
    for i in range(min(subject.settings.samples, len(subject.held_out))):
        ids = subject.held_out[i].tolist()
        end = max(1, len(ids) - LEFT) if i % 2 else 1
        prompt = ids[max(0, end - room) : end]
        prompts.append(prompt)
        written.append(
            Continuation(_text(prompt, subject.tokenizer), decode(ids[end : end + tokens]), end + tokens > len(ids))
        )
    return prompts, written


def _continue(
    engine: Engine, prompts: Sequence[Sequence[int]], tokens: int, seed: int
) -> dict[str, list[Continuation]]:
    """All settings at once, so that the engine's batch is full."""
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


def _write(subject: Subject, groups: dict[str, list[Continuation]], matches: dict[str, list[list[Match]]]) -> None:
    with atomic_write(subject.out / "continuations.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        for name, group in groups.items():
            for continuation, spans in zip(group, matches[name], strict=True):
                row = {"setting": name, **vars(continuation), "matches": [vars(match) for match in spans]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
