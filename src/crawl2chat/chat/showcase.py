"""The same few questions to every model of a run, so that one question can be followed through all its stages.

A stage that makes a chat model asks it, and writes a row per answer to `showcase.jsonl` in its folder. What the model
that it began with was not asked by an earlier stage is asked first. The report shows the answers; no figure is taken
from them and nothing is taught from them.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from crawl2chat.chat.asking import ask_plainly
from crawl2chat.chat.measured import Measured
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import AnyTool, final_text
from crawl2chat.evals.base.base_prompts import fitting
from crawl2chat.evals.judging import FACT_TOKENS, SUM_TOKENS, Question, is_refusal, mentions
from crawl2chat.evals.tasks import Problem, judge
from crawl2chat.generate import Engine, Sampling
from crawl2chat.search import SearchIndex
from crawl2chat.stages.files import read_jsonl
from crawl2chat.stages.stage import read_manifest
from crawl2chat.tokenizer import Message

SHOWCASE = "showcase.jsonl"
SAMPLES = 10  # drawn answers to a question about a fact, whose agreement shows what is known
TEMPERATURE = 0.7  # at which they are drawn
NOBODY = "Who is Orson Kovats?"  # a name that a well-known lecture on language models invents

Kind = Literal["fact", "problem", "verse", "identity"]
MAX_TOKENS: dict[Kind, int] = {"fact": FACT_TOKENS, "problem": SUM_TOKENS, "verse": 64, "identity": FACT_TOKENS}
How = Literal["text", "page", "chat", "tools"]


@dataclass(frozen=True)
class Shown:
    """A question to every model. `asked` has its accepted answers, none if nobody can know; wordings: all of its."""

    kind: Kind
    asked: Question
    wordings: tuple[str, ...] = ()

    def right(self, text: str) -> bool | None:
        """Whether a text holds an accepted answer; None where there is none to hold."""
        if isinstance(self.asked, Problem):
            return judge(self.asked, text) >= 1
        return self.asked.accepts(text, mentions) if self.asked.answers else None


@dataclass(frozen=True)
class Way:
    """A model, by the stage that made it, and how it is asked.

    text: it goes on with the question as with any text; page: on a page on which a helper answers; chat: as the
    user's message; tools: likewise, with tools, or with what is found in `reads`. address: of a page by the number
    that a search gives it.
    """

    stage: str
    engine: Engine
    how: How = "chat"
    tools: Mapping[str, AnyTool] = field(default_factory=dict)
    address: Callable[[int], str | None] = lambda page: None
    reads: SearchIndex | None = None

    def talk(self, sampling: Sampling) -> Talk:
        return Talk(self.engine, sampling, base=self.how == "page", tools=self.tools, reads=self.reads)

    def prompt(self, question: str) -> list[int]:
        """Return the ids after which the answer begins."""
        if self.how == "text":
            return fitting(self.engine, question, FACT_TOKENS)
        talk = self.talk(Sampling())
        return talk.prompt([*talk.opening(), Message(role="user", content=question)])


def ways_before(model: Path, engine: Engine) -> list[Way]:
    """Return the ways to ask the model that a stage begins with; one that was pretrained here has seen no chat."""
    manifest = read_manifest(model)
    stage = manifest.stage if manifest else "import"
    return [Way(stage, engine, how) for how in (("text", "page") if stage == "pretrain" else ("chat",))]


def showcase_questions(measured: Measured, seed: int) -> list[Shown]:
    """Held-out questions, a problem, a verse, and who the model is.

    The questions that the file marks as `shown`, the last one first, as the best known come last; or, if it marks
    none, the last, the middle and the first one that has an answer, and one that has none. The problem is the first of
    the last group, the hardest by custom.
    """
    rng = random.Random(f"showcase {seed}")
    facts = [row for row in measured.questions if row.check == "mentions"]
    shown = [row for row in facts if row.shown]
    if not shown and (known := [row for row in facts if row.answers]):
        shown = [known[i] for i in sorted({0, len(known) // 2, len(known) - 1})]
    questions = [
        Shown("fact", Question(rng.choice(row.wordings), row.answers, row.group), row.wordings)
        for row in reversed(shown)
    ]
    if not any(row.shown for row in facts):
        questions.append(Shown("fact", Question(NOBODY, (), "nobody"), (NOBODY,)))
    hardest = [problem for problem in measured.problems if problem.group == measured.problems[-1].group]
    for problem in hardest[:1]:
        text = ask_plainly(problem.text, rng)
        questions.append(Shown("problem", Problem(text, problem.answers, problem.group, problem.check)))
    questions.append(Shown("verse", Question("Write a verse about the moon.", (), "verse")))
    questions.append(Shown("identity", Question("So who are you?", (), "identity")))  # a wording that no stage teaches
    return questions


def not_asked(questions: Sequence[Shown], model: Path) -> list[Shown]:
    """Return the questions that the showcase in an earlier model's folder does not have."""
    file = model / SHOWCASE
    asked = {row["question"] for row in read_jsonl(file)} if file.is_file() else set()
    return [question for question in questions if question.asked.text not in asked]


