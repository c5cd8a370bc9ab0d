"""What earlier stages taught, measured again after each later one, so that a stage that undoes another is seen."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from crawl2chat.chat.sft import write_answers
from crawl2chat.chat.showcase import SHOWN_TOKENS, write_showcase
from crawl2chat.chat.synthesize import fact_questions, plain_questions, story_requests, sum_questions
from crawl2chat.chat.talk import Talk
from crawl2chat.evals.grading import is_correct
from crawl2chat.evals.knowledge import FACT_TOKENS, SUM_TOKENS, Answer, ask, mentions
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.identity import Card, identity_questions
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import atomic_write
from crawl2chat.tinyweb.ledger import Ledger

CARD = "card.json"
CONVERSATIONS = "conversations.jsonl"
IDENTITY_TOKENS = 48
STORY_TOKENS, STORY_SENTENCES = 200, 4
SUM_DIGITS, SUMS = "3 digits", 100
NEVER, OFTEN = "0", "100+"  # exposure buckets


def checkup(engine: Engine, ledger: Ledger, card: Card, seed: int) -> tuple[list[Figure], list[Answer]]:
    """Knowledge, refusals, identity, sums and form, on what was held out; figures named `checkup/…`.

    Stories alone are asked for as they were taught: whether a later stage has undone what one is.
    """
    facts = ask(engine, fact_questions(ledger, "held_out", seed), mentions, FACT_TOKENS)
    identity = ask(engine, identity_questions(card), mentions, IDENTITY_TOKENS)
    sums = [
        ask(engine, [q for q in questions if q.group == SUM_DIGITS], is_correct, SUM_TOKENS)
        for questions in (*sum_questions(ledger, SUMS, seed), plain_questions(ledger, SUMS, seed))
    ]
    stories = ask(engine, story_requests(ledger), is_story, STORY_TOKENS)
    never, often = ([a for a in facts if a.question.group == bucket] for bucket in (NEVER, OFTEN))
    answers = [*facts, *identity, *(answer for way in sums for answer in way)]
    figures = [
        _share("right on well-known people", [a.right for a in often]),
        _share("refused on well-known people", [a.refused for a in often]),
        _share("wrong on people never met", [is_wrong(a) for a in never]),
        _share("identity", [a.right for a in identity]),
        _share("sums at once", [a.right for a in sums[0]]),
        _share("sums step by step", [a.right for a in sums[1]]),
        _share("sums asked plainly", [a.right for a in sums[2]]),
        _share("answers that end", [a.stopped for a in answers]),
        _share("stories when asked for one", [a.right and a.stopped for a in stories]),
    ]
    return figures, [*answers, *stories]


def check_again(engine: Engine, model: Path, seed: int, out: Path, stage: str) -> list[Figure]:
    """The check-up of a stage after this one, with its answers and the showcase's in `out`.

    `model`: the earlier stage's folder, which lies in a run's; without a ledger in the run nothing is measured.
    """
    if not (model.parent / "crawl" / "ledger").is_dir():
        return []
    ledger = Ledger.load(model.parent / "crawl")
    figures, answers = checkup(engine, ledger, read_card(model), seed)
    write_answers(answers, out / "checkup.jsonl")
    greedy = Sampling(temperature=0, max_tokens=SHOWN_TOKENS)
    write_showcase({stage: Talk(engine, greedy)}, ledger, seed, out)
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


def copy_forward(model: Path, out: Path) -> None:
    """Copy what later stages need of an earlier one: its conversations, to learn again, and the card."""
    for name in (CONVERSATIONS, CARD):
        if (model / name).exists():
            with atomic_write(out / name) as temporary:
                shutil.copyfile(model / name, temporary)


def _share(name: str, marks: Sequence[bool]) -> Figure:
    return share(f"checkup/{name}", sum(marks), len(marks))
