"""Spelling, counting and decimals: from tokens, and from text that is spelled out."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from crawl2chat.evals.base.greedy import fitting
from crawl2chat.evals.base.letters import count_letters, embeddings, read_tokens
from crawl2chat.evals.base.subject import Subject
from crawl2chat.generate import Sampling
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tokenizer import Tokenizer

SHOTS = 4
LETTERS = "abcdefghijklmnopqrstuvwxyz"
KNOWN = ("strawberry", "9.11", "9.9", "1234567")  # whose tokens are counted


@dataclass(frozen=True)
class Task:
    """A question, and the pieces of its right answer, each chosen among `choices` of single tokens."""

    question: str
    opening: str  # of the answer
    answer: tuple[str, ...]
    choices: tuple[str, ...]

    def asked(self) -> str:
        return f"Q: {self.question}\nA:{self.opening}"

    def shown(self) -> str:
        return f"{self.asked()}{''.join(self.answer)}.\n\n"


def measure_spelling(subject: Subject) -> list[Figure]:
    """Tasks by a few examples, each answer chosen among letters, digits or numbers, so that form can't fail.

    A base model of this kind has read no such tasks; what it answers is given beside what guessing gives.
    What follows from the tokens themselves: how words and numbers are cut, and what an embedding tells of letters.
    """
    tokenizer = subject.tokenizer
    found = sorted({word for d in subject.documents for word in re.findall(r"(?<=\s)[a-z]{4,9}(?=[\s,.])", d.text)})
    words = [word for word in found if len(tokenizer.encode(f" {word}")) == 1 and _spells(tokenizer, word)]
    rng = random.Random(f"{subject.settings.seed}/spelling")
    rng.shuffle(words)
    embedded = embeddings(subject)
    return [
        *cut_text(subject),
        *read_tokens(subject, embedded),
        *count_letters(tokenizer, words, embedded),
        *_by_examples(subject, words, rng),
    ]


def cut_text(subject: Subject) -> list[Figure]:
    """How the tokenizer cuts words of the held-out text and some texts that are known to be hard.

    Ours cuts numbers into single digits, so 9.11 is read as 9 . 1 1, and no token 11 competes with 9; GPT-4's, whose
    pattern takes up to three digits together, has one.
    """
    tokenizer = subject.tokenizer
    words = [word for d in subject.documents for word in re.findall(r"[A-Za-z]+", d.text)]
    n_tokens = {word: len(tokenizer.encode(f" {word}")) for word in set(words)}
    figures = [Figure(f"tokens_of/{text}", len(tokenizer.encode(text)), "tokens") for text in KNOWN]
    if words:
        whole = sum(n_tokens[word] == 1 for word in words)
        figures.append(share("words_of_one_token", whole, len(words)))
        n_letters = sum(map(len, words)) / sum(n_tokens[word] for word in words)
        figures.append(Figure("letters_per_token", n_letters, "letters", None, len(words)))
    return figures


def _by_examples(subject: Subject, words: Sequence[str], rng: random.Random) -> list[Figure]:
    """Each task from whole words and from the same words spelled out."""
    most = -(-subject.settings.questions // 4)  # of each task, as prompts are long and there are many
    shown, asked = words[: len(words) // 5], words[len(words) // 5 :]
    spelled: Callable[[str], str] = " ".join
    figures: list[Figure] = []
    for name, make in (("count", count_task), ("spell", spell_task), ("reverse", reverse_task)):
        for form, write in (("word", str), ("letters", spelled)):
            # a word's own random numbers, so that both forms ask the same
            examples, tasks = (
                [task for word in some if (task := make(word, write(word), random.Random(word)))]
                for some in (shown, asked)
            )
            tasks = tasks[:most]
            if len(examples) >= SHOTS and tasks:
                figures.append(mean(f"{name}_by_example/{form}", solve(subject, examples, tasks, rng), "share"))
        if len(examples) >= SHOTS and tasks:
            figures.append(Figure(f"{name}_by_example/guess", best_constant(tasks), "share", None, len(tasks)))
    for kind in ("helpful", "misleading"):
        examples = [decimals_task(rng, rng.choice(("helpful", "misleading"))) for _ in range(40)]
        tasks = [decimals_task(rng, kind) for _ in range(most)]
        marks = solve(subject, examples, tasks, rng)
        figures.append(share(f"decimals_by_example/{kind}", round(sum(marks)), len(marks)))
    return [*figures, Figure("decimals_by_example/guess", 0.5, "share")]


def count_task(word: str, written: str, rng: random.Random) -> Task | None:
    """How many of a letter: one or two, both asked for equally often of words that hold a letter twice."""
    twice, once = ([letter for letter in sorted(set(word)) if word.count(letter) == n] for n in (2, 1))
    if not twice or not once:
        return None
    n = rng.choice((1, 2))
    letter = rng.choice(once if n == 1 else twice)
    return Task(f"How many {letter} are in {written}?", " The answer is ", (str(n),), ("1", "2"))


def spell_task(word: str, written: str, rng: random.Random) -> Task:
    return Task(f"Spell {written}.", "", tuple(f" {letter}" for letter in word), _LETTER_TOKENS)


def reverse_task(word: str, written: str, rng: random.Random) -> Task:
    return Task(f"Spell {written} backwards.", "", tuple(f" {letter}" for letter in reversed(word)), _LETTER_TOKENS)


def decimals_task(rng: random.Random, kind: str) -> Task:
    """Which of two numbers is larger, such as 9.11 and 9.9; misleading where 11 and 9, read alone, say the opposite."""
    whole, long, short = rng.randint(1, 9), rng.randint(11, 98), rng.randint(1, 9)
    while long // 10 == short or (long // 10 < short) != (kind == "misleading"):
        long, short = rng.randint(11, 98), rng.randint(1, 9)
    numbers = [f"{whole}.{long}", f"{whole}.{short}"]
    larger = str(max(long // 10, short))
    rng.shuffle(numbers)
    question = f"Which is larger, {numbers[0]} or {numbers[1]}?"
    return Task(question, f" The answer is {whole}.", (larger,), (str(long // 10), str(short)))


def solve(subject: Subject, examples: Sequence[Task], tasks: Sequence[Task], rng: random.Random) -> list[float]:
    """Share of each answer's pieces that are chosen right, in place, behind a few examples."""
    tokenizer, most = subject.tokenizer, max(len(task.answer) for task in tasks)
    ids = [
        fitting(subject.engine, "".join(e.shown() for e in rng.sample(examples, SHOTS)) + task.asked(), most)
        for task in tasks
    ]
    cut = {choice: tokenizer.encode(choice) for task in tasks for choice in task.choices}
    allowed = [[cut[choice][0] for choice in task.choices if len(cut[choice]) == 1] for task in tasks]
    rules = [lambda written, some=some: some for some in allowed]
    completions = subject.engine.generate(ids, Sampling(temperature=0, max_tokens=most), rules=rules)
    marks: list[float] = []
    for task, completion in zip(tasks, completions, strict=True):
        right = [tokenizer.encode(piece)[0] for piece in task.answer]
        marks.append(fmean(given == wanted for given, wanted in zip(completion.ids, right, strict=False)))
    return marks


def best_constant(tasks: Sequence[Task]) -> float:
    """What always choosing the same gives, at best."""
    return max(fmean(task.answer.count(choice) / len(task.answer) for task in tasks) for choice in tasks[0].choices)


def _spells(tokenizer: Tokenizer, word: str) -> bool:
    """Whether each of its letters is a token with a space before it."""
    return all(len(tokenizer.encode(f" {letter}")) == 1 for letter in word)


_LETTER_TOKENS = tuple(f" {letter}" for letter in LETTERS)
