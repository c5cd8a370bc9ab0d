"""A token buys one forward pass: the same sums at once, step by step and with a calculator, against tokens spent."""

from collections.abc import Sequence

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.synthesize import sum_questions
from crawl2chat.chat.tools import answer_with_tools, final_text, offer, written_tokens
from crawl2chat.evals.grading import is_correct
from crawl2chat.evals.knowledge import SUM_TOKENS, Answer, Question, ask
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.lessons import TOOLS
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tokenizer import Message

SUMS_PER_DIGITS = 100


def thinking(engine: Engine, ledger: Ledger, seed: int) -> tuple[list[Figure], list[Answer]]:
    """Accuracy by way and number of digits, and the tokens that the model wrote for an answer, on average."""
    at_once, in_steps = sum_questions(ledger, SUMS_PER_DIGITS, seed)
    ways = {
        "at once": ask(engine, at_once, is_correct, SUM_TOKENS),
        "step by step": ask(engine, in_steps, is_correct, SUM_TOKENS),
        "calculator": _with_calculator(engine, in_steps),
    }
    figures = [figure for way, answers in ways.items() for figure in _by_digits(way, answers)]
    differences = [
        float(slow.right) - float(quick.right)
        for quick, slow in zip(ways["at once"], ways["step by step"], strict=True)
        if quick.question.group == "3 digits" and "+" in quick.question.text
    ]
    if differences:
        figures.append(mean("step by step minus at once, additions of 3 digits", differences, ""))
    return figures, [answer for answers in ways.values() for answer in answers]


def _by_digits(way: str, answers: Sequence[Answer]) -> list[Figure]:
    figures: list[Figure] = []
    for group in dict.fromkeys(answer.question.group for answer in answers):
        of_group = [answer for answer in answers if answer.question.group == group]
        figures.append(share(f"{way}/{group}", sum(answer.right for answer in of_group), len(of_group)))
        tokens = sum(answer.tokens for answer in of_group) / len(of_group)
        figures.append(Figure(f"tokens {way}/{group}", round(tokens, 1), "tokens", count=len(of_group)))
    return figures


def _with_calculator(engine: Engine, questions: Sequence[Question]) -> list[Answer]:
    """The tokens of the calls count, those of the calculator's results do not: the model did not write them."""
    conversations = [[offer(TOOLS), Message(role="user", content=question.text)] for question in questions]
    replies = answer_with_tools(
        engine, conversations, {"calculator": calculate}, Sampling(temperature=0, max_tokens=SUM_TOKENS)
    )
    answers = []
    for question, added in zip(questions, replies, strict=True):
        text = final_text(added)
        written = written_tokens(engine.tokenizer, added)
        answers.append(Answer(question, text, question.accepts(text, is_correct), bool(text), written))
    return answers
