"""What happens to one page, step by step, up to a signed document; a step drops it or keeps it, maybe changed."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from crawl2chat.crawl import Fault, Page, Place
from crawl2chat.crawl.bodies import is_html, media_type
from crawl2chat.refine.copies import dedup
from crawl2chat.refine.quality.classify import load_classifier
from crawl2chat.refine.rules import Text, Verdict, drop, keep
from crawl2chat.refine.rules.c4 import c4_quality
from crawl2chat.refine.rules.decontaminate import check_contamination, load_questions
from crawl2chat.refine.rules.extra import filter_name, load_filter, run_filter
from crawl2chat.refine.rules.fineweb import fineweb_quality
from crawl2chat.refine.rules.gopher import gopher_quality, gopher_repetition
from crawl2chat.refine.rules.pii import mask_phones, mask_pii
from crawl2chat.refine.rules.urls import check_url, load_blocklists
from crawl2chat.refine.settings import RefineSettings, for_language
from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.refine.text.extract import clean_whitespace, extract_text, find_title
from crawl2chat.refine.text.language import identify_language
from crawl2chat.refine.text.words import UNSPACED
from crawl2chat.stages.files import StageError

SNIPPET_CHARS = 200
UP_TO_LAST_BREAK = re.compile(rf"(?s).*[ \n{UNSPACED}]")  # no address goes on after a blank or such a letter


@dataclass
class Draft:
    """A page on its way to a document: what the steps have found so far."""

    page: Page
    text: str = field(default="", repr=False)
    title: str = ""
    language: str = ""
    language_score: float = 0.0
    masked: Counter[str] = field(default_factory=Counter)  # emails, ips, phones
    quality: float | None = None  # log odds of the classifier, if there is one
    signature: dedup.Signature | None = field(default=None, repr=False)
    _pieces: Text | None = field(default=None, repr=False)

    @property
    def pieces(self) -> Text:
        """Words and lines of the text as it is now; several steps look at the same."""
        if self._pieces is None or self._pieces.text is not self.text:
            self._pieces = Text.of(self.text)
        return self._pieces


@dataclass(frozen=True)
class KeptPage:
    """A page that passed every step that looks at it alone."""

    url: str
    place: Place
    text: str = field(repr=False)
    language: str
    language_score: float
    masked: Counter[str]
    quality: float | None
    signature: dedup.Signature = field(repr=False)
    title: str = ""


@dataclass(frozen=True)
class Reject:
    """A page or fault that is not kept: the step that dropped it and why."""

    url: str
    step: str
    reason: str
    value: float | None
    detail: str
    place: Place
    snippet: str = field(default="", repr=False)  # of its text at that step; "" before there is one


def refine_page(page: Page | Fault, settings: RefineSettings) -> KeptPage | Reject:
    """Take a page through all steps that look at one page alone."""
    if isinstance(page, Fault):
        return Reject(page.url, "read", page.reason, None, page.detail, page.place)
    draft = Draft(page)
    for step, verdict in take_steps(draft, settings):
        if verdict.dropped:
            return reject_page(page, step, verdict, snippet(draft.text, settings))
    assert draft.signature is not None  # the last step's
    found = (draft.text, draft.language, draft.language_score, draft.masked, draft.quality, draft.signature)
    return KeptPage(page.url, page.place, *found, title=draft.title)


def take_steps(draft: Draft, settings: RefineSettings) -> Iterator[tuple[str, Verdict]]:
    """Take one step after the other; ends after the one that drops the page.

    Once the language is known, the rules have its thresholds. What fails on one page must not end the stage, so an
    exception is a reason to drop the page.
    """
    for name, step in page_steps(settings).items():
        try:
            verdict = step(draft, settings)
        except MemoryError:
            verdict = drop("memory", settings.extract_megabytes)
        except Exception as error:
            verdict = drop("failed", detail=f"{type(error).__name__}: {error}"[:200])
        yield name, verdict
        if verdict.dropped:
            return
        if name == "language":
            settings = for_language(settings, draft.language)


def check_response(page: Page) -> Verdict:
    """Drop all but good answers that hold HTML or the text of a WET file."""
    if page.status != 200:
        return drop("http_status", page.status)
    if not page.body.strip():
        return drop("empty_body")
    if page.is_text or is_html(page.content_type, page.body):
        return keep()
    return drop("not_html", detail=(media_type(page.content_type) or page.content_type or "no content type")[:80])


def extract(draft: Draft, settings: RefineSettings) -> Verdict:
    page = draft.page
    if page.is_text:
        draft.text = clean_whitespace(decode_html(page.body, "charset=utf-8"))
    else:
        draft.text = extract_text(page.body, page.content_type, extractor=settings.extractor)
    if settings.titles:
        html = "" if page.is_text else decode_html(page.body, page.content_type)
        draft.title = find_title(html, draft.text, page.url)
    return keep() if draft.text else drop("no_text")


def check_language(draft: Draft, settings: RefineSettings) -> Verdict:
    draft.language, draft.language_score = language, score = identify_language(draft.text)
    if settings.languages and language not in settings.languages:
        return drop("other_language", score, language)
    return drop("unsure_language", score, language) if score < settings.min_language_score else keep()


def clean_c4(draft: Draft, settings: RefineSettings) -> Verdict:
    verdict, draft.text = c4_quality(draft.pieces, settings.c4)
    return verdict


def mask(draft: Draft, settings: RefineSettings) -> Verdict:
    draft.text, draft.masked = mask_text(draft.text, settings)
    return keep()


def mask_text(text: str, settings: RefineSettings) -> tuple[str, Counter[str]]:
    """The text without the personal data that the settings want masked, and how many of each kind there were."""
    masked: Counter[str] = Counter()
    if settings.mask_pii:
        text, masked["emails"], masked["ips"] = mask_pii(text)
    if settings.mask_phones:
        text, masked["phones"] = mask_phones(text)
    return text, masked


def score_quality(draft: Draft, settings: RefineSettings) -> Verdict:
    """Note the classifier's score: which pages it drops is known only once all have theirs."""
    if settings.classifier.model:
        draft.quality = load_classifier(settings.classifier.model).score(draft.text)
    return keep()


