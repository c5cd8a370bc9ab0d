"""What happens to one page, step by step; each step says keep or drop, and may change the text."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from crawl2chat.crawl import Page
from crawl2chat.crawl.sniffing import is_html, media_type
from crawl2chat.refine.quality.classify import load_classifier
from crawl2chat.refine.rules import quality
from crawl2chat.refine.rules.c4 import c4_quality
from crawl2chat.refine.rules.decontaminate import check_contamination, load_questions
from crawl2chat.refine.rules.fineweb import fineweb_quality
from crawl2chat.refine.rules.pii import mask_phones, mask_pii
from crawl2chat.refine.rules.repetition import gopher_repetition
from crawl2chat.refine.rules.thresholds import for_language
from crawl2chat.refine.rules.urls import check_url
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.refine.text.extract import clean_whitespace, extract_text
from crawl2chat.refine.text.language import identify_language
from crawl2chat.refine.verdict import Verdict, drop, keep


@dataclass
class Draft:
    """A page on its way to a document: what the steps have found so far."""

    page: Page
    text: str = field(default="", repr=False)
    language: str = ""
    language_score: float = 0.0
    masked: Counter[str] = field(default_factory=Counter)  # emails, ips, phones
    _pieces: quality.Text | None = field(default=None, repr=False)

    @property
    def pieces(self) -> quality.Text:
        """Words and lines of the text as it is now; several steps look at the same."""
        if self._pieces is None or self._pieces.text is not self.text:
            self._pieces = quality.Text.of(self.text)
        return self._pieces


def check_page(page: Page, blocklist: frozenset[str], settings: RefineSettings) -> Iterator[tuple[str, Verdict]]:
    """The steps that need no text."""
    yield "url", check_url(page.url, blocklist, host_words=settings.host_words)
    yield "response", check_response(page)


def check_response(page: Page) -> Verdict:
    """Only a good answer that holds HTML can be a document."""
    if page.status != 200:
        return drop("http_status", page.status)
    if not page.body.strip():
        return drop("empty_body")
    if page.is_text or is_html(page.content_type, page.body):
        return keep()
    return drop("not_html", detail=(media_type(page.content_type) or page.content_type or "no content type")[:80])


def extract(draft: Draft, settings: RefineSettings) -> Verdict:
    if draft.page.is_text:
        draft.text = clean_whitespace(decode_html(draft.page.body, "charset=utf-8"))
        return keep() if draft.text else drop("no_text")
    draft.text = extract_text(draft.page.body, draft.page.url, draft.page.content_type, extractor=settings.extractor)
    return keep() if draft.text else drop("no_text")


def check_language(draft: Draft, settings: RefineSettings) -> Verdict:
    draft.language, draft.language_score = language, score = identify_language(draft.text)
    if settings.languages and language not in settings.languages:
        return drop("other_language", score, language)
    return drop("unsure_language", score, language) if score < settings.min_language_score else keep()


def check_gopher_quality(draft: Draft, settings: RefineSettings) -> Verdict:
    rules = settings.gopher_quality
    return quality.gopher_quality(draft.pieces, rules, draft.language) if rules.enabled else keep()


def check_gopher_repetition(draft: Draft, settings: RefineSettings) -> Verdict:
    rules = settings.gopher_repetition
    return gopher_repetition(draft.text, draft.pieces.words, rules) if rules.enabled else keep()


def clean_c4(draft: Draft, settings: RefineSettings) -> Verdict:
    if not settings.c4.enabled:
        return keep()
    verdict, draft.text = c4_quality(draft.pieces, settings.c4)
    return verdict


def check_fineweb(draft: Draft, settings: RefineSettings) -> Verdict:
    return fineweb_quality(draft.pieces, settings.fineweb) if settings.fineweb.enabled else keep()


def check_test_questions(draft: Draft, settings: RefineSettings) -> Verdict:
    return check_contamination(draft.text, settings.decontaminate)


def mask(draft: Draft, settings: RefineSettings) -> Verdict:
    draft.text, masked = mask_text(draft.text, settings)
    draft.masked += masked
    return keep()


def mask_text(text: str, settings: RefineSettings) -> tuple[str, Counter[str]]:
    """The text without the personal data that the settings want masked, and how many of each kind there were."""
    masked: Counter[str] = Counter()
    if settings.mask_pii:
        text, masked["emails"], masked["ips"] = mask_pii(text)
    if settings.mask_phones:
        text, masked["phones"] = mask_phones(text)
    return text, masked


TextStep = Callable[[Draft, RefineSettings], Verdict]
# Cheap before dear: FineWeb asks for repetition before quality; that is ten times as dear, and the order changes
# only which of the two is named as the reason.
TEXT_STEPS: dict[str, TextStep] = {
    "extract": extract,
    "language": check_language,
    "gopher_quality": check_gopher_quality,
    "gopher_repetition": check_gopher_repetition,
    "c4": clean_c4,
    "fineweb": check_fineweb,
    "contamination": check_test_questions,  # before masking, as questions are not masked
    "pii": mask,
}
CLASSIFIER_STEP = "classifier"  # needs the scores of all pages, so it follows when all have taken the others
DEDUP_STEPS = ("exact_duplicates", "near_duplicates", "line_duplicates")
STEPS = ("read", "url", "response", *TEXT_STEPS, CLASSIFIER_STEP, *DEDUP_STEPS)


def load_models(settings: RefineSettings) -> None:
    """Have ready in this process what the steps would otherwise load while a page's time runs."""
    identify_language("")
    load_questions(settings.decontaminate)
    if settings.classifier.model:
        load_classifier(settings.classifier.model)


def score_quality(draft: Draft, settings: RefineSettings) -> float | None:
    """Log odds of the classifier, if there is one."""
    model = settings.classifier.model
    return load_classifier(model).score(draft.text) if model else None


def take_steps(draft: Draft, settings: RefineSettings) -> Iterator[tuple[str, Verdict]]:
    """Take the steps that need the text, one at a time; ends behind the one that drops the page.

    Once the language is known, the rules have its thresholds.
    """
    for name, step in TEXT_STEPS.items():
        try:
            verdict = step(draft, settings)
        except Exception as error:
            verdict = failure(error, settings)
        yield name, verdict
        if verdict.dropped:
            return
        if name == "language":
            settings = for_language(settings, draft.language)


def failure(error: Exception, settings: RefineSettings) -> Verdict:
    """What fails on one page must not end the stage: an exception is a reason to drop it."""
    if isinstance(error, MemoryError):
        return drop("memory", settings.extract_megabytes)
    return drop("failed", detail=f"{type(error).__name__}: {error}"[:200])