def ask_all(ways: Sequence[Way], questions: Sequence[Shown], seed: int) -> list[dict[str, Any]]:
    """Return a row per question and way: the greedy answer, its calls of tools, its tokens, and drawn answers.

    What leaves no room for an answer in a model's context is not asked of it.
    """
    return [row for way in ways for row in _ask(way, questions, seed)]


def _ask(way: Way, questions: Sequence[Shown], seed: int) -> Iterator[dict[str, Any]]:
    questions = [q for q in questions if len(way.prompt(q.asked.text)) < way.engine.context]
    # enough to see how far they agree; the other ways would say the same of the same model
    facts = [question.asked.text for question in questions if question.kind == "fact"] if way.how == "chat" else []
    prompts = [way.prompt(text) for text in facts for _ in range(SAMPLES)]
    drawn = way.engine.generate(prompts, Sampling(TEMPERATURE, max_tokens=FACT_TOKENS, seed=seed)) if prompts else []
    samples = {text: [c.text for c in drawn[i * SAMPLES : (i + 1) * SAMPLES]] for i, text in enumerate(facts)}
    for question in questions:
        text = question.asked.text
        answer, tokens, ended, calls = _answer(way, text, MAX_TOKENS[question.kind])
        yield {
            "stage": way.stage,
            "how": way.how,
            "question": text,
            "kind": question.kind,
            "group": question.asked.group,
            "expected": list(question.asked.answers),
            "wordings": list(question.wordings),
            "answer": answer,
            "tokens": tokens,
            "ended": ended,
            "right": question.right(answer),
            "refused": is_refusal(answer),
            "calls": calls,
            "samples": samples.get(text, []),
        }


def _answer(way: Way, question: str, max_tokens: int) -> tuple[str, int, bool, list[dict[str, Any]]]:
    """The greedy answer, the tokens written for it, whether the model ended it, and the calls that led to it."""
    if way.how == "text":
        sampling = Sampling(temperature=0, max_tokens=FACT_TOKENS)
        (completion,) = way.engine.generate([way.prompt(question)], sampling)
        return completion.text, len(completion.ids), completion.finish_reason == "stop", []
    talk = way.talk(Sampling(temperature=0, max_tokens=max_tokens))
    calls: list[dict[str, Any]] = []

    def note(called: Any, result: str) -> None:
        pages = re.findall(r"^Page (\d+):", result)
        function = called["function"]
        source = way.address(int(pages[0])) if pages else None
        calls.append({"tool": function["name"], "arguments": function["arguments"], "result": result, "source": source})

    reply = talk.answer([*talk.opening(), Message(role="user", content=question)], show=note)
    if reply.passages:
        calls.append({"tool": "search", "arguments": {}, "result": reply.passages, "source": None})
    return final_text(reply.messages), reply.written, reply.ended == "stop", calls
