"""What the refine stage keeps. Defaults are FineWeb's (arXiv 2406.17557 and its published script) unless said.

They are meant for English; `rules/thresholds.toml` has those of other languages: how long words are and how often prose
repeats itself differs from language to language.
"""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from crawl2chat.stages.settings import Settings, Words


class GopherRepetitionSettings(Settings):
    enabled: bool = Field(True, description="drop pages that repeat themselves (Gopher, arXiv 2112.11446, table A1)")
    max_duplicate_lines: float = Field(
        0.30, ge=0, le=1, description="maximum share of lines that occurred before on the page"
    )
    max_duplicate_paragraphs: float = Field(
        0.30, ge=0, le=1, description="maximum share of paragraphs that occurred before"
    )
    max_duplicate_line_chars: float = Field(
        0.20, ge=0, le=1, description="maximum share of characters in lines that occurred before"
    )
    max_duplicate_paragraph_chars: float = Field(
        0.20, ge=0, le=1, description="maximum share of characters in paragraphs that occurred before"
    )
    max_top_ngrams: dict[PositiveInt, float] = Field(
        {2: 0.20, 3: 0.18, 4: 0.16},
        description="maximum share of characters in the most frequent word n-gram, for each n",
    )
    max_duplicate_ngrams: dict[PositiveInt, float] = Field(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        description="maximum share of characters in word n-grams that occurred before, for each n",
    )


class GopherQualitySettings(Settings):
    enabled: bool = Field(True, description="drop pages that don't read like prose (Gopher, table A1)")
    min_words: int = Field(50, ge=0, description="minimum number of words with a letter or digit")
    max_words: int = Field(100_000, ge=1, description="maximum number of words with a letter or digit")
    min_mean_word_length: float = Field(3.0, ge=0, description="minimum mean length of a word, in characters")
    max_mean_word_length: float = Field(10.0, gt=0, description="maximum mean length of a word, in characters")
    max_symbol_ratio: float = Field(0.1, ge=0, description="maximum number of hash signs, or of ellipses, per word")
    max_bullet_lines: float = Field(0.9, ge=0, le=1, description="maximum share of lines that begin with a bullet")
    max_ellipsis_lines: float = Field(0.3, ge=0, le=1, description="maximum share of lines that end with an ellipsis")
    min_letter_words: float = Field(0.8, ge=0, le=1, description="minimum share of words that contain a letter")
    min_stop_words: int = Field(2, ge=0, description="minimum number of different stop words")
    stop_words: list[str] = Field(
        [], description="function words that prose contains; empty: those of the page's language, if known"
    )


class C4Settings(Settings):
    enabled: bool = Field(True, description="clean lines and drop pages as C4 did (arXiv 1910.10683)")
    terminal_punctuation: bool = Field(
        False, description="drop lines that don't end with punctuation; FineWeb keeps them"
    )
    min_words_per_line: int = Field(3, ge=0, description="remove lines with fewer words")
    max_word_length: int = Field(1000, ge=1, description="remove lines that contain a longer word, in characters")
    min_sentences: int = Field(5, ge=0, description="minimum number of sentences of the cleaned page")
    drop_curly_bracket: bool = Field(True, description="drop pages that contain a {, as they are probably code")


class FineWebSettings(Settings):
    enabled: bool = Field(True, description="drop lists and fragments (FineWeb, section 3.6)")
    min_punctuated_lines: float = Field(
        0.12, ge=0, le=1, description="minimum share of lines that end with punctuation"
    )
    short_line_chars: int = Field(30, ge=0, description="a line of at most this many characters counts as short")
    max_short_lines: float = Field(0.67, ge=0, le=1, description="maximum share of short lines")
    max_duplicate_line_chars: float = Field(
        0.1, ge=0, le=1, description="maximum share of characters in lines that occurred before"
    )
    max_newlines_per_word: float = Field(0.3, ge=0, description="maximum number of line ends per word; lists have more")


class DecontaminateSettings(Settings):
    against: Words = Field(
        [], description="files of test questions (JSON lines, JSON, Parquet, text); pages that hold one are dropped"
    )
    fields: Words = Field(
        ["question", "query", "prompt", "problem", "context", "context_options", "input", "text"],
        description="fields of a row that contain a question; a row needs at least one of them",
    )
    ngram: int = Field(
        13,
        ge=1,
        description="consecutive words of a question that count as a match; a shorter question must match whole",
    )
    min_words: int = Field(8, ge=1, description="ignore questions with fewer words, since they can occur anywhere")


