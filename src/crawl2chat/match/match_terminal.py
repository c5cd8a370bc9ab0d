"""Shows what of a text stands word for word in training documents: marked in the text, and where it comes from."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from crawl2chat.match.matches import Match, covered_words, cut_by_matches
from crawl2chat.refine.documents import Document, read_documents
from crawl2chat.refine.text.extract import NOT_TEXT
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.stage import hash_path, read_manifest
from crawl2chat.tokenizer.tokenize import split_documents

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")


def documents_of(place: AnyPath) -> Iterator[Document]:
    """Documents to look in: of a run those that its base model was trained on, of any other place all that are there.

    Raises StageError for a place without documents, and for a run whose documents were made anew since.
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


def print_matches(text: str, matches: Sequence[Match], min_words: int, prompt: str = "") -> None:
    """The text behind its prompt with numbered marks, the matches by these numbers, and the share that they cover.

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
    console.print(f"{share} {n:,} words stand in matches of at least {min_words} words", style="bold")


def _colour(number: int) -> str:
    return COLOURS[(number - 1) % len(COLOURS)]


def _readable(console: Console, text: str) -> str:
    """On a screen without control characters, which documents may hold."""
    return NOT_TEXT.sub("", text) if console.is_terminal else text
