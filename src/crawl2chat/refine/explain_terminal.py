"""An explained page in the terminal: a line a step, and below it what the step changed in the text."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from rich.console import Console
from rich.text import Text

from crawl2chat.crawl import Page
from crawl2chat.refine.explain import Outcome, Seen, find_limit
from crawl2chat.refine.rules.thresholds import for_language
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.steps import DEDUP_STEPS, STEPS, TEXT_STEPS
from crawl2chat.refine.text.extract import NOT_TEXT
from crawl2chat.refine.text.words import split_words

EXCERPT_CHARS = 700  # of a text that is new
MAX_CHANGES = 20  # lines of a difference that are shown
MAX_COMPARED = 2000  # lines, and words of a line: finding differences takes time with their square
CONTEXT_WORDS = 6  # around what changed within a line
COPIES = 5  # addresses that are named
PAGE_STEPS = ("url", "response", *TEXT_STEPS)  # that look at one page alone
REMOVED, ADDED = "red", "green"


def print_page(page: Page) -> None:
    place = page.place
    print_text(page.url, "bold")
    within = f" + {place.within:,}" if place.within else ""
    print_text(
        f"{place.warc} at byte {place.offset:,}{within}, status {page.status}, "
        f"{page.content_type or 'no content type'}, {len(page.body):,} bytes, {page.date}\n"
    )


def print_step(seen: Seen, settings: RefineSettings) -> None:
    """Verdict, reason, value against its limit, time; and the change of the text."""
    line = Text(f"{seen.step:<18} ")
    line.append("dropped" if seen.verdict.dropped else "kept   ", "bold red" if seen.verdict.dropped else "green")
    line.append(f" {1000 * seen.seconds:8.1f} ms  {clean(describe(seen, settings))}")
    Console(highlight=False, soft_wrap=True).print(line)
    if seen.after != seen.before:
        indented(show_change(seen.before, seen.after))


def describe(seen: Seen, settings: RefineSettings) -> str:
    """`too_few_words: 31; gopher_quality.min_words = 50`, or what a step that kept the page found."""
    verdict = seen.verdict
    if verdict.reason is None:
        return seen.note
    found = ", ".join(
        part for part in ("" if verdict.value is None else f"{verdict.value:.4g}", verdict.detail) if part
    )
    limit = find_limit(verdict.reason, for_language(settings, seen.language))
    return verdict.reason + (f": {found}" if found else "") + (f"; {limit[0]} = {limit[1]}" if limit else "")


def print_outcome(outcome: Outcome | None, last: Seen) -> None:
    """What deduplication did, as far as a finished stage tells, and whether that stage saw what was seen now."""
    if last.verdict.dropped:
        print_text(f"{'not taken':<18} {', '.join(STEPS[STEPS.index(last.step) + 1 :])}")
    print_text("")
    if outcome is None:
        if not last.verdict.dropped:
            print_text(
                f"{' and '.join(DEDUP_STEPS)}: compare all pages; give a run's folder whose refine stage is done, "
                "or --out with the stage's folder, to see what they did"
            )
        return
    if outcome.copy_of:
        print_text(f"{outcome.step:<18} dropped, a copy of {outcome.copy_of}")
    elif outcome.kept:
        print_text(f"in the run          document {outcome.kept}")
        if outcome.copies:
            named = ", ".join(outcome.copies[:COPIES]) + (", …" if len(outcome.copies) > COPIES else "")
            print_text(f"{'copies':<18} {len(outcome.copies):,} pages were dropped as copies of it: {named}")
    else:
        print_text(f"in the run          dropped by {outcome.step}: {outcome.reason}")
    now = (last.step, last.verdict.reason or "") if last.verdict.dropped else ("", "")
    then = (outcome.step, outcome.reason) if outcome.step in PAGE_STEPS else ("", "")
    if now != then:
        print_text("the run's stage was made with other settings or another state of the code than these", "yellow")


def show_change(before: str, after: str) -> Iterator[Text]:
    """The beginning of a text that is new, else the lines that changed: removed ones red, added ones green."""
    if not before:
        cut = after[:EXCERPT_CHARS]
        yield from (Text(line, "dim") for line in cut.split("\n"))
        if len(cut) < len(after):
            yield Text(f"… {len(after):,} characters in all")
        return
    changes = _line_changes(_lines(before), _lines(after))
    yield from islice(changes, MAX_CHANGES)
    if next(changes, None):
        yield Text(f"… more changes; {len(before):,} characters became {len(after):,}")


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()][:MAX_COMPARED]


def _line_changes(before: Sequence[str], after: Sequence[str]) -> Iterator[Text]:
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, before, after).get_opcodes():
        if tag == "replace" and i_end - i == j_end - j:
            for old, new in zip(before[i:i_end], after[j:j_end], strict=True):
                yield _word_changes(split_words(old), split_words(new))
        elif tag != "equal":
            yield from (Text(f"- {_shorten(line)}", REMOVED) for line in before[i:i_end])
            yield from (Text(f"+ {_shorten(line)}", ADDED) for line in after[j:j_end])


def _word_changes(before: Sequence[str], after: Sequence[str]) -> Text:
    """One line in which words changed: those that went and those that came, with some words around them."""
    before, after = before[:MAX_COMPARED], after[:MAX_COMPARED]
    text = Text("~ ")
    for group in difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(CONTEXT_WORDS):
        text.append("… ")
        for tag, i, i_end, j, j_end in group:
            if tag == "equal":
                text.append(" ".join(before[i:i_end]) + " ")
            else:
                text.append("".join(f"-{_shorten(word)} " for word in before[i:i_end]), REMOVED)
                text.append("".join(f"+{_shorten(word)} " for word in after[j:j_end]), ADDED)
    return text


def _shorten(line: str) -> str:
    return line if len(line) <= 200 else f"{line[:200]}…"


def indented(lines: Iterable[Text]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text("    | ", "dim").append_text(line))


def clean(text: str) -> str:
    """Without control characters, which a page's address or header may hold to play with the terminal."""
    return NOT_TEXT.sub("", text)


def print_text(text: str, style: str = "") -> None:
    Console(highlight=False, soft_wrap=True).print(Text(clean(text), style))