class ClassifierSettings(Settings):
    model: str = Field("", description="folder written by `crawl2chat classify`; empty: no classifier")
    keep: float = Field(
        0.1,
        gt=0,
        le=1,
        description="share to keep, the best first, of the pages that pass the other filters (DCLM: 0.1)",
    )


class DedupSettings(Settings):
    exact: bool = Field(True, description="drop pages whose text differs only in case and white space")
    near: bool = Field(True, description="drop near-duplicates found by MinHash")
    ngram: int = Field(5, ge=1, description="words per shingle")
    buckets: int = Field(14, ge=1, description="number of MinHash buckets; pages that share a bucket are compared")
    hashes_per_bucket: int = Field(
        8, ge=1, description="hashes per bucket; with more, only more similar pages share a bucket"
    )
    min_similarity: float = Field(
        0.6,
        ge=0,
        le=1,
        description="minimum estimated share of common shingles of copies; 0: sharing a bucket is enough",
    )
    seed: int = Field(1, description="seed of the hash functions")
    lines: Literal["off", "line", "paragraph"] = Field(
        "off", description="remove lines or paragraphs that occurred in an earlier document"
    )
    min_line_chars: int = Field(40, ge=1, description="keep shorter lines and paragraphs, however common")


class RefineSettings(Settings):
    """Which pages are kept, and what is done to their text."""

    RUNTIME_ONLY = frozenset({"engine", "workers", "partition_mb"})

    blocklist: Words = Field([], description="files of hosts to drop with their subdomains, one per line")
    host_words: bool = Field(
        True, description="drop hosts whose name contains a gambling or adult word between dots and hyphens"
    )
    extractor: Literal["blocks", "all", "resiliparse", "trafilatura"] = Field(
        "blocks",
        description="extractor of the main text; blocks is our own; all is the same without its choice among blocks; "
        "trafilatura needs crawl2chat[trafilatura]",
    )
    titles: bool = Field(
        False, description="write the title of each page into a column `title`, for search and for answers that cite"
    )
    extract_seconds: float = Field(
        5, gt=0, description="processor time per page, in seconds, after which it is recorded as a fault"
    )
    extract_megabytes: int = Field(
        1000, ge=100, description="memory per page, in megabytes, beyond which it is recorded as a fault (Linux only)"
    )
    max_record_bytes: int = Field(
        20_000_000, ge=1000, description="record larger records and bodies as faults, in bytes"
    )
    languages: Words = Field(["en"], description="languages to keep, as ISO 639 codes; an empty list keeps all")
    min_language_score: float = Field(
        0.65, ge=0, le=1, description="minimum probability of the detected language; 0 keeps all"
    )
    language_thresholds: bool = Field(
        True,
        description="judge pages in other languages by FineWeb2's thresholds for the language; a threshold changed "
        "from its default applies to every language; false: the thresholds below for all languages",
    )
    mask_pii: bool = Field(True, description="replace e-mail addresses and public IP addresses")
    mask_phones: bool = Field(False, description="replace phone numbers: with +…, North American, and with a leading 0")
    gopher_repetition: GopherRepetitionSettings = GopherRepetitionSettings()
    gopher_quality: GopherQualitySettings = GopherQualitySettings()
    c4: C4Settings = C4Settings()
    fineweb: FineWebSettings = FineWebSettings()
    extra: Words = Field(
        [], description="filters of your own, run after the built-in rules: file.py:function or package.module:function"
    )
    decontaminate: DecontaminateSettings = DecontaminateSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    dedup: DedupSettings = DedupSettings()
    engine: Literal["local", "ray"] = Field(
        "local", description="local: processes on this machine; ray: tasks on a Ray cluster (see recipes/cluster.toml)"
    )
    workers: int = Field(0, ge=0, description="number of cores; 0: all of the machine or cluster")
    partition_mb: float = Field(
        128,
        ge=0.001,
        description="megabytes of signatures read at a time in deduplication; a process needs three times as much",
    )

    @model_validator(mode="after")
    def _word_limits_leave_room(self) -> "RefineSettings":
        rules = self.gopher_quality
        if rules.min_words > rules.max_words:
            raise ValueError(f"gopher_quality.min_words ({rules.min_words}) is above max_words ({rules.max_words})")
        return self


THRESHOLDS = Path(__file__).with_name("rules") / "thresholds.toml"
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
    rows = tomllib.loads(THRESHOLDS.read_text(encoding="utf-8"))
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
