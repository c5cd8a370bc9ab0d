"""Where the words of a text come from: the documents to look in, the place of each match, and printed matches."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from crawl2chat.match.matches import Match, covered_words, cut_by_matches, find_matches, items_of
from crawl2chat.refine.documents import Document, read_documents
from crawl2chat.refine.text.extract import NOT_TEXT
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.stage import hash_path, read_manifest
from crawl2chat.tokenizer.tokenize import split_documents

AROUND = 160  # characters of a document on either side of a match
BEGINNING = 200  # characters of a document's beginning
COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")


def documents_of(place: AnyPath) -> Iterator[Document]:
    """Return the documents to look in: of a run those that its base model was trained on, of other places all of them.

    Raises StageError for a place without documents, and for a run whose documents have been made again since.
    """
    place = Path(place)
    if place.is_file():
        return read_documents(place)
    refined = place / "refine"
    manifest = read_manifest(place / "pretrain")
    if manifest is None or manifest.stage != "pretrain" or not refined.is_dir():
        return read_documents(refined if refined.is_dir() else place)
    if manifest.inputs["refine"] != hash_path(refined):
        raise StageError(
            f"{place}: its documents are others than its base model was trained on; run pretrain again, "
            f"or name {refined} to look in them all"
        )
    split = split_documents(refined, held_out=manifest.settings["held_out"], seed=manifest.settings["seed"])
    return (document for document, held_out in split if not held_out)


@dataclass(frozen=True)
class Source:
    """A match, and excerpts of the first document that has it: its beginning, and before, in and after the match."""

    match: Match
    beginning: str
    before: str
    quoted: str  # the match as the document writes it, with the document's own white space
    after: str


def find_sources(text: str, documents: Callable[[], Iterable[Document]], min_words: int) -> list[Source]:
    """Return the text's matches of at least `min_words` words in their order, each with its place in a document.

    documents: called twice, as the texts of documents with a match are only known after the first reading.
    """
    (matches,) = find_matches([text], documents(), min_words)
    wanted = {match.document for match in matches}
    texts: dict[str, str] = {}
    if wanted:
        for document in documents():
            if document.id in wanted:
                texts.setdefault(document.id, document.text)
                if len(texts) == len(wanted):
                    break
    return [_source(match, text[match.begin : match.end], texts[match.document]) for match in matches]


def _source(match: Match, quoted: str, document: str) -> Source:
    begin, end = _place(items_of(quoted), document)
    before, after = document[max(0, begin - AROUND) : begin], document[end : end + AROUND]
    return Source(match, document[:BEGINNING], before, document[begin:end], after)


def _place(items: Sequence[str], document: str) -> tuple[int, int]:
    """Return where these items are in the document, whatever the white space between them."""
    for found in re.finditer(r"\s*".join(map(re.escape, items)), document):
        if items_of(found[0]) == list(items):
            return found.span()
    return 0, 0  # ICU may cut a script without spaces differently in context


def print_matches(text: str, matches: Sequence[Match], min_words: int, prompt: str = "") -> None:
    """Print the text after its prompt with numbered marks, the matches by number, and the share that they cover.

    A word in several matches is shown as part of the longest. On a terminal marks are colours.
    """
    console = Console(highlight=False, soft_wrap=True)
    shown = Text().append(_readable(console, prompt), "dim")
    numbers: dict[Match, int] = {}
    for piece, match in cut_by_matches(text, matches):
        piece = _readable(console, piece)
        if match is None:
            shown.append(piece)
            continue
        number = numbers.setdefault(match, len(numbers) + 1)
        shown.append(f"[{number}: {piece}]", _colour(number))
    console.print(shown)
    for match, number in numbers.items():
        times = "once" if match.copies == 1 else f"{match.copies:,} times"
        where = _readable(console, " ".join(filter(None, [match.document, match.url])))
        console.print(Text(f"{number:4}  {match.words} words, {times}, first in {where}", _colour(number)))
    covered, n = covered_words(text, matches)
    if n < min_words:
        few = "1 word is" if n == 1 else f"{n:,} words are"
        console.print(f"{few} too few for a match of at least {min_words} words (--min-words)", style="bold")
        return
    share = f"{100 * covered / n:.1f} % of"
    console.print(f"{share} {n:,} words are in matches of at least {min_words} words", style="bold")


def _colour(number: int) -> str:
    return COLOURS[(number - 1) % len(COLOURS)]


def _readable(console: Console, text: str) -> str:
    """Return the text, on a screen without control characters, which documents may contain."""
    return NOT_TEXT.sub("", text) if console.is_terminal else text
