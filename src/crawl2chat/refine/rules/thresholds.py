"""Thresholds by language: how long words are and how often prose repeats itself differs from language to language."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from crawl2chat.refine.settings import RefineSettings
from crawl2chat.stages.settings import Settings

FILE = Path(__file__).with_name("thresholds.toml")
SAME_AS = {"wuu": "zh", "yue": "zh"}


def for_language(settings: RefineSettings, language: str) -> RefineSettings:
    """Return the settings with FineWeb2's thresholds for a language in place of those that have their default.

    language: ISO 639 code. The settings are returned unchanged for English, for languages without published
    thresholds, and if `language_thresholds` is false. Source: FineWeb2, arXiv 2506.20920.
    """
    known = thresholds_by_language().get(SAME_AS.get(language, language))
    if known is None or not settings.language_thresholds:
        return settings
    tables = {name: _lay_over(getattr(settings, name), values) for name, values in known.items()}
    return settings.model_copy(update=tables)


@lru_cache(maxsize=1)
def thresholds_by_language() -> dict[str, dict[str, dict[str, Any]]]:
    """ISO 639 code → table of RefineSettings → setting → value, from `thresholds.toml`."""
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {language: _tables(row) for language, row in rows.items()}


def _tables(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    shortest, longest = row["mean_word_length"]
    fineweb = {name: row[name] for name in ("min_punctuated_lines", "max_newlines_per_word") if name in row}
    return {
        "gopher_repetition": {
            "max_duplicate_lines": row["max_duplicate_lines"],
            "max_top_ngrams": dict(enumerate(row["max_top_ngrams"], 2)),
            "max_duplicate_ngrams": dict(enumerate(row["max_duplicate_ngrams"], 5)),
        },
        "gopher_quality": {
            "min_mean_word_length": shortest,
            "max_mean_word_length": longest,
            "min_letter_words": row["min_letter_words"],
        },
        # FineWeb2 does not use this rule: 30 characters are a short line in Latin letters and a long one in Han
        "fineweb": fineweb | {"max_short_lines": 1.0},
    }


def _lay_over(rules: Settings, values: dict[str, Any]) -> Settings:
    """Return the rules with the values of those settings that have their default."""
    fields = type(rules).model_fields
    return rules.model_copy(update={k: v for k, v in values.items() if getattr(rules, k) == fields[k].default})
