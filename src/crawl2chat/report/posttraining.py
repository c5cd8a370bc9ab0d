"""The report's parts on what comes after the first fine-tuning, and the tables that go across stages."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from crawl2chat.figures import Figure
from crawl2chat.report import plots
from crawl2chat.report.rows import read_rows
from crawl2chat.run import METRICS, Manifest
from crawl2chat.train.metrics import read_metrics

CHECKUP = "checkup/"
SHOWN = 4  # prompts whose answers are shown
WAYS = ("at once", "step by step", "calculator")  # of doing sums


def honesty_plots(figures: Sequence[Figure]) -> Iterator[str]:
    """Answers, refusals and errors before and after, search, and accuracy against tokens spent."""
    for kind, title in (("right", "Right"), ("refused", "Refused"), ("wrong", "Wrong")):
        series = {when: _of(figures, f"{kind} {when}") for when in ("before", "after")}
        if kind == "right":
            series["after, with search"] = _of(figures, "right with search")
        if all(series.values()):
            yield f"<h3>{title}, by how often the web speaks of the person</h3>"
            yield plots.share_curves(series, "times met", f"{title.lower()} answers")
    ways = {way: (_of(figures, f"tokens {way}"), _of(figures, way)) for way in WAYS}
    if all(tokens and shares for tokens, shares in ways.values()):
        yield "<h3>The same sums at once, step by step and with a calculator</h3>"
        yield plots.share_against_tokens(ways)


def reinforce_plots(folder: Path) -> Iterator[str]:
    """Reward and length by step, beside those of the training on coin flips."""
    runs = {"right answers rewarded": folder / METRICS, "coin flips": folder / "control" / METRICS}
    lines = {name: read_metrics(file) for name, file in runs.items() if file.exists()}
    for field, label in (
        ("held_out_greedy", "held-out problems solved"),
        ("reward", "mean reward"),
        ("answer_tokens", "tokens an answer"),
        ("entropy", "entropy, nats a token"),
    ):
        series = {name: [(row["step"], row[field]) for row in rows if field in row] for name, rows in lines.items()}
        if all(series.values()) and series:
            yield plots.lines(series, "step", label)


def prefer_plots(folder: Path) -> Iterator[str]:
    """Proxy and gold reward over the distance from the start, by RL and by best-of-n."""
    file = folder / "curves.json"
    if not file.exists():
        return
    curves = json.loads(file.read_text(encoding="utf-8"))
    ways = {"RL": curves["policy"], "best of n": curves["best_of_n"]}
    yield "<h3>Following the reward model: what it says and what the annotator would say</h3>"
    for reward, label in (("proxy", "the reward model's reward, nats"), ("gold", "the annotator's taste, points")):
        series = {name: [(row["sqrt_kl"], row[reward]) for row in rows if row.get(reward) is not None]
                  for name, rows in ways.items()}  # fmt: skip
        if all(series.values()):
            yield plots.lines(series, "√KL from the start", label)
    best = "" if curves["peak"] is None else f"; the annotator's taste was best at step {curves['peak']}"
    yield f"<p>Kept by the stopping rule: step {curves['kept']}{best}."


def prefer_samples(folder: Path) -> Iterator[str]:
    """The same prompts at the start, where it was kept, at the peak and at the end: the hack can be read."""
    rows = read_rows(folder / "samples.jsonl")[:SHOWN]
    moments = [name for name in ("start", "kept", "peak", "end") if rows and name in rows[0]]
    for row in rows:
        yield f"<h3>{escape(row['prompt'])}</h3><table><tr>{''.join(f'<th>{name}' for name in moments)}<tr>"
        for said in (row[name] for name in moments):
            gold = "" if said["gold"] is None else f", taste {said['gold']:.1f}"
            text = escape(said["text"]).replace("\n", "<br>")
            yield f"<td>{text}<br><small>step {said['step']}, reward {said['proxy']:.1f}{gold}</small>"
        yield "</table>"


def kept_table(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What each stage left of what was taught before it: a column a stage."""
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
    yield "<h2>What each stage kept</h2><small>the same held-out questions after every stage, answered greedily</small>"
    yield f"<table><tr><th>{''.join(f'<th>{escape(stage)}' for stage in columns)}"
    for name in names:
        cells = (f'<td class="n">{escape(str(found[name])) if name in found else ""}' for found in columns.values())
        yield f"<tr><td>{escape(name)}{''.join(cells)}"
    yield "</table>"


def side_by_side(folders: Sequence[Path]) -> Iterator[str]:
    """The same questions answered by every model of the run."""
    answers: dict[str, dict[str, str]] = {}
    for folder in folders:
        for row in read_rows(folder / "showcase.jsonl"):
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