def sign(draft: Draft, settings: RefineSettings) -> Verdict:
    """Note what deduplication has to know of the text."""
    draft.signature = dedup.sign(draft.text, settings.dedup)
    return keep()


Step = Callable[[Draft, RefineSettings], Verdict]
BEFORE_EXTRA: dict[str, Step] = {
    "url": lambda draft, s: check_url(draft.page.url, load_blocklists(tuple(s.blocklist)), host_words=s.host_words),
    "response": lambda draft, s: check_response(draft.page),
    "extract": extract,
    "language": check_language,
    # Cheap before expensive: FineWeb asks for repetition before quality; that costs ten times as much, and the order
    # changes only which of the two is named as the reason.
    "gopher_quality": lambda draft, s: gopher_quality(draft.pieces, s.gopher_quality, draft.language),
    "gopher_repetition": lambda draft, s: gopher_repetition(draft.text, draft.pieces.words, s.gopher_repetition),
    "c4": clean_c4,
    "fineweb": lambda draft, s: fineweb_quality(draft.pieces, s.fineweb),
    "contamination": lambda draft, s: check_contamination(draft.text, s.decontaminate),
}
AFTER_EXTRA: dict[str, Step] = {"pii": mask}  # after contamination and the filters, as questions are not masked
# The steps that compare all pages. Each page is prepared for two of them.
CLASSIFIER = "classifier"
EXACT_DUPLICATES, NEAR_DUPLICATES, LINE_DUPLICATES = "exact_duplicates", "near_duplicates", "line_duplicates"
DEDUP_STEPS = (EXACT_DUPLICATES, NEAR_DUPLICATES, LINE_DUPLICATES)
PREPARATIONS: dict[str, Step] = {CLASSIFIER: score_quality, NEAR_DUPLICATES: sign}


def page_steps(settings: RefineSettings) -> dict[str, Step]:
    """The steps that one page takes, by name and in order; the PREPARATIONS come last."""
    extra = {filter_name(name): partial(_run_extra, name) for name in settings.extra}
    return BEFORE_EXTRA | extra | AFTER_EXTRA | PREPARATIONS


def _run_extra(reference: str, draft: Draft, settings: RefineSettings) -> Verdict:
    return run_filter(reference, draft.text, draft.page.url, draft.language)


def step_names(settings: RefineSettings) -> list[str]:
    """All steps in order, as the funnel has them. Raises StageError for filters with the name of another step."""
    built_in = {"read", *BEFORE_EXTRA, *AFTER_EXTRA, CLASSIFIER, *DEDUP_STEPS}
    extra = [filter_name(name) for name in settings.extra]
    for reference, name in zip(settings.extra, extra, strict=True):
        if name in built_in or extra.count(name) > 1:
            raise StageError(
                f"refine.extra = {reference}: another step is called {name}, too; the funnel counts by name, so give "
                "the function one of its own"
            )
    return ["read", *BEFORE_EXTRA, *extra, *AFTER_EXTRA, CLASSIFIER, *DEDUP_STEPS]


def load_models(settings: RefineSettings) -> None:
    """Have ready in this process what the steps would otherwise load while a page's time runs."""
    identify_language("")
    load_blocklists(tuple(settings.blocklist))
    load_questions(settings.decontaminate)
    for reference in settings.extra:
        load_filter(reference)
    if settings.classifier.model:
        load_classifier(settings.classifier.model)


def reject_page(page: Page, step: str, verdict: Verdict, snippet: str = "") -> Reject:
    return Reject(page.url, step, verdict.reason or "", verdict.value, verdict.detail, page.place, snippet)


def snippet(text: str, settings: RefineSettings) -> str:
    """The beginning of a text on one line, to be seen in the report; masked, as dropped pages mostly are not yet."""
    beginning = text[: 10 * SNIPPET_CHARS]
    if len(beginning) < len(text):  # the last word may be half an address, which nothing would mask
        whole = UP_TO_LAST_BREAK.match(beginning)
        beginning = whole[0] if whole else ""
    return mask_text(" ".join(beginning.split()), settings)[0][:SNIPPET_CHARS]
