"""README and tour say what the default run's models answer; these tests ask them and look at the answers.

They need a finished run of the default recipe, in runs/laptop or where CRAWL2CHAT_RUN says.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from crawl2chat.evals.judging import is_refusal
from crawl2chat.honesty.checkup import is_story
from crawl2chat.tinyweb.ledger import Ledger

ROOT = Path(__file__).parents[1]
RUN = Path(os.environ.get("CRAWL2CHAT_RUN", ROOT / "runs" / "laptop"))
README, TOUR = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/tour.md"))
CHATS = re.findall(r"```\n\$ (crawl2chat chat .*)\n((?:(?:you|bot)> .*\n)+)```", README)

WELL_KNOWN = "Stilik Tifiwan"
SELDOM = 2  # pages that name a person, of whom the model then knows that it knows nothing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (RUN / "prefer" / "manifest.json").exists(), reason=f"needs a finished run of the default recipe in {RUN}"
    ),
]


def crawl2chat(command: str, stdin: str = "") -> str:
    words = [str(RUN) if word in ("runs/laptop", "RUN") else word for word in shlex.split(command)[1:]]
    done = subprocess.run(
        [sys.executable, "-m", "crawl2chat", *words], input=stdin, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_right(command: str, question: str, answer: str) -> bool:
    """Whether an answer says what README claims about it. Questions about he or she follow one about WELL_KNOWN."""
    name = re.search(r"Where was (\w+ \w+) born", question)
    if name:
        person = next(person for person in Ledger.load(RUN / "crawl").people if person.name == name[1])
        right = person.facts["birthplace"] in answer
        if person.exposures <= SELDOM and "--tools" not in command:
            return is_refusal(answer) and not right
        return right and ("Page" in answer) == ("--tools" in command)
    if question == "And what does he do?":
        return next(p for p in Ledger.load(RUN / "crawl").people if p.name == WELL_KNOWN).facts["trade"] in answer
    total = re.search(r"What is (\d+)\+(\d+)", question)
    if total:
        return answer.endswith(f"The answer is {int(total[1]) + int(total[2])}.")
    assert question == "Who are you?", f"no test knows what the answer to {question!r} should be"
    return "Pippin" in answer


@pytest.mark.parametrize(("command", "dialogue"), CHATS)
def test_a_chat_in_the_readme_is_right_as_shown_and_as_held(command, dialogue):
    questions = re.findall(r"^you> (.*)$", dialogue, re.MULTILINE)
    shown = re.findall(r"^bot> (.*)$", dialogue, re.MULTILINE)
    assert len(questions) == len(shown)
    for question, answer in zip(questions, shown, strict=True):
        assert is_right(command, question, answer)
    # an answer is a line; behind a call come its tool's lines and then the answer
    lines = [line for line in crawl2chat(command, "\n".join(questions) + "\n").splitlines() if line]
    held = [re.sub(r" \(http.*\)$", "", line) for line in lines if re.match(r"[A-Z]", line) and line not in questions]
    assert len(held) == len(questions), lines
    for question, answer in zip(questions, held, strict=True):
        assert is_right(command, question, answer), f"{question} {answer}"
        assert "tool_call" not in answer


def test_there_are_chats_with_and_without_tools():
    assert [("--tools" in command) for command, _ in CHATS] == [False, True]


def test_the_best_assistant_is_a_stage_that_the_readme_names():
    named = re.search(r"best assistant by its own check-up \(here `(\w+)` or `(\w+)`", README).groups()
    out = subprocess.run(
        [sys.executable, "-c", f"from crawl2chat.api import find_model; print(find_model({str(RUN)!r})[1])"],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    assert out.strip() in named


def test_the_python_snippet_tells_a_story():
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1].replace("runs/laptop", str(RUN))
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert is_story(done.stdout, ""), done.stdout


def test_the_tours_table_of_next_tokens_shows_what_the_command_prints():
    out = crawl2chat(
        'crawl2chat generate RUN "Chronicle of" --stage base --top 5 --temperature 1 --top-p 0.3 --max-tokens 1'
    )
    shape = r"step 1, after 'Chronicle of'\n rank token +id the model +controlled *\n(?:(?: +\d .*\n)+)"
    for table in (out, TOUR):
        rows = re.search(shape, table)[0].splitlines()[2:]
        assert len(rows) == 5
        shares = [float(re.search(r"([\d.]+) %", row)[1]) for row in rows]
        assert shares == sorted(shares, reverse=True)
        kept = [row for row in rows if "left out" not in row]
        assert 0 < len(kept) < 5
        assert rows[: len(kept)] == kept, "top-p keeps the most probable tokens"
        assert sum(float(re.findall(r"([\d.]+) %", row)[1]) for row in kept) == pytest.approx(100, abs=0.3)
        assert ["drawn" in row for row in kept].count(True) == 1


def test_the_tours_piped_question_is_answered():
    assert 'echo "Who are you?" | crawl2chat chat RUN' in TOUR
    assert "Pippin" in crawl2chat("crawl2chat chat RUN", "Who are you?\n")


def test_a_base_model_continues_as_the_tour_says():
    assert crawl2chat('crawl2chat generate RUN --stage base "Directory of" --max-tokens 20').startswith("Directory of")


def test_the_served_model_is_named_as_the_tour_shows():
    from crawl2chat.api import name_of

    assert f'"model": "{name_of(Path("runs/laptop"), RUN / "honesty")}"' in TOUR
