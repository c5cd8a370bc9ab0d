"""Search for models whose chat template offers no tools: each reads what was found next to the question, and cites it.

Retrieval-augmented generation (arXiv 2005.11401) in the words of `chat/citing.py`. What is taught: answer from the
passage that says it, by its number; refuse where none does (as in 2403.10131, RAFT, which mixes in such cases).
"""

import random
from collections.abc import Iterator, Sequence

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.citing import citations, listed, with_passages
from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.measured import ask_each_fact
from crawl2chat.chat.toolbox import PASSAGES
from crawl2chat.evals.judging import FACT_TOKENS, Answer, Question, accuracy_by_group, ask, mentions
from crawl2chat.evals.questions import QuestionRow, of_split
from crawl2chat.generate import Engine
from crawl2chat.honesty.search import Passage, SearchIndex
from crawl2chat.stages.figures import Figure, share

IN_VAIN = 4  # one question in this many is taught with passages that don't answer it


def reading_lessons(
    rows: Sequence[QuestionRow],
    taught: Sequence[Conversation],
    index: SearchIndex,
    refusals: Sequence[str],
    rng: random.Random,
) -> Iterator[Conversation]:
    """Questions that are not held out, each with passages: answered from the one that says it, or refused.

    taught: earlier conversations, whose whole sentences are taken as answers where they answer in one turn.
    """
    sentences = {messages[0]["content"]: messages[-1]["content"] for messages in taught if len(messages) == 2}
    for i, row in enumerate(of_split(rows, "train", "probe")):
        asked = rng.choice(row.wordings)
        found = index.best(asked, PASSAGES)
        where = [n for n, passage in enumerate(found) if says(passage, row)]
        if row.answers and i % IN_VAIN == 0:
            found = [passage for n, passage in enumerate(found) if n not in where]
            where = []
        elif row.answers and not where:
            page = index.passage_of(row.source, asked, row.answers) if row.source else None
            if page is None:
                continue  # it may be known all the same, so there is nothing to refuse
            at = rng.randrange(min(len(found) + 1, PASSAGES))
            found, where = [*found[:at], page, *found[at : PASSAGES - 1]], [at]
        if not found:  # then nothing but the question is read, and that is taught elsewhere
            continue
        reply = rng.choice(refusals)
        if where:
            said = next((sentences[wording] for wording in row.wordings if wording in sentences), row.answers[0])
            reply = f"{said[0].upper()}{said[1:].rstrip().rstrip('.')} [{where[0] + 1}]."
        yield exchange(with_passages(asked, found), reply)


def says(passage: Passage, row: QuestionRow) -> bool:
    """Whether a passage holds an accepted answer; of a row with a source, only if it is from there."""
    of_it = row.source is None or passage.address in ("", row.source) or passage.text in row.source
    return of_it and any(mentions(passage.text, answer) for answer in row.answers)


def reading_figures(
    engine: Engine, rows: Sequence[QuestionRow], index: SearchIndex, seed: int, when: str = ""
) -> tuple[list[Figure], list[Answer]]:
    """Held-out questions with what is found for them: right, answerable from it, and whether right answers cite it.

    when: "before", for the figures' names, unless it is after training.
    """
    plain = ask_each_fact(rows, seed)
    found = [index.best(question.text, PASSAGES) for question in plain]
    asked = [
        Question(with_passages(question.text, passages), question.answers, question.group)
        for question, passages in zip(plain, found, strict=True)
    ]
    answers = ask(engine, asked, mentions, FACT_TOKENS)
    cited, answerable = [], []
    for row, passages, answer in zip(rows, found, answers, strict=True):
        if not row.answers:
            continue
        numbers = {number for number, passage in enumerate(passages, 1) if says(passage, row)}
        answerable.append(bool(numbers))
        if answer.right:
            cited.append(any(c.cited and c.number in numbers for c in citations(answer.text, [listed(passages)])))
    when = f" {when}" if when else ""
    return [
        *accuracy_by_group(f"right with search{when}", answers),
        *([] if when else [share("answers that are in what was found", sum(answerable), len(answerable))]),
        *([share(f"right answers from search that cite it{when}", sum(cited), len(cited))] if cited else []),
    ], answers
