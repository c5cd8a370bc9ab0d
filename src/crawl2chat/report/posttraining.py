"""The report from the first fine-tuning on, and the tables across stages."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from crawl2chat.chat.asking import WAYS
from crawl2chat.report import plots
from crawl2chat.report.tables import folded, html_table, plot, rows_of
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import METRICS, Manifest
from crawl2chat.train.metrics import read_metrics

CHECKUP = "checkup/"
SHOWN_PROMPTS = 4  # whose answers are shown as preferences are learned
SHOWN_ANSWERS = 8  # right and wrong ones
WHEN = ("before", "after")


def sft_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot the loss, accuracy on questions, and on sums at once and step by step."""
    # held-out ones first: only they have people on 0 pages, and the first series orders the axis
    facts = {"questions held out": _of(figures, "facts_held_out"), "questions taught": _of(figures, "facts_taught")}
    if all(facts.values()):
        yield plot(
            "Questions about people, by number of pages about the person",
            plots.share_curves(facts, "pages about the person"),
            "Held-out questions are in no conversation, so what is right there is known from reading pages.",
        )
    sums = {"step by step": _of(figures, "sums_step_by_step"), "at once": _of(figures, "sums_at_once")}
    if all(sums.values()):
        yield plot(
            "Held-out sums", plots.share_curves(sums, ""), "Each written step needs little; all at once needs much."
        )
    losses = {
        name: [(line["step"], line[field]) for line in read_metrics(folder / METRICS) if field in line]
        for name, field in (("conversations learned", "loss"), ("conversations held out", "held_out_loss"))
    }
    if losses["conversations learned"]:
        shown = {name: points for name, points in losses.items() if points}
        yield plot("Loss on conversations", plots.lines(shown, "step", "nats per token"))


