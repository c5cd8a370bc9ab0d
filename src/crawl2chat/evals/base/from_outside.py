"""What a model from elsewhere is like, where nobody knows what it learned from: the parts that need no ledger.

How well it compresses a given text, translates from a few examples, counts letters, adds numbers at once and by steps,
and what it says of itself. Sentences to continue are given as bare text; questions as the model's own chat template
writes them, which of a base model without one is bare text, too.
"""

import math
import random
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crawl2chat.evals.base.base_prompts import greedy
from crawl2chat.evals.base.compression import xz
from crawl2chat.evals.bits_per_byte import bits_over_bytes
from crawl2chat.evals.judging import Question, ask, is_correct, question_prompt
from crawl2chat.evals.scoring import Span, score
from crawl2chat.evals.suites.chat_suites import Measured
from crawl2chat.evals.values import plain
from crawl2chat.generate import Engine, Sampling
from crawl2chat.refine.documents import read_texts
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import StageError

PHRASES = Path(__file__).with_name("phrases.tsv")  # English and its translations, ways of one apart by " / "
LIMIT = 30  # questions of each kind, unless asked otherwise
SHOTS = (0, 1, 2, 4, 8)
TRANSLATION_TOKENS = 16
WINDOW_TOKENS = 1024  # that are scored at once: more context costs more than it gains
TEXT_BYTES = 100_000  # of the given text, from its beginning
WORDS = (
    "strawberry", "banana", "letter", "mississippi", "balloon", "coffee", "committee", "pepper", "address", "giraffe",
    "tomorrow", "engineer", "parallel", "raspberry", "bookkeeper", "hello", "summer", "cheese", "window", "garden",
    "rabbit", "umbrella", "elephant", "kitchen", "chocolate", "blueberry", "necessary", "happiness", "carrot", "tree",
)  # fmt: skip
AT_ONCE, BY_STEPS = "{} Answer with the number only.", "{} Work step by step, then give the answer."
COUNT_TOKENS, STEPS_TOKENS = 24, 160
DIGITS = (1, 2, 3)
ABOUT_ITSELF = ("Who are you?", "What is your name?", "Who made you?", "What are you?", "What can you do?")
OWN_SAMPLES, OWN_TOKENS = 4, 64


def measure_from_outside(engine: Engine, text: Path | None, limit: int, seed: int = 0) -> Measured:
    """All parts, with what the model said; `text` is what bits per byte are measured on, none without it.

    limit: maximum number of questions of each kind and class.
    """
    figures = bits_of_text(engine, text) if text else []
    answers: list[dict[str, Any]] = []  # with the part that each belongs to
    for part in (translations, letters, sums, own_words):
        measured = part(engine, limit, seed)
        figures += measured.figures
        answers += measured.answers
    return Measured(figures, answers)


def bits_of_text(engine: Engine, text: Path) -> list[Figure]:
    """Bits per byte of the beginning of a text, cut into windows that are read alone, and of xz on the same."""
    tokenizer = engine.tokenizer
    content = "\n\n".join(islice(read_texts(text), 10_000)).encode()[:TEXT_BYTES].decode("utf-8", "ignore")
    ids = tokenizer.encode(content)
    if not ids:
        raise StageError(f"{text}: holds no text to measure bits per byte on")
    size = min(WINDOW_TOKENS, engine.context - 1)
    windows = [ids[i : i + size] for i in range(0, len(ids), size)]
    scores = score(engine.model, [[Span([tokenizer.bos_id, *window], 1)] for window in windows])
    bits = np.array([found.nats / math.log(2) for (found,) in scores])
    n_bytes = np.array([len(tokenizer.decode_bytes(window)) for window in windows])
    by_xz = Figure("bits_per_byte/xz", 8 * xz(content.encode()) / len(content.encode()), "bits/byte")
    return [bits_over_bytes("bits_per_byte/model", bits, n_bytes), by_xz]


def translations(engine: Engine, limit: int, seed: int) -> Measured:
    """Words and phrases after 0 to 8 others with their translations; as control, after ones with another's.

    `translation/LANGUAGE/N` and `translation_shuffled/LANGUAGE/N`: share that is right after N examples.
    """
    head, *lines = (line.split("\t") for line in PHRASES.read_text(encoding="utf-8").splitlines())
    figures, answers = [], []
    for column, language in enumerate(head[1:], 1):
        for shots in SHOTS:
            for shuffled in (False, True) if shots > 1 else (False,):
                name = f"translation{'_shuffled' * shuffled}/{language}/{shots}"
                asked = random.Random(f"{seed} {language}").sample(lines, min(limit, len(lines)))
                prompts = [_phrase_page(line, lines, column, language, shots, shuffled, seed) for line in asked]
                said = greedy(engine, prompts, TRANSLATION_TOKENS)
                right = [same_phrase(text, line[column]) for text, line in zip(said, asked, strict=True)]
                figures.append(share(name, sum(right), len(right)))
                answers += [
                    {"part": name, "question": line[0], "expected": line[column], "answer": text.strip(), "right": mark}
                    for line, text, mark in zip(asked, said, right, strict=True)
                ]
    return Measured(figures, answers)


