"""What the refine stage keeps. Defaults are FineWeb's (arXiv 2406.17557 and its published script) unless said.

They are meant for English; `thresholds.toml` has those of other languages.
"""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from crawl2chat.recipe import Settings, Words


class GopherRepetitionSettings(Settings):
    enabled: bool = Field(True, description="drop pages that repeat themselves (Gopher, arXiv 2112.11446, table A1)")
    max_duplicate_lines: float = Field(0.30, ge=0, le=1, description="share of lines seen before on the page")
    max_duplicate_paragraphs: float = Field(0.30, ge=0, le=1, description="share of paragraphs seen before")
    max_duplicate_line_chars: float = Field(0.20, ge=0, le=1, description="share of characters in such lines")
    max_duplicate_paragraph_chars: float = Field(0.20, ge=0, le=1, description="share of characters in such paragraphs")
    max_top_ngrams: dict[PositiveInt, float] = Field(
        {2: 0.20, 3: 0.18, 4: 0.16}, description="n: share of characters in the commonest n-gram of words"
    )
    max_duplicate_ngrams: dict[PositiveInt, float] = Field(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        description="n: share of characters in n-grams seen before",
    )


class GopherQualitySettings(Settings):
    enabled: bool = Field(True, description="drop pages that do not read like prose (Gopher, table A1)")
    min_words: int = Field(50, ge=0, description="words with a letter or digit")
    max_words: int = Field(100_000, ge=1, description="words with a letter or digit")
    min_mean_word_length: float = Field(3.0, ge=0, description="characters")
    max_mean_word_length: float = Field(10.0, gt=0, description="characters")
    max_symbol_ratio: float = Field(0.1, ge=0, description="hash signs, and ellipses, per word")
    max_bullet_lines: float = Field(0.9, ge=0, le=1, description="share of lines that begin with a bullet")
    max_ellipsis_lines: float = Field(0.3, ge=0, le=1, description="share of lines that end with an ellipsis")
    min_letter_words: float = Field(0.8, ge=0, le=1, description="share of words with a letter")
    min_stop_words: int = Field(2, ge=0, description="different stop words that must occur")
    stop_words: list[str] = Field([], description="function words; empty: those of the page's language, if known")


class C4Settings(Settings):
    enabled: bool = Field(True, description="clean lines and drop pages as C4 did (arXiv 1910.10683)")
    terminal_punctuation: bool = Field(False, description="drop lines that end without punctuation; FineWeb does not")
    min_words_per_line: int = Field(3, ge=0, description="shorter lines are cleaned away")
    max_word_length: int = Field(1000, ge=1, description="characters; lines with longer words are cleaned away")
    min_sentences: int = Field(5, ge=0, description="of the cleaned page")
    drop_curly_bracket: bool = Field(True, description="drop pages with a { as code")


class FineWebSettings(Settings):
    enabled: bool = Field(True, description="drop lists and fragments (FineWeb, section 3.6)")
    min_punctuated_lines: float = Field(0.12, ge=0, le=1, description="share of lines that end with punctuation")
    short_line_chars: int = Field(30, ge=0, description="a line of at most so many characters is short")
    max_short_lines: float = Field(0.67, ge=0, le=1, description="share of short lines")
    max_duplicate_line_chars: float = Field(0.1, ge=0, le=1, description="share of characters in lines seen before")
    max_newlines_per_word: float = Field(0.3, ge=0, description="line ends per word; more is a list")


class DecontaminateSettings(Settings):
    against: Words = Field(
        [],
        description="files of test questions (JSON lines, JSON, Parquet, text); pages that hold one are dropped",
    )
    fields: Words = Field(
        ["question", "query", "prompt", "problem", "context", "context_options", "input", "text"],
        description="those of a row that hold a question; a row needs one of them",
    )
    ngram: int = Field(13, ge=1, description="words in a row of a question that show it; a shorter one must be whole")
    min_words: int = Field(8, ge=1, description="shorter questions are not looked for, as they may stand anywhere")


class ClassifierSettings(Settings):
    model: str = Field("", description="folder that `crawl2chat classify` made; none: no text is judged by a model")
    keep: float = Field(0.1, gt=0, le=1, description="best share to keep of what passes the other filters (DCLM: 0.1)")


class DedupSettings(Settings):
    exact: bool = Field(True, description="drop pages whose text is the same but for case and white space")
    near: bool = Field(True, description="drop near duplicates found by MinHash")
    ngram: int = Field(5, ge=1, description="words a shingle")
    buckets: int = Field(14, ge=1, description="pages that agree in one whole bucket are compared")
    hashes_per_bucket: int = Field(8, ge=1, description="more find only more similar pages")
    min_similarity: float = Field(
        0.6, ge=0, le=1, description="estimated share of equal shingles that makes a copy; 0: one bucket is enough"
    )
    seed: int = Field(1, description="of the hash functions")
    lines: Literal["off", "line", "paragraph"] = Field(
        "off", description="drop lines or paragraphs that an earlier document has, from the documents that stay"
    )
    min_line_chars: int = Field(40, ge=1, description="shorter lines and paragraphs stay, however common")


class RefineSettings(Settings):
    HOW_IT_RUNS = frozenset({"engine", "workers", "partition_mb"})

    blocklist: str = Field("", description="file of hosts to drop with their subdomains, one a line")
    host_words: bool = Field(True, description="drop hosts with a gambling or adult word between dots and hyphens")
    extractor: Literal["blocks", "resiliparse", "trafilatura"] = Field(
        "blocks", description="what finds the main text; blocks is our own, trafilatura needs crawl2chat[trafilatura]"
    )
    extract_seconds: float = Field(5, gt=0, description="processor time a page may take before it is given up")
    extract_megabytes: int = Field(1000, ge=100, description="memory a page may take before it is given up (Linux)")
    max_record_bytes: int = Field(20_000_000, ge=1000, description="larger records and bodies are faults")
    languages: Words = Field(["en"], description="ISO 639 codes to keep; an empty list keeps all")
    min_language_score: float = Field(0.65, ge=0, le=1, description="probability of the language; 0 keeps all")
    language_thresholds: bool = Field(
        True,
        description="judge pages in other languages by FineWeb2's thresholds for the language; a threshold changed "
        "from its default applies to every language; false: the thresholds below for all languages",
    )
    mask_pii: bool = Field(True, description="replace e-mail and public IP addresses")
    mask_phones: bool = Field(False, description="replace phone numbers: +…, North American ones, and those after a 0")
    gopher_repetition: GopherRepetitionSettings = GopherRepetitionSettings()
    gopher_quality: GopherQualitySettings = GopherQualitySettings()
    c4: C4Settings = C4Settings()
    fineweb: FineWebSettings = FineWebSettings()
    decontaminate: DecontaminateSettings = DecontaminateSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    dedup: DedupSettings = DedupSettings()
    engine: Literal["local", "ray"] = Field(
        "local", description="local: processes of this machine; ray: tasks on a Ray cluster, see recipes/cluster.toml"
    )
    workers: int = Field(0, ge=0, description="cores to use; 0: all of the machine or cluster")
    partition_mb: float = Field(
        128,
        ge=0.001,
        description="signatures that deduplication reads at a time; a process takes three times the memory",
    )

    @model_validator(mode="after")
    def _word_limits_leave_room(self) -> "RefineSettings":
        rules = self.gopher_quality
        if rules.min_words > rules.max_words:
            raise ValueError(f"gopher_quality.min_words ({rules.min_words}) is above max_words ({rules.max_words})")
        return self
