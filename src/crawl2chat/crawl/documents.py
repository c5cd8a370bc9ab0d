"""Folders of documents as people have them (HTML, Markdown, text, PDF, DOCX), written as WARC with their addresses."""

import os
import re
import resource
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crawl2chat.crawl.writing import LeftOut, warc_record, write_left_out
from crawl2chat.parallel.map_shards import map_shards
from crawl2chat.parallel.workers import Died, Failed, Result, map_in_order
from crawl2chat.stages.files import StageError, read_jsonl, remove, write_jsonl
from crawl2chat.stages.text_files import NotText, format_of, read_text

HTML, PDF, DOCX = (".html", ".htm", ".xhtml"), ".pdf", ".docx"
TEXT = (".md", ".markdown", ".txt", ".text", ".rst")
KINDS = (*HTML, *TEXT, PDF, DOCX)
LIBRARIES = {PDF: "pypdfium2", DOCX: "mammoth"}
HOW_TO_INSTALL = "pip install 'crawl2chat[documents]'"
PER_SHARD = 200  # files, read by one process and written as one WARC
SECONDS = 120.0  # in which one document must be read
MEGABYTES = 2000  # of memory, with which one document must be read
NO_RECORD = uuid.UUID("6d6b1b1e-7c0a-4c57-9d3c-0d3f6f1f6a55")  # namespace of the records' ids
END_OF_SENTENCE = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
# Hyphens at the end of a line, with pdfium's marks for those that it takes for such
HYPHEN = re.compile(r"(?:\ufffe|\x02|(?<=[^\W\d_])-)$")


@dataclass(frozen=True)
class Content:
    """What a document became: HTML as it is, or UTF-8 text that needs no extraction."""

    body: bytes
    is_text: bool


def find_documents(places: Sequence[str]) -> list[tuple[Path, str]]:
    """The files in folders, or that are named, each with its address: its path below what all places have in common.

    Hidden files and folders, whose names begin with a dot, are passed over. Raises StageError for a place that does
    not exist, and for places without any files.
    """
    roots = [Path(place).expanduser().absolute() for place in places]
    for place, root in zip(places, roots, strict=True):
        if not root.exists():
            raise StageError(f"crawl.documents = {place}: there is no such file or folder")
    top = Path(os.path.commonpath([root if root.is_dir() else root.parent for root in roots]))
    files = sorted({file for root in roots for file in _files_of(root)})
    if not files:
        raise StageError(f"crawl.documents = {', '.join(places)}: no file here; expected {', '.join(KINDS)}")
    return [(file, _address(file.relative_to(top))) for file in files]


def describe_documents(places: Sequence[str]) -> list[dict[str, Any]]:
    """Address, size and time of each file, so that a change shows."""
    stats = ((address, file.stat()) for file, address in find_documents(places))
    return [{"place": address, "bytes": stat.st_size, "modified": stat.st_mtime_ns} for address, stat in stats]


def check_documents(places: Sequence[str]) -> None:
    """Raise StageError if there is no document, or some need a library that is not installed."""
    files = [file for file, _ in find_documents(places)]
    for suffix, library in LIBRARIES.items():
        count = sum(file.suffix.lower() == suffix for file in files)
        if count and find_spec(library) is None:
            raise StageError(f"crawl.documents: {count:,} *{suffix} files need {library}: {HOW_TO_INSTALL}")
    if all(_kind(file) not in KINDS for file in files):
        raise StageError(
            f"crawl.documents: none of {len(files):,} files is of a kind that is read; expected {', '.join(KINDS)}"
        )


def collect_documents(out: Path, places: Sequence[str]) -> None:
    """Write the documents into `out/warc`, and those that could not be read, with the reasons, to `left_out.jsonl`.

    A killed run goes on with the files that are left. Raises StageError if no document could be read.
    """
    check_documents(places)
    files = find_documents(places)
    for place in places:
        if out.absolute().is_relative_to(Path(place).expanduser().absolute()):
            raise StageError(f"crawl.documents = {place}: {out} is in this folder; give --out another place")
    starts = range(0, len(files), PER_SHARD)
    parts = [(files[start : start + PER_SHARD], out / "parts" / f"{i:05d}") for i, start in enumerate(starts)]
    map_shards(_write_part, parts, label="documents")
    left_out = []
    for _, part in parts:
        left_out += [LeftOut(**row) for row in read_jsonl(part / "left_out.jsonl")]
    if len(left_out) == len(files):
        raise StageError(f"crawl.documents: none of {len(files):,} files could be read; {_named(left_out)}")
    (out / "warc").mkdir(exist_ok=True)
    for _, part in parts:
        os.replace(part / "documents.warc.gz", out / "warc" / f"part-{part.name}.warc.gz")
    write_left_out(out, left_out)
    remove(out / "parts")


