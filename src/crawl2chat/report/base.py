"""The report's part on the base model: what it compresses, recites, knows, and does by its prompt."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from crawl2chat.figures import Figure
from crawl2chat.report import plots
from crawl2chat.report.rows import read_rows

SHOWN = 4  # rows of each kind to read
CURVES = {  # title: (label of the x axis, label of the y axis, series and the figures' prefixes)
    "Passages continued word for word": (
        "copies in training", "recited to the end", {"prompted with 16 tokens": "recall"},
    ),
    "Facts about people": (
        "times met", "right", {"by completion": "facts_by_exposures", "by question": "answers_by_exposures"},
    ),
    "Words that the page defines": (
        "words on the page", "right",
        {"word before meaning": "glossary", "word not on the page": "glossary_absent",
         "old meaning, all changed about": "glossary_shuffled", "in sentences": "definitions",
         "in no sentence": "definitions_absent"},
    ),
    "Phrases by example": (
        "lines before the question", "right",
        {"phrase book": "phrase_book", "translations shuffled": "phrase_book_shuffled"},
    ),
    "An assistant by its prompt alone": (
        "", "right",
        {"people no page asks about": "assistant_by_prompt", "people some page asks about":
         "assistant_by_prompt_asked_about"},
    ),
    "Sums": ("digits", "right", {"step by step": "sums_step_by_step", "at once": "sums_at_once"}),
}  # fmt: skip


def base_plots(figures: Sequence[Figure]) -> Iterator[str]:
    """Curves of what is counted, with their intervals; those whose parts were not measured are left out."""
    rates = [figure for figure in figures if figure.name.startswith("bits_per_byte/")]
    if rates:
        yield "<h3>Bits a byte of held-out text</h3>"
        yield plots.bars({_group(figure): figure.value for figure in rates}, "bits a byte")
    for title, (x_label, y_label, prefixes) in CURVES.items():
        series = {name: _of(figures, prefix) for name, prefix in prefixes.items()}
        series = {name: found for name, found in series.items() if found}
        if series:
            yield f"<h3>{title}</h3>"
            yield plots.share_curves(series, x_label, y_label)


def induction_plot(lines: Sequence[dict[str, float]]) -> Iterator[str]:
    """By step: the strongest head's score on pairs of tokens that come again, and how many of these are copied."""
    scored = [line for line in lines if "induction" in line]
    if scored:
        yield "<h3>Induction heads: where a pair of tokens comes again on a page</h3>"
        series = {
            "attention of the strongest head to what followed": [(line["step"], line["induction"]) for line in scored],
            "second tokens foretold": [(line["step"], line["copied"]) for line in scored],
        }
        yield plots.lines(series, "step", "share")


def base_samples(folder: Path) -> Iterator[str]:
    """What was recited, and what was said on each kind of page."""
    recited = [row for row in read_rows(folder / "recitation.jsonl") if row["prompt_tokens"] == 16]
    if recited:
        yield "<h3>Passages and their continuations</h3><table><tr><th>copies<th>given<th>continued<th>words right"
        recited.sort(key=lambda row: row["copies"])
        for row in recited[:: max(1, len(recited) // (2 * SHOWN))]:
            yield f'<tr><td class="n">{row["copies"]:,}<td>{escape(row["prompt"])}<td>{escape(row["continuation"])}'
            yield f'<td class="n">{row["words_right"]} of {row["words"]}'
        yield "</table>"
    asked = read_rows(folder / "in-context.jsonl")
    for group in ("glossary/8", "glossary_absent/8", "phrase_book/8"):
        rows = [row for row in asked if row["group"] == group][:SHOWN]
        if rows:
            yield f"<h3>{escape(group.replace('_', ' '))}</h3><table><tr><th>page<th>said<th>right"
            for row in rows:
                yield f"<tr><td>{escape(row['prompt'])}<td>{escape(row['said'])}<td>{escape(row['right'])}"
            yield "</table>"


def _of(figures: Sequence[Figure], prefix: str) -> list[Figure]:
    return [figure for figure in figures if figure.name.startswith(prefix + "/")]


def _group(figure: Figure) -> str:
    return figure.name.partition("/")[2].replace("_", " ")
