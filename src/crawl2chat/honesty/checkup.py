"""What earlier stages taught, measured again after each later one, so that a stage that undoes another is seen."""

from pathlib import Path

from crawl2chat.chat.measured import (
    CARD,
    CONVERSATIONS,
    Measured,
    ask_each_fact,
    ask_problems,
    copy_forward,
    in_two_ways,
    plainly,
    read_measured,
    write_answers,
)
from crawl2chat.chat.showcase import SHOWCASE, Way, ask_all, not_asked, showcase_questions, ways_before
from crawl2chat.evals.judging import FACT_TOKENS, Answer, Question, ask, mentions
from crawl2chat.evals.questions import of_split
from crawl2chat.generate import Engine
from crawl2chat.honesty.cards import ask_other_cards
from crawl2chat.honesty.identity import IDENTITY_TOKENS, Card, identity_questions
from crawl2chat.honesty.talks import asked_again, changes_of_subject, follow_ups, hold
from crawl2chat.model import load_model
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import write_jsonl

__all__ = ["CARD", "CONVERSATIONS", "check_again", "checkup", "copy_forward", "is_story", "is_wrong", "read_card"]

STORY_TOKENS, STORY_SENTENCES = 200, 4
MOST_TALKS = 100  # of each kind
# Groups by how often a fact was met, as the made-up web has them; figures of any other file have plainer names.
NEVER, OFTEN = "0", "100+"


def checkup(
    engine: Engine,
    measured: Measured,
    card: Card,
    seed: int,
    facts: list[Answer] | None = None,
    identity: list[Answer] | None = None,
    others: list[Answer] | None = None,
) -> tuple[list[Figure], list[Answer]]:
    """Knowledge, refusals, identity, problems and form, on what was held out; figures named `checkup/…`.

    facts, identity, others: answers to the held-out questions, about the card and about other cards, where they were
    asked for already.
    Stories alone are asked for as they were taught: whether a later stage has undone what one is.
    """
    rows = of_split(measured.questions, "held_out")
    facts = facts or ask(engine, ask_each_fact(rows, seed), mentions, FACT_TOKENS)
    identity = identity or ask(engine, identity_questions(card), mentions, IDENTITY_TOKENS)
    ways = (*in_two_ways(measured.problems, seed), plainly(measured.problems, seed))
    hardest = measured.problems[-1].group if measured.what == "sums" and measured.problems else None
    solved = [ask_problems(engine, [p for p in way if hardest in (None, p.group)]) for way in ways]
    tales = of_split(measured.questions, "held_out", check="story")
    stories = ask(engine, [Question(row.wordings[0], row.answers, row.group) for row in tales], is_story, STORY_TOKENS)
    if any(answer.question.group == OFTEN for answer in facts):
        known, unknown = "well-known people", "people never met"
        often, never = ([a for a in facts if a.question.group == group] for group in (OFTEN, NEVER))
    else:
        known, unknown = "questions", "questions without an answer"
        often, never = ([a for a in facts if bool(a.question.answers) == answerable] for answerable in (True, False))
    sure = [row for row in rows if row.answers and (known == "questions" or row.group == OFTEN)]
    talks = {
        f"right in follow-ups on {known}": follow_ups(sure, seed),
        f"right on {known} after other subjects": changes_of_subject(sure, measured.problems, seed),
        f"right on {known} when asked again": asked_again(sure, seed),
        f"wrong in follow-ups on {unknown}": follow_ups([row for row in rows if row.group == NEVER], seed),
    }
    held = {name: hold(engine, scripts[:MOST_TALKS]) for name, scripts in talks.items()}
    others = others or ask_other_cards(engine)
    answers = [*facts, *identity, *(answer for way in solved for answer in way)]
    marks: dict[str, list[bool]] = {
        f"right on {known}": [a.right for a in often],
        f"refused on {known}": [a.refused for a in often],
        f"wrong on {unknown}": [is_wrong(a) for a in never],
        **{n: [is_wrong(a) if n.startswith("wrong") else a.right for a in each] for n, each in held.items()},
        "identity": [a.right for a in identity],
        "identity of another system message": [a.right for a in others],
        f"{measured.what} at once": [a.right for a in solved[0]],
        f"{measured.what} step by step": [a.right for a in solved[1]],
        f"{measured.what} asked plainly": [a.right for a in solved[2]],
        "answers that end": [a.stopped for a in answers],
        "stories when asked for one": [a.right and a.stopped for a in stories],
    }
    figures = [share(f"checkup/{name}", sum(each), len(each)) for name, each in marks.items() if each]
    in_talks = [answer for each in held.values() for answer in each]
    return figures, [*answers, *in_talks, *others, *stories]


def check_again(engine: Engine, model: Path, seed: int, out: Path, stage: str) -> list[Figure]:
    """The check-up of a stage after honesty, with its answers and the showcase's in `out`.

    model: the folder of the stage before, which holds the card and what is to be asked.
    """
    measured = read_measured(model)
    figures, answers = checkup(engine, measured, read_card(model), seed)
    write_answers(answers, out / "checkup.jsonl")
    questions, rows = showcase_questions(measured, seed), []
    if new := not_asked(questions, model):
        start = Engine(load_model(model, device=str(engine.cached.device)), engine.tokenizer)
        rows = ask_all(ways_before(model, start), new, seed)
    write_jsonl(out / SHOWCASE, [*rows, *ask_all([Way(stage, engine)], questions, seed)])
    return figures


def is_story(text: str, hero: str) -> bool:
    """Several sentences in one paragraph, whoever they are about; a verse, a fact or half a call is not a story."""
    return "\n" not in text.strip() and text.count(".") >= STORY_SENTENCES


def is_wrong(answer: Answer) -> bool:
    """An answer that claims something, and something else than the truth."""
    return not answer.right and not answer.refused


def read_card(model: Path) -> Card:
    """The card that a model was taught, from its stage's folder; the default one where there is none."""
    file = model / CARD
    return Card.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else Card()
