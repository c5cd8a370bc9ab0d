import re
import textwrap

import pytest

from crawl2chat.evals.suites.code_answers import program_of
from crawl2chat.evals.suites.sandbox import Limits, run_program, run_programs

PROMPT = '''from typing import List

def helper(x: int) -> int:
    return abs(x)

def longest(words: List[str]) -> int:
    """Length of the longest word.
    >>> longest(["a", "bcd"])
    3
    """
'''
TEST = "def check(candidate):\n    assert candidate(['a', 'bcd']) == 3\n    assert candidate([]) == 0\n"
BODY = "    return helper(max((len(w) for w in words), default=0))"
GOOD = f"def longest(words: List[str]) -> int:\n{BODY}"
BAD = "def longest(words: List[str]) -> int:\n    return 7"
WORDS = "It takes the length of each word. Then it returns the largest, e.g. 3."


def item(text, bullet="1. "):
    return bullet + textwrap.indent(text, " " * len(bullet))[len(bullet) :]


RIGHT = {
    **{f"label {label!r}": f"Here it is:\n```{label}\n{GOOD}\n```\n{WORDS}" for label in (
        "", "python", "python3", "Python", "PYTHON", "py", "py3", " python", "python ", 'python title="a.py"',
        "{.python}", "{python}", "python:main.py", "python {linenos=true}", "python3.11", "ipython", ".py", "text",
    )},
    "tildes": f"~~~\n{GOOD}\n~~~\n{WORDS}",
    "tildes with a label": f"~~~~ python3\n{GOOD}\n~~~~\n{WORDS}",
    "a longer fence": f"````python\n{GOOD}\n````\n{WORDS}",
    "a fence within a longer one": f"````markdown\n```python\n{GOOD}\n```\n````\n{WORDS}",
    "a fence in a docstring": "````python\n" + GOOD.replace(
        "int:\n", 'int:\n    """Such as\n```\nlongest([])\n```\n    """\n') + f"\n````\n{WORDS}",
    "an indented fence in a docstring": "```python\n" + GOOD.replace(
        "int:\n", 'int:\n    """Such as\n\n    ```\n    longest([])\n    ```\n    """\n') + f"\n```\n{WORDS}",
    "carriage returns": f"Here:\n```python\n{GOOD}\n```\n{WORDS}".replace("\n", "\r\n"),
    "in a list": f"{item(f'First:{chr(10)}```python{chr(10)}{GOOD}{chr(10)}```')}\n2. {WORDS}",
    "at a bullet": item(f"```py\n{GOOD}\n```", "- "),
    "indented by four": textwrap.indent(f"```python\n{GOOD}\n```", "    "),
    "indented by a tab": textwrap.indent(f"```python\n{GOOD}\n```", "\t"),
    "no closing fence": f"Sure:\n```python\n{GOOD}",
    "no opening fence": f"{GOOD}\n```",
    "no opening fence, words after": f"{GOOD}\n```\n{WORDS}\n```\n>>> longest([])\n0\n```",
    "closing fence on the last line of code": f"```python\n{GOOD}```\n{WORDS}",
    "opening fence behind words": f"Here it is: ```python\n{GOOD}\n```",
    "no fence": GOOD,
    "no fence, words around": f"Sure, here it is:\n\n{GOOD}\n\n{WORDS}",
    "no fence, words behind": f"{GOOD}\n{WORDS}",
    "body, words behind": f"{BODY}\n\n{WORDS}",
    "body, words and a fence around": f"Here it is:\n```python\n{BODY}\n\n{WORDS}\n```",
    "quoted": textwrap.indent(f"```python\n{GOOD}\n```\n{WORDS}", "> ", lambda line: True),
    "an import in a block before":
        "```python\nimport math\n```\nand\n```python\n" + GOOD.replace("helper(", "math.ceil(") + "\n```",
    "a helper in a block before":
        "```python\ndef size(w):\n    return len(w)\n```\nand\n```python\n"
        + GOOD.replace("len(w)", "size(w)") + "\n```",
    "a helper in a block behind":
        "```python\n" + GOOD.replace("len(w)", "size(w)") + "\n```\nwhere size is\n"
        "```python\ndef size(w):\n    return len(w)\n```",
    "tests in a block behind, with a package that is not there":
        f"```python\n{GOOD}\n```\n```python\nimport no_such_package\n\ndef test_it():\n    longest([])\n```",
    "another version of a helper in a block behind":
        "```python\ndef size(w):\n    return len(w)\n\n" + GOOD.replace("len(w)", "size(w)") + "\n```\nnot\n"
        "```python\ndef size(w):\n    return 7\n```",
    "a label on the line behind the fence": f"```\npython\n{GOOD}\n```",
    "tags of Code Llama": f"[PYTHON]\n{GOOD}\n[/PYTHON]",
    "tags of DS-1000": f"[BEGIN]\n{GOOD}\n[DONE]",
    "a lambda": "```python\nlongest = lambda words: max(map(len, words), default=0)\n```",
    "single backticks": f"`{GOOD}`",
    "the prompt repeated": f"```python\n{PROMPT}{BODY}\n```",
    "the prompt and body, no fence": PROMPT + BODY,
    "body": BODY,
    "body in a fence": f"```python\n{BODY}\n```",
    "body without its indentation": f"```\n{BODY.strip()}\n```",
    "body with its first line's indentation lost":
        "n = 0\n    for w in words:\n        n = max(n, len(w))\n    return n\n",
    "body with tabs": "\tn = 0\n\tfor w in words:\n\t\tn = max(n, len(w))\n\treturn n",
    "body and a closing fence": f"{BODY}\n```\nDone",
    "function with tabs": f"```python\n{GOOD.replace('    ', chr(9))}\n```",
    "several blocks, the last counts": f"At first:\n```python\n{BAD}\n```\nBut:\n```python\n{GOOD}\n```\n",
    "a block of output behind it": f"```python\n{GOOD}\n```\nOutput:\n```\n3\n```\nand\n```bash\npython a.py\n```",
    "a block of use behind it": f"```python\n{GOOD}\n```\nUse it so:\n```python\nprint(longest(['a']))\n```",
    "the signature again behind it": f"```python\n{GOOD}\n```\nIt has this form:\n```python\n{PROMPT}```",
    "thinking before": f"<think>Perhaps\n```python\n{BAD}\n```\nno</think>\n```python\n{GOOD}\n```",
    "thinking that was opened in the prompt": f"```python\n{BAD}\n```\n</think>\n{GOOD}",
    "a main part that reads":
        f"```python\n{GOOD}\n\nif __name__ == '__main__':\n    print(longest(input().split()))\n```",
    "a wrong assert behind it": f"```python\n{GOOD}\n\nassert longest(['a']) == 2, 'oh'\n```",
    "tests that exit":
        f"```python\nimport unittest\n\n{GOOD}\n\nclass T(unittest.TestCase):\n    pass\n\nunittest.main()\n```",
    "a print that fails": f"```python\n{GOOD}\n\nprint(longest(None))\n```",
    "a future import": f"```python\nfrom __future__ import annotations\n{GOOD}\n```",
    "a table filled by a call": "```python\nKNOWN = {}\ndef fill():\n    KNOWN[0] = 0\nfill()\n"
    + GOOD.replace("default=0", "default=KNOWN[0]") + "\n```",
}  # fmt: skip
WRONG = {
    "nothing": "", "words": WORDS, "a fence alone": "```", "an empty block": "```python\n```",
    "only the prompt": PROMPT,
    "another function": "```python\ndef longer(words):\n    return 3\n```", "a wrong one": f"```python3\n{BAD}\n```",
    "right in its thinking alone": f"<think>\n```python\n{GOOD}\n```\n</think>\n```python\n{BAD}\n```",
    "thinking without an end": f"<think>\n```python\n{GOOD}\n```",
    "a right one and then a wrong one": f"```python\n{GOOD}\n```\nBetter:\n```python\n{BAD}\n```",
    "a method": "```python\nclass Solution:\n    def longest(self, words):\n        return 3\n```",
    "cut short": f"```python\n{GOOD[:-12]}", "an exit": f"```python\n{GOOD}\nexit(0)\n```",
    "a NUL": f"```python\n{GOOD}\0\n```", "nested brackets": "```python\n" + "(" * 5000 + "\n```",
}  # fmt: skip


