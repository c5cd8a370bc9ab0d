"""The base model in the report: what it compresses, recites and knows, and what it does by its prompt."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from crawl2chat.report import plots
from crawl2chat.report.captions import by_part
from crawl2chat.report.rows import figure_table, read_rows
from crawl2chat.stages.figures import Figure

SHOWN = 4  # rows of each kind to read


def _texts(setting: str) -> dict[str, str]:
    """Prefixes of what is measured of texts that were drawn by one kind of setting."""
    return {
        "distinct words": f"distinct_1/{setting}", "distinct 3-grams": f"distinct_3/{setting}",
        "3-grams shared with another text": f"self_similarity/{setting}", "copied": f"verbatim/{setting}",
        "ended": f"ended/{setting}",
    }  # fmt: skip


CURVES = {  # title: (label of the x axis, label of the y axis, series and their figures' prefixes)
    "Passages continued word for word": (
        "copies in training", "recited to the end", {"prompted with 16 tokens": "recall/"},
    ),
    "Facts about people": (
        "pages about the person", "right",
        {"by completion": "facts_by_exposures/", "by question": "answers_by_exposures/"},
    ),
    "Invented words that the page defines": (
        "invented words on the page", "right",
        {"word before its meaning": "glossary/", "word not on the page": "glossary_absent/",
         "meanings swapped: old meaning": "glossary_shuffled/", "defined in sentences": "definitions/",
         "defined in no sentence": "definitions_absent/"},
    ),
    "Phrases translated by example": (
        "translated lines before the question", "right",
        {"phrase book": "phrase_book/", "translations shuffled": "phrase_book_shuffled/"},
    ),
    "An assistant by its prompt alone": (
        "", "right",
        {"no page asks about the person": "assistant_by_prompt/", "a page asks about the person":
         "assistant_by_prompt_asked_about/"},
    ),
    "Sums": ("digits", "right", {"step by step": "sums_step_by_step/", "at once": "sums_at_once/"}),
    "What a token's embedding reveals about its letters": (
        "", "read right",
        {"frequent tokens": "often_met_token_tells/", "frequent tokens, guessed": "often_met_token_guess/",
         "rare tokens": "rarely_met_token_tells/", "rare tokens, guessed": "rarely_met_token_guess/"},
    ),
    "Letters counted, read from embeddings": ("embeddings of", "right", {"by a linear model": "letter_count_read/"}),
    "Words spelled and letters counted, by example": (
        "the word is given as", "right",
        {"letters counted": "count_by_example/", "spelled": "spell_by_example/", "backwards": "reverse_by_example/"},
    ),
    "Decimals compared, by example": (
        "comparing the digits after the point as whole numbers is", "right",
        {"such as 9.11 and 9.9": "decimals_by_example/"},
    ),
    "Texts by temperature": ("temperature", "share", _texts("temperature_")),
    "Texts by top-p": ("top-p", "share", _texts("top_p_")),
}  # fmt: skip


def base_parts(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield each part of the suite: what it measures, its plots, and a folded table of all its figures."""
    for part, found in by_part(figures):
        yield f"<h3>{escape(part.title)}</h3><p>{escape(part.note)}</p>"
        yield from _plots(found)
        yield f"<details><summary>{len(found)} figures</summary>{figure_table(found)}</details>"


def _plots(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield curves with their intervals, for all curves that have at least one figure."""
    rates = [figure for figure in figures if figure.name.startswith("bits_per_byte/")]
    if rates:
        yield "<h4>Bits per byte of held-out text</h4>"
        yield plots.bars({_spaced(figure.name.partition("/")[2]): figure.value for figure in rates}, "bits per byte")
    for title, (x_label, y_label, prefixes) in CURVES.items():
        series = {name: _of(figures, prefix) for name, prefix in prefixes.items()}
        series = {name: found for name, found in series.items() if found}
        if series:
            yield f"<h4>{title}</h4>"
            yield plots.share_curves(series, x_label, y_label)


def induction_plot(lines: Sequence[dict[str, float]]) -> Iterator[str]:
    """Plot by step the strongest head's score on repeated pairs of tokens, and the share of pairs that are copied."""
    scored = [line for line in lines if "induction" in line]
    if scored:
        yield "<h3>Induction heads: when a pair of tokens is repeated on a page</h3>"
        series = {
            "strongest head's attention to what followed": [(line["step"], line["induction"]) for line in scored],
            "second tokens predicted": [(line["step"], line["copied"]) for line in scored],
        }
        yield plots.lines(series, "step", "share")


def base_samples(folder: Path) -> Iterator[str]:
    """Yield tables of recited passages, and of answers on each kind of page."""
    rows = read_rows(folder / "recitation.jsonl")  # some prompts are from the middle, to compare prompt lengths
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
            yield f"<h3>{escape(group.replace('_', ' '))}</h3><table><tr><th>page<th>the model's answer<th>right answer"
            for row in rows:
                yield f"<tr><td>{escape(row['prompt'])}<td>{escape(row['said'])}<td>{escape(row['right'])}"
            yield "</table>"


def _of(figures: Sequence[Figure], prefix: str) -> list[Figure]:
    """Return the figures of a curve, named by their points, with those of held-out text in each curve."""
    kind = prefix.partition("/")[0]
    held_out = f"{kind}/held_out"
    return [
        replace(f, name=f"{kind}/" + _spaced(f.name.removeprefix(f"{kind}/" if f.name == held_out else prefix)))
        for f in figures
        if f.name == held_out or f.name.startswith(prefix)
    ]


def _spaced(name: str) -> str:
    return name.replace("_", " ")
