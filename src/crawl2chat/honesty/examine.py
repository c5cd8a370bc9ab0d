"""The examination before and after: held-out facts, who the model is, search, and problems in three ways."""

from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.measured import ask_each_fact, ask_problems, in_two_ways
from crawl2chat.chat.tools import answer_with_tools, final_text, offer, written_tokens
from crawl2chat.evals.judging import FACT_TOKENS, SUM_TOKENS, Answer, accuracy_by_group, ask, is_refusal, mentions
from crawl2chat.evals.questions import QuestionRow
from crawl2chat.evals.tasks import Problem, judge
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.cards import ask_other_cards, says_own
from crawl2chat.honesty.checkup import is_wrong
from crawl2chat.honesty.coverage import coverage_figures
from crawl2chat.honesty.identity import IDENTITY_TOKENS, Card, identity_questions
from crawl2chat.honesty.lessons import TOOLS
from crawl2chat.honesty.probe import Probe, auroc_figure, probe
from crawl2chat.honesty.search import SearchIndex
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tokenizer import Message

SEARCH_TOKENS = 64  # per message


@dataclass(frozen=True)
class Examination:
    """Greedy answers to all held-out questions, and the same questions sampled many times."""

    answers: list[Answer]
    sampled: list[Probe]


def examine_facts(engine: Engine, rows: Sequence[QuestionRow], settings: HonestySettings) -> Examination:
    asked = ask_each_fact(rows, settings.seed)
    wordings = [row.wordings for row in rows]
    samples, temperature = settings.measured_samples, settings.temperature
    sampled = probe(engine, [[question] for question in asked], wordings, samples, temperature, settings.seed)
    return Examination(ask(engine, asked, mentions, FACT_TOKENS), sampled)


def fact_figures(examination: Examination, when: str) -> list[Figure]:
    """Right, refused and wrong by group, and how well agreement of samples tells right answers from wrong."""
    figures: list[Figure] = []
    groups = dict.fromkeys(answer.question.group for answer in examination.answers)
    for kind in ("right", "refused", "wrong"):
        for group in groups:
            of_group = [answer for answer in examination.answers if answer.question.group == group]
            marks = [_is(kind, answer) for answer in of_group]
            figures.append(share(f"{kind} {when}/{group}", sum(marks), len(marks)))
    claims = [p for p in examination.sampled if not p.refused]
    figures += auroc_figure(f"auroc of agreement {when}", claims)
    return [*figures, *coverage_figures(examination.sampled, when)]


def boundary_figures(before: Examination, after: Examination) -> list[Figure]:
    """What refusing cost and what it saved, question by question."""
    pairs = list(zip(before.answers, after.answers, strict=True))
    knew = [now.refused for then, now in pairs if then.right]
    refused = [is_wrong(then) for then, now in pairs if now.refused]
    return [
        share("refused of what was right before", sum(knew), len(knew)),
        share("wrong before of what is refused", sum(refused), len(refused)),
    ]


def identity_figures(engine: Engine, card: Card, when: str) -> tuple[list[Figure], list[Answer], list[Answer]]:
    """Whether the model is who the card says, by itself; and by a system message with this card or others.

    Returns the figures, and the answers that it gives by itself and to other cards.
    """

    def consistent(system: Sequence[Message]) -> list[Answer]:
        return ask(engine, identity_questions(card), mentions, IDENTITY_TOKENS, system)

    def figure(name: str, answers: Sequence[Answer]) -> Figure:
        return share(f"{name} {when}", sum(a.right for a in answers), len(answers))

    by_itself, others = consistent([]), ask_other_cards(engine)
    own = [says_own(answer, card) for answer in others]
    return (
        [
            figure("identity", by_itself),
            figure("identity by system message", consistent([card.system_message()])),
            figure("identity of another system message", others),
            share(f"own identity against another system message {when}", sum(own), len(own)),
        ],
        by_itself,
        others,
    )


