"""What tokens make hard: sums at once, spelling, counting letters, decimals; and what writing things out gains.

A token buys one pass through the model, so steps have to be written out. And a token is a number to the model: its
letters are stated nowhere, and can only be learned where a text spells it out (Kaushal and Mahowald, arXiv 2206.02608,
find them learned in part by models a thousand times larger).
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from crawl2chat.evals.base.base_prompts import fitting, greedy
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.bits_per_byte import count_ids
from crawl2chat.evals.judging import is_correct
from crawl2chat.generate import Sampling
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tinyweb.truth import STEP_CUE
from crawl2chat.tokenizer import Tokenizer

SHOTS = 4
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LETTER_TOKENS = tuple(f" {letter}" for letter in LETTERS)
KNOWN = ("strawberry", "9.11", "9.9", "1234567")  # whose tokens are counted
Floats = NDArray[np.float64]
FOLDS = 5
RIDGE = 1e-3  # for inputs of deviation 1; values up to 10⁴ do not raise counts from tokens above the guess
PROPERTIES: dict[str, Callable[[str], str]] = {
    "first_letter": lambda token: token.strip()[0].lower(),
    "last_letter": lambda token: token[-1].lower(),
    "length": lambda token: str(len(token.strip())),
    "leading_space": lambda token: str(token.startswith(" ")),
    "capital": lambda token: str(token.strip()[0].isupper()),
}
COUNTED = "earst"  # letters that many words contain, some of them twice
LEAD = "Now a question from the town."  # in the web, sums follow a sentence and never begin a page


@dataclass(frozen=True)
class SumInText:
    """How a base model is asked for a sum: with the beginning of a page in which its answer comes next."""

    opening: str  # of the answer
    max_tokens: int
    stop: tuple[str, ...]  # pages continue with another question on the same line

    def page(self, question: str) -> str:
        return f"{LEAD} {question} {self.opening}"


AT_ONCE = SumInText("The answer is", 12, ("\n", "?", "."))  # three digits take 6 tokens
STEP_BY_STEP = SumInText(STEP_CUE, 128, ("\n", "?"))  # and 84


def measure_sums(tested: ModelUnderTest) -> list[Figure]:
    """Measure sums that are on no page, asked in the web's words: by digits, and what steps gain over all of them."""
    if tested.ledger is None:
        return []
    problems = [problem for problem in tested.ledger.problems if problem.split == "held_out"]
    random.Random(f"{tested.settings.seed}/sums").shuffle(problems)
    problems = problems[: tested.settings.questions]
    at_once, stepwise = (
        greedy(tested.engine, [way.page(problem.question) for problem in problems], way.max_tokens, way.stop)
        for way in (AT_ONCE, STEP_BY_STEP)
    )
    marks = {
        name: [is_correct(text, str(problem.answer)) for text, problem in zip(texts, problems, strict=True)]
        for name, texts in (("sums_at_once", at_once), ("sums_step_by_step", stepwise))
    }
    figures: list[Figure] = []
    for name, right in marks.items():
        for digits in sorted({problem.digits for problem in problems}):
            of_digits = [mark for mark, problem in zip(right, problems, strict=True) if problem.digits == digits]
            figures.append(share(f"{name}/{digits}", sum(of_digits), len(of_digits)))
    gains = [
        100.0 * (steps - once) for steps, once in zip(marks["sums_step_by_step"], marks["sums_at_once"], strict=True)
    ]
    return [*figures, mean("steps_gain", gains, "points")] if gains else figures


@dataclass(frozen=True)
class ChoiceTask:
    """A question and the pieces of its right answer, each chosen among `choices`, which are single tokens."""

    question: str
    opening: str  # of the answer
    answer: tuple[str, ...]
    choices: tuple[str, ...]

    def asked(self) -> str:
        return f"Q: {self.question}\nA:{self.opening}"

    def shown(self) -> str:
        return f"{self.asked()}{''.join(self.answer)}.\n\n"


def measure_spelling(tested: ModelUnderTest) -> list[Figure]:
    """Measure tasks after a few examples, each answer chosen among letters, digits or numbers, so that form can't fail.

    A base model of this kind has read no such tasks, so each figure comes with that of guessing. Before them, what
    follows from the tokens: how words and numbers are cut, and what embeddings reveal about letters.
    """
    tokenizer = tested.tokenizer
    found = sorted({word for d in tested.documents for word in re.findall(r"(?<=\s)[a-z]{4,9}(?=[\s,.])", d.text)})
    words = [word for word in found if len(tokenizer.encode(f" {word}")) == 1 and _spells(tokenizer, word)]
    rng = random.Random(f"{tested.settings.seed}/spelling")
    rng.shuffle(words)
    embedded = embeddings(tested)
    return [
        *cut_text(tested),
        *read_tokens(tested, embedded),
        *count_letters(tokenizer, words, embedded),
        *_by_examples(tested, words, rng),
    ]


