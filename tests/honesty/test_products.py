import random
import re

from crawl2chat.chat.calculator import calculator
from crawl2chat.evals.judging import is_refusal
from crawl2chat.honesty.products import REFUSALS, _draw, product_conversations


def operands(question):
    one, two = map(int, re.findall(r"\d+", question))
    quotient = "/" in question or "ivide" in question
    return (one // two, two) if quotient else (one, two)


def test_products_are_the_calculators_and_refused_without_it():
    talks = list(product_conversations(400, random.Random(0)))
    plain = [talk for talk in talks if len(talk) == 2]
    assert 0.2 < len(plain) / len(talks) < 0.4
    assert all(is_refusal(talk[1]["content"]) for talk in plain)
    for talk in talks:
        one, two = operands(talk[-2 if len(talk) == 2 else 1]["content"])
        if len(talk) > 2:
            expression = talk[2]["tool_calls"][0]["function"]["arguments"]["expression"]
            value = one if "/" in expression else one * two
            assert calculator(expression) == talk[3]["content"] == str(value)
            assert talk[4]["content"] == f"The answer is {value}."


def test_what_is_measured_is_not_taught():
    asked = {operands(_draw(random.Random(n), measured=True)[0]) for n in range(300)}
    taught = {
        operands(talk[-2 if len(talk) == 2 else 1]["content"]) for talk in product_conversations(3000, random.Random(0))
    }
    assert not asked & taught


def test_refusals_are_recognised():
    assert all(map(is_refusal, REFUSALS))
