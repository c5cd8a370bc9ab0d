"""The report from the first fine-tuning on, and the tables across stages."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from crawl2chat.report import plots
from crawl2chat.report.tables import html_table, rows_of
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import METRICS, Manifest
from crawl2chat.train.metrics import read_metrics

CHECKUP = "checkup/"
SHOWN_PROMPTS = 4  # whose answers are shown as preferences are learned
SHOWN_ANSWERS = 8  # right and wrong ones
WAYS = ("at once", "step by step", "calculator")  # of doing sums


def sft_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot accuracy on questions, and on sums at once and step by step."""
    # held-out ones first: only they have people on 0 pages, and the first series orders the axis
    facts = {"questions held out": _of(figures, "facts_held_out"), "questions taught": _of(figures, "facts_taught")}
    if all(facts.values()):
        yield "<h3>Questions about people, by number of pages about the person</h3>"
        yield plots.share_curves(facts, "pages about the person")
    sums = {"step by step": _of(figures, "sums_step_by_step"), "at once": _of(figures, "sums_at_once")}
    if all(sums.values()):
        yield "<h3>Held-out sums</h3>"
        yield plots.share_curves(sums, "")


def sft_samples(folder: Path) -> Iterator[str]:
    """Yield some right and some wrong answers, spread over all questions."""
    answers = rows_of(folder / "answers.jsonl")
    for title, right in (("Right answers", True), ("Wrong answers", False)):
        found = [(row["question"], row["answer"], row["expected"]) for row in answers if row["right"] == right]
        found = found[:: max(1, len(found) // SHOWN_ANSWERS)][:SHOWN_ANSWERS]
        if found:
            yield f"<h3>{title}</h3>" + html_table(("question", "answer", "expected"), found)


def honesty_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot answers, refusals and errors before and after, search, and accuracy by tokens written."""
    for kind, title in (("right", "Right answers"), ("refused", "Refusals"), ("wrong", "Wrong answers")):
        series = {when: _of(figures, f"{kind} {when}") for when in ("before", "after")}
        if kind == "right":
            series["after, with search"] = _of(figures, "right with search")
        if all(series.values()):
            yield f"<h3>{title}, by number of pages about the person</h3>"
            yield plots.share_curves(series, "pages about the person", title.lower())
    ways = {way: (_of(figures, f"tokens {way}"), _of(figures, way)) for way in WAYS}
    if all(tokens and shares for tokens, shares in ways.values()):
        yield "<h3>The same sums at once, step by step and with the calculator</h3>"
        yield plots.share_against_tokens(ways)


def reinforce_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot rewards and lengths by step, with those of the control that is trained on coin flips."""
    runs = {"right answers rewarded": folder / METRICS, "control: coin flips": folder / "control" / METRICS}
    lines = {name: read_metrics(file) for name, file in runs.items() if file.exists()}
    for field, label in (
        ("held_out_greedy", "held-out problems solved"),
        ("reward", "mean reward"),
        ("answer_tokens", "tokens per answer"),
        ("entropy", "entropy, nats per token"),
    ):
        series = {name: [(row["step"], row[field]) for row in rows if field in row] for name, rows in lines.items()}
        if all(series.values()) and series:
            yield plots.lines(series, "step", label)


def prefer_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Plot proxy and gold reward by distance from the start, for RL and for best-of-n."""
    file = folder / "curves.json"
    if not file.exists():
        return
    curves = json.loads(file.read_text(encoding="utf-8"))
    ways = {"reinforcement learning": curves["policy"], "best of n": curves["best_of_n"]}
    yield "<h3>Optimising against the reward model: its reward and the annotator's taste</h3>"
    for reward, label in (("proxy", "the reward model's reward, nats"), ("gold", "the annotator's taste, points")):
        series = {name: [(row["sqrt_kl"], row[reward]) for row in rows if row.get(reward) is not None]
                  for name, rows in ways.items()}  # fmt: skip
        if all(series.values()):
            yield plots.lines(series, "√KL (square root of the divergence from the start)", label)
    best = "" if curves["peak"] is None else f" The annotator's taste was highest at step {curves['peak']}."
    yield f"<p>The stopping rule kept step {curves['kept']}.{best}"


def prefer_samples(folder: Path) -> Iterator[str]:
    """Yield answers to the same prompts at the start, the kept step, the peak and the end: they show the hack."""
    rows = rows_of(folder / "samples.jsonl")[:SHOWN_PROMPTS]
    moments = [name for name in ("start", "kept", "peak", "end") if rows and name in rows[0]]
    for row in rows:
        yield f"<h3>{escape(row['prompt'])}</h3><table><tr>{''.join(f'<th>{name}' for name in moments)}<tr>"
        for said in (row[name] for name in moments):
            gold = "" if said["gold"] is None else f", taste {said['gold']:.1f}"
            text = escape(said["text"]).replace("\n", "<br>")
            yield f"<td>{text}<br><small>step {said['step']}, reward {said['proxy']:.1f}{gold}</small>"
        yield "</table>"


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
    yield "<h2>What each stage kept</h2>"
    yield "<small>the same held-out questions after every stage, answered with the most probable tokens</small>"
    yield f"<table><tr><th>{''.join(f'<th>{escape(stage)}' for stage in columns)}"
    for name in names:
        cells = (f'<td class="n">{escape(str(found[name])) if name in found else ""}' for found in columns.values())
        yield f"<tr><td>{escape(name)}{''.join(cells)}"
    yield "</table>"


def side_by_side(folders: Sequence[Path]) -> Iterator[str]:
    """Yield the answers of every model of the run to the same questions."""
    answers: dict[str, dict[str, str]] = {}
    for folder in folders:
        for row in rows_of(folder / "showcase.jsonl"):
            answers.setdefault(row["question"], {})[row["model"]] = row["answer"]
    if not answers:
        return
    yield "<h2>The same questions to every model</h2>"
    for question, said in answers.items():
        yield f"<h3>{escape(question)}</h3><table>"
        for model, answer in said.items():
            yield f"<tr><th>{escape(model)}<td>{escape(answer).replace(chr(10), '<br>')}"
        yield "</table>"


def _of(figures: Sequence[Figure], prefix: str) -> list[Figure]:
    return [figure for figure in figures if figure.name.startswith(prefix + "/")]