def cut_text(tested: ModelUnderTest) -> list[Figure]:
    """Measure how the tokenizer cuts words of the held-out text and some texts that are known to be hard.

    Ours cuts numbers into single digits, so 9.11 is read as 9 . 1 1, and no token 11 competes with 9; GPT-4's, whose
    pattern takes up to three digits together, has one.
    """
    tokenizer = tested.tokenizer
    words = [word for d in tested.documents for word in re.findall(r"[A-Za-z]+", d.text)]
    n_tokens = {word: len(tokenizer.encode(f" {word}")) for word in set(words)}
    figures = [Figure(f"tokens_of/{text}", len(tokenizer.encode(text)), "tokens") for text in KNOWN]
    if words:
        whole = sum(n_tokens[word] == 1 for word in words)
        figures.append(share("words_of_one_token", whole, len(words)))
        n_letters = sum(map(len, words)) / sum(n_tokens[word] for word in words)
        figures.append(Figure("letters_per_token", n_letters, "letters", None, len(words)))
    return figures


def _by_examples(tested: ModelUnderTest, words: Sequence[str], rng: random.Random) -> list[Figure]:
    """Measure each task with whole words and with the same words spelled out."""
    limit = -(-tested.settings.questions // 4)  # per task, as prompts are long and there are many
    shown, asked = words[: len(words) // 5], words[len(words) // 5 :]
    spelled: Callable[[str], str] = " ".join
    figures: list[Figure] = []
    for name, make in (("count", count_task), ("spell", spell_task), ("reverse", reverse_task)):
        for form, write in (("word", str), ("letters", spelled)):
            # random numbers per word, so that both forms ask the same
            examples, tasks = (
                [task for word in some if (task := make(word, write(word), random.Random(word)))]
                for some in (shown, asked)
            )
            tasks = tasks[:limit]
            if len(examples) >= SHOTS and tasks:
                figures.append(mean(f"{name}_by_example/{form}", solve(tested, examples, tasks, rng), "share"))
        if len(examples) >= SHOTS and tasks:
            figures.append(Figure(f"{name}_by_example/guess", best_constant(tasks), "share", None, len(tasks)))
    for kind in ("helpful", "misleading"):
        examples = [decimals_task(rng, rng.choice(("helpful", "misleading"))) for _ in range(40)]
        tasks = [decimals_task(rng, kind) for _ in range(limit)]
        marks = solve(tested, examples, tasks, rng)
        figures.append(share(f"decimals_by_example/{kind}", round(sum(marks)), len(marks)))
    return [*figures, Figure("decimals_by_example/guess", 0.5, "share")]


def count_task(word: str, written: str, rng: random.Random) -> ChoiceTask | None:
    """Ask how many of a letter: one or two, equally often, of words that contain a letter twice; None for others."""
    twice, once = ([letter for letter in sorted(set(word)) if word.count(letter) == n] for n in (2, 1))
    if not twice or not once:
        return None
    n = rng.choice((1, 2))
    letter = rng.choice(once if n == 1 else twice)
    return ChoiceTask(f"How many {letter} are in {written}?", " The answer is ", (str(n),), ("1", "2"))


def spell_task(word: str, written: str, rng: random.Random) -> ChoiceTask:
    return ChoiceTask(f"Spell {written}.", "", tuple(f" {letter}" for letter in word), LETTER_TOKENS)


def reverse_task(word: str, written: str, rng: random.Random) -> ChoiceTask:
    return ChoiceTask(
        f"Spell {written} backwards.", "", tuple(f" {letter}" for letter in reversed(word)), LETTER_TOKENS
    )


def decimals_task(rng: random.Random, kind: str) -> ChoiceTask:
    """Ask which is larger, such as 9.11 or 9.9; kind "misleading": 11 and 9, read alone, suggest the opposite."""
    whole, long, short = rng.randint(1, 9), rng.randint(11, 98), rng.randint(1, 9)
    while long // 10 == short or (long // 10 < short) != (kind == "misleading"):
        long, short = rng.randint(11, 98), rng.randint(1, 9)
    numbers = [f"{whole}.{long}", f"{whole}.{short}"]
    larger = str(max(long // 10, short))
    rng.shuffle(numbers)
    question = f"Which is larger, {numbers[0]} or {numbers[1]}?"
    return ChoiceTask(question, f" The answer is {whole}.", (larger,), (str(long // 10), str(short)))


def solve(
    tested: ModelUnderTest, examples: Sequence[ChoiceTask], tasks: Sequence[ChoiceTask], rng: random.Random
) -> list[float]:
    """Return the share of each answer's pieces that are chosen right, in place, after a few examples."""
    tokenizer, most = tested.tokenizer, max(len(task.answer) for task in tasks)
    ids = [
        fitting(tested.engine, "".join(e.shown() for e in rng.sample(examples, SHOTS)) + task.asked(), most)
        for task in tasks
    ]
    cut = {choice: tokenizer.encode(choice) for task in tasks for choice in task.choices}
    allowed = [[cut[choice][0] for choice in task.choices if len(cut[choice]) == 1] for task in tasks]
    rules = [lambda written, some=some: some for some in allowed]
    completions = tested.engine.generate(ids, Sampling(temperature=0, max_tokens=most), rules=rules)
    marks: list[float] = []
    for task, completion in zip(tasks, completions, strict=True):
        right = [tokenizer.encode(piece)[0] for piece in task.answer]
        marks.append(fmean(given == wanted for given, wanted in zip(completion.ids, right, strict=False)))
    return marks


def best_constant(tasks: Sequence[ChoiceTask]) -> float:
    """Return what always choosing the same gives, at best."""
    return max(fmean(task.answer.count(choice) / len(task.answer) for task in tasks) for choice in tasks[0].choices)


def _spells(tokenizer: Tokenizer, word: str) -> bool:
    """Return whether each letter of the word is a token with a space before it."""
    return all(len(tokenizer.encode(f" {letter}")) == 1 for letter in word)


def embeddings(tested: ModelUnderTest) -> Floats:
    """Return the input embedding of every id, (V, C)."""
    with torch.no_grad():
        weight: Floats = tested.model.model.embed_tokens.weight.double().cpu().numpy()
    return weight


def read_tokens(tested: ModelUnderTest, embedded: Floats) -> list[Figure]:
    """Measure what a linear readout finds in embeddings, for the more and the less frequent half of the tokens.

    It is tested on tokens that it was not fitted to; the guess is always the most common answer.
    """
    letters = re.compile(rb" ?[A-Za-z]{2,}")
    frequency = count_ids(tested.training, len(embedded))
    tokens = [(id, text.decode()) for text, id in tested.tokenizer.ranks.items() if letters.fullmatch(text)]
    seen = sorted((token for token in tokens if frequency[token[0]]), key=lambda token: -frequency[token[0]])
    figures: list[Figure] = []
    for how_often, some in (("often_met", seen[: len(seen) // 2]), ("rarely_met", seen[len(seen) // 2 :])):
        if len(some) < FOLDS:
            continue
        for name, of_token in PROPERTIES.items():
            labels = [of_token(text) for _, text in some]
            kinds = sorted(set(labels))
            targets = np.array([[float(label == kind) for kind in kinds] for label in labels])
            read = readout(embedded[[id for id, _ in some]], targets).argmax(axis=1)
            right = int((read == targets.argmax(axis=1)).sum())
            figures.append(share(f"{how_often}_token_tells/{name}", right, len(some)))
            guess = Counter(labels).most_common(1)[0][1] / len(some)
            figures.append(Figure(f"{how_often}_token_guess/{name}", guess, "share", None, len(some)))
    return figures


def count_letters(tokenizer: Tokenizer, words: Sequence[str], embedded: Floats) -> list[Figure]:
    """Measure letter counts of words, read from the sum of their tokens' embeddings and of their letters' embeddings.

    The readout is linear and fitted to other words. Shares are over words, with five letters asked for in each.
    """
    if len(words) < FOLDS:
        return []
    as_tokens = np.array([embedded[tokenizer.encode(f" {word}")].sum(axis=0) for word in words])
    as_letters = np.array([embedded[tokenizer.encode(" " + " ".join(word))].sum(axis=0) for word in words])
    counts = np.array([[float(word.count(letter)) for letter in COUNTED] for word in words])
    common = np.array([Counter(column).most_common(1)[0][0] for column in counts.T.tolist()])
    figures: list[Figure] = []
    for name, read in (
        ("tokens", readout(as_tokens, counts)),
        ("letters", readout(as_letters, counts)),
        ("guess", np.broadcast_to(common, counts.shape)),
    ):
        right = (read.round() == counts).mean(axis=1)
        figures.append(mean(f"letter_count_read/{name}", right.tolist(), "share"))
    return figures


def readout(inputs: Floats, targets: Floats) -> Floats:
    """Ridge regression of targets (N, K) on inputs (N, C), each row predicted from the other folds."""
    centred = inputs - inputs.mean(axis=0)
    spread = float(centred.std()) or 1.0
    rows = np.concatenate([centred / spread, np.ones((len(inputs), 1))], axis=1)
    fold = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    predicted = np.zeros_like(targets)
    for k in range(FOLDS):
        known = rows[fold != k]
        weights = np.linalg.solve(known.T @ known + RIDGE * np.eye(rows.shape[1]), known.T @ targets[fold != k])
        predicted[fold == k] = rows[fold == k] @ weights
    return predicted