def _phrase_page(
    line: list[str], lines: Sequence[list[str]], column: int, language: str, shots: int, shuffled: bool, seed: int
) -> str:
    """`English: …` and `French: …` by turns, up to where the translation of the last phrase begins."""
    others = [other for other in lines if other[0] != line[0]]
    examples = random.Random(f"{seed} {line[0]}").sample(others, shots)
    translated = [example[column].split(" / ")[0] for example in examples]
    translated = translated[1:] + translated[:1] if shuffled else translated
    pairs = zip(examples, translated, strict=True)
    page = "".join(f"English: {example[0]}\n{language}: {other}\n\n" for example, other in pairs)
    return f"{page}English: {line[0]}\n{language}:"


def same_phrase(text: str, ways: str) -> bool:
    """Whether a text is one of the ways, apart by " / "; case and punctuation around it don't count, accents do."""

    def bare(phrase: str) -> str:
        return plain(phrase).casefold().strip(" .,!?¿¡\"'")

    return bare(text) in map(bare, ways.split(" / "))


def letters(engine: Engine, limit: int, seed: int) -> Measured:
    """How often a letter is in a word, asked of the word and of its letters with spaces between, which are tokens."""
    asked = []
    for word in WORDS[:limit]:
        rng = random.Random(f"{seed} {word}")
        most = max(map(word.count, sorted(set(word))))
        letter = "r" if word == "strawberry" else rng.choice([c for c in sorted(set(word)) if word.count(c) == most])
        asked.append((word, letter))
    ways: dict[str, Callable[[str], str]] = {"as_a_word": str, "spelled_out": " ".join}
    questions = {
        name: [
            Question(f"How many times is the letter '{c}' in '{way(w)}'?", (str(w.count(c)),), name) for w, c in asked
        ]
        for name, way in ways.items()
    }
    found = [_asked(engine, of_way, f"letters/{name}", AT_ONCE, COUNT_TOKENS) for name, of_way in questions.items()]
    counts = [word.count(letter) for word, letter in asked]
    guess = max(counts.count(n) for n in set(counts)) / len(counts)
    figures = [figure for measured in found for figure in measured.figures]
    always = Figure("letters/always_the_most_common_count", guess, "share", None, len(counts))
    return Measured([*figures, always], [answer for measured in found for answer in measured.answers])


def sums(engine: Engine, limit: int, seed: int) -> Measured:
    """Additions of numbers with as many digits, asked for the number only and for the way to it."""
    figures, answers = [], []
    for digits in DIGITS:
        rng = random.Random(f"{seed} sums {digits}")
        low = 10 ** (digits - 1)
        pairs = [(rng.randrange(low, 10 * low), rng.randrange(low, 10 * low)) for _ in range(limit)]
        asked = [Question(f"What is {a} + {b}?", (str(a + b),), f"{digits} digits") for a, b in pairs]
        for name, form, tokens in (("at_once", AT_ONCE, COUNT_TOKENS), ("by_steps", BY_STEPS, STEPS_TOKENS)):
            measured = _asked(engine, asked, f"sums_{name}/{digits}", form, tokens)
            figures += measured.figures
            answers += measured.answers
    return Measured(figures, answers)


def _asked(engine: Engine, questions: Sequence[Question], name: str, form: str, max_tokens: int) -> Measured:
    """Questions put in this form; the final value of an answer counts."""
    asked = [Question(form.format(question.text), question.answers, question.group) for question in questions]
    found = ask(engine, asked, is_correct, max_tokens)
    rows = [
        {"part": name, "question": a.question.text, "expected": a.question.expected, "answer": a.text, "right": a.right}
        for a in found
    ]
    return Measured([share(name, sum(a.right for a in found), len(found))], rows)


def own_words(engine: Engine, limit: int, seed: int) -> Measured:
    """What it says of itself: its most probable answer and some that are drawn, whatever they are.

    `about_itself/different`: share of the drawn answers that no other answer to the question is equal to.
    """
    prompts = [question_prompt(engine.tokenizer, question) for question in ABOUT_ITSELF]
    likely = engine.generate(prompts, Sampling(temperature=0, max_tokens=OWN_TOKENS))
    drawn = engine.generate(
        [prompt for prompt in prompts for _ in range(OWN_SAMPLES)], Sampling(1.0, max_tokens=OWN_TOKENS, seed=seed)
    )
    answers: list[dict[str, Any]] = []
    n_different = 0
    for i, question in enumerate(ABOUT_ITSELF):
        texts = [completion.text.strip() for completion in drawn[i * OWN_SAMPLES : (i + 1) * OWN_SAMPLES]]
        n_different += sum(texts.count(text) == 1 for text in texts)
        answers.append({"part": "about_itself", "question": question, "answer": likely[i].text.strip(), "drawn": texts})
    return Measured([share("about_itself/different", n_different, len(drawn))], answers)


def series(figures: Sequence[Figure]) -> dict[str, list[dict[str, Any]]]:
    """The figures whose names end in a number, as curves that are ready to be plotted: `x`, value, interval, count."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for figure in figures:
        name, _, x = figure.name.rpartition("/")
        if x.isdecimal():
            curves.setdefault(name, []).append({"x": int(x), **figure.to_json()})
    return curves