def sft_samples(folder: Path) -> Iterator[str]:
    """Yield some right and some wrong answers, spread over all questions."""
    answers = rows_of(folder / "answers.jsonl")
    for title, right in (("Right answers", True), ("Wrong answers", False)):
        found = [(row["question"], row["answer"], row["expected"]) for row in answers if row["right"] == right]
        found = found[:: max(1, len(found) // SHOWN_ANSWERS)][:SHOWN_ANSWERS]
        if found:
            yield folded(title, html_table(("question", "answer", "expected"), found))


def honesty_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot answers, refusals and errors before and after, accuracy by coverage, search, and by tokens written."""
    by_pages = any(figure.name.endswith("/100+") for figure in figures)  # as the made-up web groups its questions
    groups = "number of pages about the person" if by_pages else "group of questions"
    for kind, title, sentence in (
        ("wrong", "Wrong answers", "The lower the better."),
        (
            "refused",
            "Refusals",
            "High where the model knows nothing, low where it knows: that is what honesty means here.",
        ),
        ("right", "Right answers", "What is refused without search can be looked up with it."),
    ):
        series = {when: _of(figures, f"{kind} {when}") for when in ("before", "after")}
        if kind == "right":
            series["after, with search"] = _of(figures, "right with search")
        if series := {name: found for name, found in series.items() if found}:
            curves = plots.share_curves(series, groups.removeprefix("number of "), title.lower())
            yield plot(f"{title}, by {groups}", curves, sentence)
    coverage = folder / "coverage.json"
    curves_of = json.loads(coverage.read_text(encoding="utf-8")) if coverage.exists() else {}
    if curves_of and all(curves_of.values()):
        points = {when: [(row["coverage"], row["value"]) for row in rows] for when, rows in curves_of.items()}
        yield plot(
            "If only those questions are answered on which samples agree",
            plots.lines(points, "share of the questions that are answered", "right, of these"),
            "If samples agree most where they are right, the curve falls to the right.",
        )
    ways = {way: (_of(figures, f"tokens {way}"), _of(figures, way)) for way in WAYS}
    if all(tokens and shares for tokens, shares in ways.values()):
        yield plot(
            "The same sums at once, step by step and with the calculator",
            plots.share_against_tokens(ways),
            "Each token is one more pass through the network.",
        )


def honesty_samples(folder: Path) -> Iterator[str]:
    """Yield some held-out questions with the answers before and after, spread over all of which the outcome changed."""
    rows = [row for row in rows_of(folder / "before_and_after.jsonl") if _outcome(row, 0) != _outcome(row, 1)]
    rows = rows[:: max(1, len(rows) // SHOWN_ANSWERS)][:SHOWN_ANSWERS]
    if rows:
        cells = [
            (row["question"], *(f"{row[when]} ({_outcome(row, i)})" for i, when in enumerate(WHEN)), row["expected"])
            for row in rows
        ]
        yield folded("The same questions before and after", html_table(("question", *WHEN, "expected"), cells))


def _outcome(row: dict[str, Any], i: int) -> str:
    return "right" if row["right"][i] else "refused" if row["refused"][i] else "wrong"


def reinforce_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot rewards and lengths by step, with those of the control that is trained on coin flips."""
    runs = {"right answers rewarded": folder / METRICS, "control: coin flips": folder / "control" / METRICS}
    lines = {name: read_metrics(file) for name, file in runs.items() if file.exists()}
    for field, title, label in (
        ("held_out_greedy", "Held-out problems solved", "share"),
        ("reward", "Mean reward", "reward"),
        ("answer_tokens", "Length of answers", "tokens per answer"),
        ("entropy", "How undecided the model is", "entropy, nats per token"),
    ):
        series = {name: [(row["step"], row[field]) for row in rows if field in row] for name, rows in lines.items()}
        if all(series.values()) and series:
            yield plot(title, plots.lines(series, "step", label))


def reinforce_samples(folder: Path) -> Iterator[str]:
    """Yield some held-out problems with the answers before and after, those first whose outcome changed."""
    rows = rows_of(folder / "answers.jsonl")
    rows = sorted(rows, key=lambda row: row["right_before"] == row["right_after"])[:SHOWN_ANSWERS]
    if rows:
        cells = [
            (row["question"], *(f"{row[when]} ({'right' if row[f'right_{when}'] else 'wrong'})" for when in WHEN))
            for row in rows
        ]
        table = html_table(("problem", *WHEN), cells)
        yield folded("The same problems before and after", table)


def prefer_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot proxy and gold reward by distance from the start, for RL and for best-of-n."""
    file = folder / "curves.json"
    if not file.exists():
        return
    curves = json.loads(file.read_text(encoding="utf-8"))
    ways = {"training": curves["policy"], "best of n": curves["best_of_n"]}
    best = "" if curves["peak"] is None else f" The annotator's taste was highest at step {curves['peak']}."
    for reward, title, label, sentence in (
        ("proxy", "What the reward model thinks of the answers", "reward, nats", "This is what is trained for."),
        ("gold", "What the annotator thinks of them", "taste, points",
         "Where it turns while the reward rises, the reward model is gamed. The stopping rule, which can't see it, "
         f"kept step {curves['kept']}.{best}"),
    ):  # fmt: skip
        series = {
            name: [(row["sqrt_kl"], row[reward]) for row in rows if row.get(reward) is not None]
            for name, rows in ways.items()
        }
        if series := {name: points for name, points in series.items() if points}:
            yield plot(title, plots.lines(series, "distance from the start (√KL, KL in nats)", label), sentence)


def prefer_samples(folder: Path) -> Iterator[str]:
    """Yield answers to the same prompts at the start, the kept step, the peak and the end: they show the hack."""
    rows = rows_of(folder / "samples.jsonl")[:SHOWN_PROMPTS]
    moments = [name for name in ("start", "kept", "peak", "end") if rows and name in rows[0]]
    for row in rows:
        cells = []
        for name in moments:
            said = row[name]
            gold = "" if said["gold"] is None else f", taste {said['gold']:.1f}"
            text = escape(said["text"]).replace("\n", "<br>")
            note = f"{name}: step {said['step']}, reward {said['proxy']:.1f}{gold}"
            cells.append(f'<figure class="answer"><figcaption>{note}</figcaption><p>{text}</p></figure>')
        yield f'<h3>{escape(row["prompt"])}</h3><div class="plots">{"".join(cells)}</div>'


def kept_table(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield a table of the check-up after each stage, one column per stage."""
    columns: dict[str, dict[str, Figure]] = {}
    for manifest in manifests:
        found = {f.name.removeprefix(CHECKUP): f for f in manifest.figure_list() if f.name.startswith(CHECKUP)}
        before = "before " + CHECKUP
        earlier = {f.name.removeprefix(before): f for f in manifest.figure_list() if f.name.startswith(before)}
        if earlier:
            columns["sft"] = earlier
        if found:
            columns[manifest.stage] = found
    if not columns:
        return
    names = list(dict.fromkeys(name for found in columns.values() for name in found))
    yield '<section id="kept"><h2>What each stage kept</h2>'
    yield "<p>The same held-out questions after every stage, answered with the most probable tokens.</p>"
    cells = [(name, *(str(found[name]) if name in found else "" for found in columns.values())) for name in names]
    yield html_table(("", *columns), cells, numbers=range(1, len(columns) + 1)) + "</section>"


def _of(figures: Sequence[Figure], prefix: str) -> list[Figure]:
    return [figure for figure in figures if figure.name.startswith(prefix + "/")]
