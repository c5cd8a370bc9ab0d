"""A run with held-out sums, what its stages measured of them, and models that answer as a test has written."""

import re
from itertools import count

from talking import call, offers_of, write_run

from crawl2chat.chat.calculator import calculator
from crawl2chat.chat.measured import PROBLEMS
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import write_json, write_jsonl
from crawl2chat.stages.stage import Manifest

STAGES = ("honesty", "sft", "pretrain")
SUM, ANSWER = "What is 47+38?", "85"
WORKED = (
    "The ones give 7+8=15, so write 5 and carry 1. The tens give 4+3+1=8, so write 85 and carry 0. The answer is 85."
)
FALSE = (
    "The ones give 7+8=14, so write 4 and carry 1. The tens give 4+3+1=8, so write 84 and carry 0. The answer is 84."
)
# to the other problems it always says the same
STEPS = {
    "3+5": "The ones give 3+5=8, so write 8 and carry 0. The answer is 8.",
    "52-37": "The ones give 12-7=6, so write 6 and borrow 1. The tens give 5-3-1=1, so write 16 and borrow 0. "
    "The answer is 16.",
}
PROBLEM_ROWS = [
    {"question": "What is 3+5?", "answer": "8", "group": "1 digits", "split": "held_out"},
    {"question": SUM, "answer": ANSWER, "group": "2 digits", "split": "held_out"},
    {"question": "What is 52-37?", "answer": "15", "group": "2 digits", "split": "held_out"},
]


def thinker():
    """A function that answers at once wrongly, the sum step by step rightly every other time, and calls rightly."""
    turn = count()

    def reply(stage, text):
        expression = re.findall(r"\d+[-+]\d+", text)[-1]
        if "tool_response" in text:
            return f"The answer is {calculator(expression)}."
        if "calculator" in text.split("user")[0]:
            return call("calculator", expression=expression)
        if "step by step" not in text:
            return " 95." if stage == "pretrain" else "The answer is 95."
        return STEPS.get(expression) or (FALSE if next(turn) % 2 else WORKED)

    return reply


def thinking_models(tokenizer, stages=STAGES, seconds=0.0):
    return offers_of(tokenizer, thinker(), stages, seconds)


def write_thinking_run(run):
    """Problems, and the figures of the stages that measure how they are solved."""
    write_run(run)
    write_jsonl(run / "honesty" / PROBLEMS, PROBLEM_ROWS)
    honesty = [
        share("before checkup/sums at once", 1, 100), share("before checkup/sums step by step", 40, 100),
        share("at once/1 digits", 30, 40), share("at once/2 digits", 1, 100),
        share("step by step/1 digits", 40, 40), share("step by step/2 digits", 92, 100),
        share("calculator/1 digits", 40, 40), share("calculator/2 digits", 100, 100),
        *(
            Figure(f"tokens {way}/{group} digits", tokens, "tokens", count=100)
            for way, each in (("at once", (6.0, 7.2)), ("step by step", (21.5, 57.3)), ("calculator", (30.0, 33.1)))
            for group, tokens in enumerate(each, 1)
        ),
        share("checkup/sums at once", 1, 100), share("checkup/sums step by step", 92, 100),
    ]  # fmt: skip
    reinforce = [
        Figure("pass_at_1_before", 0.66, "share", (0.6, 0.72), 200),
        Figure("pass_at_1_after", 0.87, "share", (0.83, 0.9), 200),
        Figure("answer_tokens_before", 50.5, "tokens", (48.0, 53.0), 200),
        Figure("answer_tokens_after", 62.5, "tokens", (60.0, 65.0), 200),
        share("checkup/sums at once", 2, 100), share("checkup/sums step by step", 97, 100),
    ]  # fmt: skip
    for stage, figures in (("base", [share("sums_at_once/2", 3, 50)]), ("honesty", honesty), ("reinforce", reinforce)):
        (run / stage).mkdir(exist_ok=True)
        made = {figure.name: figure.to_json() for figure in figures}
        manifest = Manifest(stage, {}, {}, {}, made, {}, "2026-11-30T10:00:00+0000", 61.0, {})
        write_json(run / stage / "manifest.json", vars(manifest))
    return run