def _write_part(files: Sequence[tuple[Path, str]], out: Path) -> None:
    """Read the files, one after the other in a process that may crash or hang, into a WARC."""
    out.mkdir(parents=True)
    left_out = []
    read = map_in_order(read_document, [file for file, _ in files], 1, timeout=SECONDS, max_ahead=1)
    with open(out / "documents.warc.gz", "wb") as warc:
        for (file, address), outcome in zip(files, read, strict=True):
            if isinstance(outcome, Result) and isinstance(outcome.value, Content):
                warc.write(_record(file, address, outcome.value))
            elif isinstance(outcome, Result):
                left_out.append(LeftOut(address, *outcome.value))
            elif isinstance(outcome, Failed):
                left_out.append(LeftOut(address, "failed", outcome.error.strip().rpartition("\n")[2]))
            elif isinstance(outcome, Died):
                left_out.append(LeftOut(address, "crashed", outcome.error))
            else:
                left_out.append(LeftOut(address, "timeout", f"not read in {SECONDS:g} s"))
    write_jsonl(out / "left_out.jsonl", left_out)


def read_document(file: Path) -> Content | tuple[str, str]:
    """The content of a file, or the reason why there is none, in a word and in detail."""
    _limit_memory()
    kind = _kind(file)
    if kind not in KINDS:
        return "unknown_kind", f"{kind or 'a name without a suffix'}; expected {', '.join(KINDS)}"
    try:
        with open(file, "rb") as opened:
            head = opened.read(512)
        found = format_of(head)
        if not head:
            return "empty", "0 bytes"
        if kind == PDF:
            text = read_pdf(file)
        elif kind == DOCX:
            return Content(read_docx(file), is_text=False)
        elif found:
            return "other_format", f"the file is {found}"
        elif kind in HTML:
            return Content(file.read_bytes(), is_text=False)
        else:
            text = read_text(file)
    except NotText as error:
        return "not_utf8", str(error)
    except MemoryError:
        return "memory", f"needs more than {MEGABYTES} MB"
    except Exception as error:  # of a reader, over a damaged file
        return "unreadable", f"{type(error).__name__}: {error}"[:300]
    return Content(text.encode(errors="replace"), is_text=True) if text.strip() else ("no_text", _why_no_text(kind))


def read_pdf(file: Path) -> str:
    """The text of a PDF, a paragraph per line, under its title as a heading; "" for scanned pages."""
    import pypdfium2

    with pypdfium2.PdfDocument(file) as pdf:
        pages = [page.get_textpage().get_text_range() for page in pdf]
        title = " ".join(pdf.get_metadata_dict().get("Title", "").split())
    text = "\n\n".join(filter(None, map(join_lines, pages)))
    has_title = title and " " in title and not text.startswith(title)  # one word is mostly the name of a file
    return f"# {title}\n\n{text}" if has_title and text else text


def join_lines(page: str) -> str:
    """The lines of a printed page as paragraphs: a line goes on in the next one if it ends for want of room.

    That is a line which reaches the margin and does not end a sentence, or ends with a hyphen.
    """
    lines = [" ".join(line.split()) for line in page.replace("\r\n", "\n").split("\n")]
    margin = 0.75 * max(map(len, lines))
    paragraphs: list[str] = []
    goes_on = False
    for line in lines:
        if goes_on and line:
            before = paragraphs[-1]
            if HYPHEN.search(before) and line[0].islower():
                paragraphs[-1] = HYPHEN.sub("", before) + line
            else:
                paragraphs[-1] = f"{before} {line}"
        else:
            paragraphs.append(line)
        ends = END_OF_SENTENCE.search(line) is not None
        goes_on = bool(HYPHEN.search(line)) or (len(line) >= margin and not ends)
    return "\n".join(paragraphs).replace("\ufffe", "-").replace("\x02", "-").strip()


def read_docx(file: Path) -> bytes:
    """A Word document as HTML, with its title, headings, lists and tables; pictures are left out."""
    import html
    import zipfile

    import mammoth

    with open(file, "rb") as opened:
        body = mammoth.convert_to_html(opened, convert_image=mammoth.images.img_element(lambda image: {})).value
    with zipfile.ZipFile(file) as archive:
        about = archive.read("docProps/core.xml").decode() if "docProps/core.xml" in archive.namelist() else ""
    title = re.search(r"<dc:title>([^<]*)</dc:title>", about)
    head = f"<title>{title[1]}</title>" if title and html.unescape(title[1]).strip() else ""
    return f'<!doctype html><html><head><meta charset="utf-8">{head}</head><body>{body}</body></html>'.encode()


def _record(file: Path, address: str, content: Content) -> bytes:
    modified = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    kind, type = ("conversion", "text/plain; charset=utf-8") if content.is_text else ("resource", "text/html")
    return warc_record(kind, type, content.body, modified, uuid.uuid5(NO_RECORD, address), {"WARC-Target-URI": address})


def _files_of(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _address(path: Path) -> str:
    """A path as one line of text: what can't be printed, such as a line end or a stray byte, as %XX."""
    text = path.as_posix()
    return "".join(c if c.isprintable() else quote(c, errors="surrogateescape") for c in text)


def _kind(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix if file.suffix.lower() == ".gz" else file.suffix.lower()


def _why_no_text(kind: str) -> str:
    return "pages without text, probably scanned; recognise it first, as with ocrmypdf" if kind == PDF else "blank"


def _named(left_out: Sequence[LeftOut]) -> str:
    return "; ".join(f"{one.url}: {one.reason} ({one.detail})" for one in left_out[:5])


def _limit_memory() -> None:
    """Have the kernel refuse this process more memory; its readers unpack what they are given."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = MEGABYTES << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
