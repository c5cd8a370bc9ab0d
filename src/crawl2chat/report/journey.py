"""One question through all stages: what each model of the run answers, how sure it is, and what changed.

Drawn from what each stage left in `showcase.jsonl`. The sentences are chosen by rules from these answers; none
speaks of what was not observed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from crawl2chat.chat.showcase import SAMPLES, SHOWCASE, TEMPERATURE
from crawl2chat.evals.judging import exposure_bucket, is_refusal, mentions
from crawl2chat.honesty.probe import cluster
from crawl2chat.report.tables import folded, rows_of

Row = Mapping[str, Any]
TITLES = {
    ("pretrain", "text"): "The base model goes on with the text",
    ("pretrain", "page"): "The base model on a page on which a helper answers",
    ("import", "chat"): "The model as it was brought",
    ("sft", "chat"): "After fine-tuning on conversations (sft)",
    ("honesty", "chat"): "After honesty",
    ("honesty", "tools"): "After honesty, with tools",
    ("reinforce", "chat"): "After rewards for right answers (reinforce)",
    ("prefer", "chat"): "After learning preferences (prefer)",
}  # fmt: skip
ORDER = list(TITLES)
BUCKETS = {exposure_bucket(n) for n in range(101)}  # as the made-up web groups its questions
SHOWN_GROUPS = 5  # of answers that say the same
SHOWN_CHARACTERS = 600  # of an answer or a passage
MUCH_LONGER = 1.2


def journeys(folders: Sequence[Path], known_from: float, unknown_to: float) -> Iterator[str]:
    """Yield each question with the answers of all models, the most telling question first, the others folded.

    known_from, unknown_to: shares of right answers from which a fact counts as known, and up to which as unknown.
    """
    asked: dict[str, list[Row]] = {}
    for folder in folders:
        for row in rows_of(folder / SHOWCASE):
            if (row.get("stage"), row.get("how")) in TITLES:  # not in rows of earlier versions
                asked.setdefault(row["question"], []).append(row)
    questions = [sorted(rows, key=lambda row: ORDER.index((row["stage"], row["how"]))) for rows in asked.values()]
    if not questions:
        return
    first = max(questions, key=_changes)
    yield (
        "<p>Every model of this run was asked the same questions, none of which was taught or probed. Shown is the "
        f"most probable answer; below it, where there are any, {SAMPLES} answers drawn at temperature "
        f"{TEMPERATURE:g}, put together by what they say. The question on which the models differ most comes first.</p>"
    )
    yield from _journey(first, known_from, unknown_to)
    others = [rows for rows in questions if rows is not first]
    if others:
        yield f"<h3>{len(others)} more questions</h3>"
    for rows in others:
        yield folded(rows[0]["question"], "".join(_journey(rows, known_from, unknown_to)))


def _changes(rows: Sequence[Row]) -> tuple[int, int]:
    """How often the verdict changes from one model to the next, and how many different verdicts there are."""
    verdicts = [verdict(row) for row in rows if verdict(row)]
    return sum(a != b for a, b in pairwise(verdicts)), len(set(verdicts))


def verdict(row: Row) -> str:
    """Return right, refused or wrong; "" for an answer of which nobody can say."""
    if row["right"]:
        return "right"
    if row["kind"] == "fact" and row["refused"]:
        return "refused"
    if row["right"] is None and row["kind"] != "fact":
        return ""
    return "wrong"


def _journey(rows: Sequence[Row], known_from: float, unknown_to: float) -> Iterator[str]:
    first = rows[0]
    yield f'<blockquote class="asked">{escape(first["question"])}</blockquote>'
    if first["expected"]:
        group = first["group"]
        about = f"About somebody on {group} page{'s' * (group != '1')}" if group in BUCKETS else f"Group: {group}"
        yield f"<p><small>Right: {escape(' or '.join(first['expected']))}. {escape(about)}.</small></p>"
    elif first["kind"] == "fact":
        yield "<p><small>Nobody can know this: whatever is claimed is invented.</small></p>"
    yield '<ol class="journey">'
    for i, row in enumerate(rows):
        yield f"<li><h4>{TITLES[row['stage'], row['how']]}</h4>"
        for call in row["calls"]:
            given = ", ".join(str(value) for value in call["arguments"].values()) if call["arguments"] else ""
            source = f" <small>{escape(call['source'])}</small>" if call["source"] else ""
            yield f'<p class="call"><b>{escape(call["tool"])}</b> {escape(given)}{source}</p>'
            yield f'<blockquote class="passage">{_text(call["result"])}</blockquote>'
        yield f'<p class="said">{_text(row["answer"]) or "<i>nothing</i>"}</p>'
        mark = verdict(row)
        marked = f'<b class="verdict {mark}">{mark}</b> · ' if mark else ""
        end = "" if row["ended"] else ", cut off"
        yield f'<p class="meta">{marked}{row["tokens"]} tokens{end}</p>'
        yield from _samples(row, known_from, unknown_to)
        if why := what_changed(row, rows[:i], unknown_to):
            yield f'<p class="why">{escape(why)}</p>'
    yield "</ol>"


def _samples(row: Row, known_from: float, unknown_to: float) -> Iterator[str]:
    """Bars of the drawn answers by what they say, and whether that is to know it."""
    samples = row["samples"]
    if not samples:
        return
    numbers = cluster(samples, row["wordings"])
    share = right_share(row)
    refusals = sum(map(is_refusal, samples))
    if not row["expected"] or 2 * refusals > len(samples):
        known = f"{refusals} of {len(samples)} refuse"
    else:
        word = "known" if share >= known_from else "unknown" if share <= unknown_to else "perhaps known"
        known = f"{round(share * len(samples))} of {len(samples)} right: {word}"
    yield f'<ul class="samples" aria-label="{len(samples)} drawn answers">'
    groups = Counter(numbers).most_common()
    for number, count in groups[:SHOWN_GROUPS]:
        said = min((text for text, n in zip(samples, numbers, strict=True) if n == number), key=len)
        kind = "refused" if is_refusal(said) else "right" if _right(said, row) else "wrong"
        width = 100 * count / len(samples)
        yield f'<li><span class="bar {kind}" style="width:{width:.0f}%"></span>{count} × '
        yield f'{_text(" ".join(said.split()), 80)} <span class="sr">({kind})</span>'
    if len(groups) > SHOWN_GROUPS:
        yield f"<li>and {len(groups) - SHOWN_GROUPS} more different answers"
    yield f"</ul><p class='meta'>{known}</p>"


def right_share(row: Row) -> float:
    return sum(_right(text, row) for text in row["samples"]) / max(1, len(row["samples"]))


def _right(text: str, row: Row) -> bool:
    return any(mentions(text, answer) for answer in row["expected"])


def what_changed(row: Row, earlier: Sequence[Row], unknown_to: float) -> str:
    """Return a sentence on what is new in an answer, and what it comes from; "" where there is nothing to say."""
    now, before = verdict(row), verdict(earlier[-1]) if earlier else ""
    chats = [r for r in earlier if r["how"] == "chat"]
    previous = chats[-1] if chats else None
    match row["stage"], row["how"]:
        case _, "text":
            held = " The right answer is in it all the same." if now == "right" else ""
            return (
                "A base model predicts how a page goes on; that a question wants an answer it has not learned." + held
            )
        case _, "page":
            made_up = " It makes one up, as pages do not say “I don't know”." if now == "wrong" else ""
            return (
                "The same weights: the page alone makes the model answer instead of going on with the question."
                + made_up
            )
        case (("import" | "sft"), _):
            formed = row["stage"] == "sft" and row["ended"]
            taught = "Conversations taught it the form: an answer, and then an end. " if formed else ""
            return taught + _knowledge(row, now, unknown_to)
        case "honesty", "tools":
            return _with_tools(row, now, before)
        case "honesty", _:
            return _after_honesty(row, now, previous, unknown_to)
    return _after_rewards(row, now, previous)


def _knowledge(row: Row, now: str, unknown_to: float) -> str:
    different = len(set(cluster(row["samples"], row["wordings"]))) if row["samples"] else 0
    if now == "right" and row["kind"] == "fact":
        share = right_share(row)
        if share < 0.5:
            return f"It is right here; of {len(row['samples'])} draws only {round(share * len(row['samples']))} are."
        return "It knows this from reading."
    if now == "wrong" and not row["expected"]:
        return f"It invents an answer; drawn {len(row['samples'])} times, it says {_things(different)}."
    if now == "wrong" and row["kind"] == "fact" and right_share(row) <= unknown_to:
        return f"It sounds sure and is wrong; drawn {len(row['samples'])} times, it says {_things(different)}."
    return ""


def _things(count: int) -> str:
    return f"{count} different things" if count > 1 else "the same each time"


def _after_honesty(row: Row, now: str, previous: Row | None, unknown_to: float) -> str:
    then = verdict(previous) if previous else ""
    if previous and now == "refused" and then == "wrong":
        drawn = previous["samples"]
        unsure = f": {round(right_share(previous) * len(drawn))} of {len(drawn)} draws were right" if drawn else ""
        return (
            f"It did not know before{unsure}. On other questions of which that was so it was taught to say that it "
            "doesn't know, and it does so here."
        )
    return {
        (
            "right",
            "right",
        ): "It knew this before, and goes on answering: refusing is taught only where answers are wrong.",
        ("right", "refused"): "It answered rightly before and refuses now: the price of caution.",
        ("right", "wrong"): "It answered rightly before and is wrong now.",
        ("wrong", "wrong"): "It still claims something wrong: the boundary of what it knows is not drawn exactly.",
        ("wrong", "right"): "It is right now.",
        ("refused", "refused"): "It refused before and does so now.",
    }.get((then, now), "A card taught it who it is." if row["kind"] == "identity" else "")


def _with_tools(row: Row, now: str, before: str) -> str:
    searched = [call for call in row["calls"] if call["tool"] == "search"]
    if not row["calls"]:
        return "Tools were on offer; it answered without them."
    if not searched:
        end = {"right": ", and the answer is right", "wrong": ", and the answer is wrong"}.get(now, "")
        return f"It called {row['calls'][0]['tool']}{end}."
    found = any(_right(call["result"], row) for call in searched)
    if now == "right" and found:
        return "It searched, and read the answer in the passage that was found" + (
            ": what it doesn't know it can look up." if before in ("refused", "wrong") else "."
        )
    if found:
        return "It searched; the passage holds the answer, but the model did not take it from there."
    end = {"refused": ", so it says that it doesn't know", "wrong": ", and still it claims something"}.get(now, "")
    return f"It searched; what was found does not hold the answer{end}."


def _after_rewards(row: Row, now: str, previous: Row | None) -> str:
    if previous is None:
        return ""
    taught = "rewards for solved problems" if row["stage"] == "reinforce" else "training to please the reward model"
    if row["answer"] == previous["answer"]:
        return f"Left as it was by {taught}."
    longer = row["tokens"] > MUCH_LONGER * previous["tokens"]
    if row["kind"] == "problem" and longer and now == "right":
        return f"It takes {row['tokens']} tokens now instead of {previous['tokens']}, and comes out right."
    then = verdict(previous)
    if now != then:
        return f"Changed from {then} to {now} by {taught}, which did not ask this question."
    return f"Other words after {taught}" + (", with the same outcome." if now else ".")


def _text(text: str, most: int = SHOWN_CHARACTERS) -> str:
    short = text if len(text) <= most else text[:most] + " …"
    return escape(short.strip()).replace("\n", "<br>")