def test_a_right_function_passes_however_it_is_answered():
    programs = [program_of(PROMPT, "longest", TEST, answer) for answer in RIGHT.values()]
    outcomes = zip(RIGHT, run_programs(programs, Limits(seconds=20)), strict=True)
    assert not {name: outcome.stderr for name, outcome in outcomes if not outcome.passed}


def test_what_is_no_right_function_fails():
    programs = [program_of(PROMPT, "longest", TEST, answer) for answer in WRONG.values()]
    outcomes = zip(WRONG, run_programs(programs, Limits(seconds=20)), strict=True)
    assert not [name for name, outcome in outcomes if outcome.passed]


@pytest.mark.parametrize("form", ["{}", "```python\n{}\n```", "{}\n```"])
def test_an_async_function_is_found(form):
    prompt = "import asyncio\n\nasync def one():\n    '''One.'''\n"
    test = "def check(candidate):\n    assert asyncio.run(candidate()) == 1\n"
    answer = form.format("async def one():\n    return 1")
    assert run_program(program_of(prompt, "one", test, answer), Limits(seconds=20)).passed


def test_the_tests_are_in_the_program_as_they_are_and_last():
    for answer in (*RIGHT.values(), *WRONG.values()):
        program = program_of(PROMPT, "longest", TEST, answer)
        assert program.endswith(f"\n\n{TEST}\n\ncheck(longest)\n")
        assert len(re.findall(r"^def check", program, re.MULTILINE)) == 1