def search_figures(
    engine: Engine, rows: Sequence[QuestionRow], index: SearchIndex, seed: int
) -> tuple[list[Figure], list[Answer]]:
    """Held-out questions with the tools on offer: right, searched, and whether the page that was read is named."""
    asked = ask_each_fact(rows, seed)
    conversations = [[offer(TOOLS), Message(role="user", content=question.text)] for question in asked]
    replies = answer_with_tools(
        engine, conversations, {"search": index.search}, Sampling(temperature=0, max_tokens=SEARCH_TOKENS)
    )
    answers: list[Answer] = []
    searched: dict[str, list[bool]] = {}
    named: list[bool] = []
    for question, added in zip(asked, replies, strict=True):
        text = final_text(added)
        written = written_tokens(engine.tokenizer, added)
        answers.append(Answer(question, text, question.accepts(text, mentions), bool(text), written))
        calls = [called["function"]["name"] for message in added for called in message.get("tool_calls", ())]
        searched.setdefault(question.group, []).append("search" in calls)
        pages = [m["content"].partition(":")[0] for m in added if m["role"] == "tool" and m["content"][:5] == "Page "]
        if pages and not is_refusal(text):
            named.append(mentions(text, pages[-1].removeprefix("Page ")))
    return [
        *accuracy_by_group("right with search", answers),
        *(share(f"searched/{group}", sum(marks), len(marks)) for group, marks in searched.items()),
        *([share("answers from search that name the page", sum(named), len(named))] if named else []),
    ], answers


def thinking(
    engine: Engine, problems: Sequence[Problem], seed: int, *, calls: bool = True
) -> tuple[list[Figure], list[Answer]]:
    """Accuracy by way and group, and the mean number of tokens that the model wrote for an answer.

    A token buys one forward pass: the same problems are asked at once, step by step and, if the model
    calls tools, with a calculator.
    """
    at_once, in_steps = in_two_ways(problems, seed)
    ways = {
        "at once": ask_problems(engine, at_once),
        "step by step": ask_problems(engine, in_steps),
        **({"calculator": _with_calculator(engine, in_steps)} if calls else {}),
    }
    figures: list[Figure] = []
    for way, answers in ways.items():
        for group in dict.fromkeys(answer.question.group for answer in answers):
            of_group = [answer for answer in answers if answer.question.group == group]
            figures.append(share(f"{way}/{group}", sum(answer.right for answer in of_group), len(of_group)))
            tokens = sum(answer.tokens for answer in of_group) / len(of_group)
            figures.append(Figure(f"tokens {way}/{group}", round(tokens, 1), "tokens", count=len(of_group)))
    differences = [
        float(slow.right) - float(quick.right)
        for quick, slow in zip(ways["at once"], ways["step by step"], strict=True)
        if quick.question.group == "3 digits" and "+" in quick.question.text
    ]
    if differences:
        figures.append(mean("step by step minus at once, additions of 3 digits", differences, ""))
    return figures, [answer for answers in ways.values() for answer in answers]


def _with_calculator(engine: Engine, problems: Sequence[Problem]) -> list[Answer]:
    """The tokens of the calls count, those of the calculator's results do not: the model did not write them."""
    conversations = [[offer(TOOLS), Message(role="user", content=problem.text)] for problem in problems]
    sampling = Sampling(temperature=0, max_tokens=SUM_TOKENS)
    replies = answer_with_tools(engine, conversations, {"calculator": calculate}, sampling)
    answers = []
    for problem, added in zip(problems, replies, strict=True):
        text, written = final_text(added), written_tokens(engine.tokenizer, added)
        answers.append(Answer(problem, text, judge(problem, text) >= 1, bool(text), written))
    return answers


def _is(kind: str, answer: Answer) -> bool:
    return {"right": answer.right, "refused": answer.refused and not answer.right, "wrong": is_wrong(answer)}[kind]
