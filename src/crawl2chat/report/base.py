"""The report's part on the base model: what it compresses, recites, knows, and does by its prompt."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from crawl2chat.evals.parts import by_part
from crawl2chat.figures import Figure
from crawl2chat.report import plots
from crawl2chat.report.rows import figure_table, read_rows

SHOWN = 4  # rows of each kind to read


def _texts(setting: str) -> dict[str, str]:
    """Prefixes of what is measured of texts that were drawn by one kind of setting."""
    return {
        "distinct words": f"distinct_1/{setting}", "distinct 3-grams": f"distinct_3/{setting}",
        "3-grams of another": f"self_similarity/{setting}", "copied": f"verbatim/{setting}",
        "ended": f"ended/{setting}",
    }  # fmt: skip


CURVES = {  # title: (label of the x axis, label of the y axis, series and their figures' prefixes)
    "Passages continued word for word": (
        "copies in training", "recited to the end", {"prompted with 16 tokens": "recall/"},
    ),
    "Facts about people": (
        "times met", "right", {"by completion": "facts_by_exposures/", "by question": "answers_by_exposures/"},
    ),
    "Words that the page defines": (
        "words on the page", "right",
        {"word before meaning": "glossary/", "word not on the page": "glossary_absent/",
         "old meaning, all changed about": "glossary_shuffled/", "in sentences": "definitions/",
         "in no sentence": "definitions_absent/"},
    ),
    "Phrases by example": (
        "lines before the question", "right",
        {"phrase book": "phrase_book/", "translations shuffled": "phrase_book_shuffled/"},
    ),
    "An assistant by its prompt alone": (
        "", "right",
        {"people no page asks about": "assistant_by_prompt/", "people some page asks about":
         "assistant_by_prompt_asked_about/"},
    ),
    "Sums": ("digits", "right", {"step by step": "sums_step_by_step/", "at once": "sums_at_once/"}),
    "What a token's embedding tells of its letters": (
        "", "read right",
        {"tokens met often": "often_met_token_tells/", "most common, met often": "often_met_token_guess/",
         "tokens met rarely": "rarely_met_token_tells/", "most common, met rarely": "rarely_met_token_guess/"},
    ),
    "Letters counted, read from embeddings": ("embeddings of", "right", {"by a linear readout": "letter_count_read/"}),
    "Words spelled and letters counted, by example": (
        "the word as", "right",
        {"letters counted": "count_by_example/", "spelled": "spell_by_example/", "backwards": "reverse_by_example/"},
    ),
    "Decimals compared, by example": (
        "digits that, read as a number, are", "right", {"such as 9.11 and 9.9": "decimals_by_example/"},
    ),
    "Texts by temperature": ("temperature", "share", _texts("temperature_")),
    "Texts by top-p": ("top-p", "share", _texts("top_p_")),
}  # fmt: skip


def base_parts(figures: Sequence[Figure]) -> Iterator[str]:
    """Part by part of the suite: what it measures, its plots, and all its figures to be opened below them."""
    for part, found in by_part(figures):
        yield f"<h3>{escape(part.title)}</h3><p>{escape(part.note)}</p>"
        yield from _plots(found)
        yield f"<details><summary>{len(found)} figures</summary>{figure_table(found)}</details>"


def _plots(figures: Sequence[Figure]) -> Iterator[str]:
    """Curves of what is counted, with their intervals; those of which nothing was measured are left out."""
    rates = [figure for figure in figures if figure.name.startswith("bits_per_byte/")]
    if rates:
        yield "<h4>Bits a byte of held-out text</h4>"
        yield plots.bars({_spaced(figure.name.partition("/")[2]): figure.value for figure in rates}, "bits a byte")
    for title, (x_label, y_label, prefixes) in CURVES.items():
        series = {name: _of(figures, prefix) for name, prefix in prefixes.items()}
        series = {name: found for name, found in series.items() if found}
        if series:
            yield f"<h4>{title}</h4>"
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
    rows = read_rows(folder / "recitation.jsonl")  # some are prompted with their middle, to compare prompts' lengths
    recited = [row for row in rows if row["prompt_tokens"] == 16 and row["passage"].startswith(row["prompt"])]
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
    """The figures of a curve, named by their points; held-out text stands beside all settings."""
    kind = prefix.partition("/")[0]
    held_out = f"{kind}/held_out"
    return [
        replace(f, name=f"{kind}/" + _spaced(f.name.removeprefix(f"{kind}/" if f.name == held_out else prefix)))
        for f in figures
        if f.name == held_out or f.name.startswith(prefix)
    ]


def _spaced(name: str) -> str:
    return name.replace("_", " ")
