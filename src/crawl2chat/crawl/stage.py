"""The crawl stage: find or choose WARCs, and leave their list for the stages that read them."""

import glob
import sys
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from crawl2chat.crawl.bodies import name_format
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.crawl.warc import open_remote
from crawl2chat.crawl.writing import LEFT_OUT
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, read_json, read_jsonl, write_json

WARCS = "warcs.json"
SUFFIXES = (".warc", ".warc.gz", ".wet", ".wet.gz")  # Common Crawl's WET files end with .warc.wet.gz
CHECKED_ADDRESSES = 16  # opened before any other work, spread evenly over the list
HEAD_BYTES = 1 << 16  # a file that begins like another format and holds no record in these is not a WARC


def crawl(out: AnyPath, settings: CrawlSettings) -> list[Figure]:
    """Leave `warcs.json` in `out`: each WARC's place, and of outside files size and time, so that a change shows.

    For the made-up web, `out` holds its WARCs (`tinyweb.write.crawl` is the stage for every source).
    Raises StageError if a named file is missing or clearly not a WARC, or an address can't be reached.
    """
    out = Path(out)
    if settings.source == "none":
        raise StageError("crawl.source = none: there is nothing to crawl; only runs with an imported model do without")
    figures = []
    if settings.source == "tinyweb":
        warcs = [{"place": path.relative_to(out).as_posix()} for path in _files_below(out)]
        if not warcs:
            raise StageError(f"{out}: the made-up web is not written yet; the stage is tinyweb.write.crawl")
    elif settings.source == "warc":
        warcs = check_warcs(settings)
    elif settings.source in ("site", "documents"):
        if settings.source == "site":
            from crawl2chat.crawl.site import crawl_site

            crawl_site(out, settings.site)
        else:
            from crawl2chat.crawl.documents import collect_documents

            collect_documents(out, settings.documents)
        warcs = [{"place": path.relative_to(out).as_posix()} for path in _files_below(out / "warc")]
        left_out = read_jsonl(out / LEFT_OUT)
        if left_out:
            reasons = Counter(row["reason"] for row in left_out).most_common()
            counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
            print(f"crawl: left out: {counted}; {out / LEFT_OUT} says which and why", file=sys.stderr)
        figures.append(Figure("left_out", len(left_out)))
    else:
        from crawl2chat.crawl.commoncrawl import commoncrawl_warcs

        warcs = [{"place": address} for address in commoncrawl_warcs(settings.commoncrawl, settings.seed)]
        _reach([warc["place"] for warc in warcs])
    write_json(out / WARCS, warcs)
    figures.append(Figure("warcs", len(warcs)))
    local = [out / warc["place"] for warc in warcs if "://" not in warc["place"]]
    if len(local) == len(warcs):
        figures.append(Figure("bytes", sum(path.stat().st_size for path in local), "bytes"))
    return figures


def check_warcs(settings: CrawlSettings) -> list[dict[str, Any]]:
    """Return what `find_warcs` does, after a look at each file and an attempt to open some of the addresses.

    Raises StageError for a file of another format and for an address that can't be reached.
    """
    warcs = find_warcs(settings)
    for warc in warcs:
        if "://" not in warc["place"]:
            _refuse_other_formats(Path(warc["place"]))
    _reach([warc["place"] for warc in warcs if "://" in warc["place"]])
    return warcs


def find_warcs(settings: CrawlSettings) -> list[dict[str, Any]]:
    """The WARCs that `settings.warc` names, local ones with size and time. Raises StageError if one is missing."""
    return [_describe(place) for pattern in settings.warc for place in _expand(pattern)]


def list_warcs(crawl: AnyPath) -> list[str]:
    """The WARCs to read, in order: of a crawl stage's folder, of any folder with WARC files, or one WARC itself.

    Raises StageError if there is none, or where a file has changed since the crawl stage listed it.
    """
    crawl = Path(crawl)
    if crawl.is_file():
        return [str(crawl)]
    listing = crawl / WARCS
    if not listing.exists():
        files = _files_below(crawl)
        if not files:
            raise StageError(
                f"{crawl}: no WARC file here; expected *.warc, *.warc.gz, *.wet.gz, or a crawl stage's folder; "
                f"found {_kinds_of_files(crawl)}"
            )
        return [str(path) for path in files]
    warcs = read_json(listing)
    for warc in warcs:
        if "bytes" in warc and _now(warc["place"]) != warc:
            raise StageError(
                f"{warc['place']}: has changed or gone since the crawl stage; run crawl again with --force"
            )
    return [warc["place"] if "://" in warc["place"] else str(crawl / warc["place"]) for warc in warcs]


def _expand(pattern: str) -> list[str]:
    """Files that a path, folder, glob or address names; places of local ones are absolute."""
    if "://" in pattern:
        return [pattern]
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = _files_below(path)
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not found and path.is_dir():
        raise StageError(
            f"crawl.warc = {pattern}: no WARC file here; expected *.warc, *.warc.gz or *.wet.gz; "
            f"found {_kinds_of_files(path)}"
        )
    if not found:
        raise StageError(f"crawl.warc = {pattern}: there is no such file; expected a WARC, a folder of them or a glob")
    return [str(file.absolute()) for file in found]


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.name.lower().endswith(SUFFIXES) and path.is_file())


def _kinds_of_files(folder: Path) -> str:
    """`25 *.html, 2 *.wat.gz`, the commonest first."""
    files = (path for path in folder.rglob("*") if path.is_file())
    kinds = Counter("".join(path.suffixes[-2 if path.suffix == ".gz" else -1 :]) for path in files)
    return ", ".join(f"{count} *{kind}" for kind, count in kinds.most_common(5)) or "nothing"


def _refuse_other_formats(file: Path) -> None:
    """Raises StageError for a file of another well-known format."""
    try:
        with open(file, "rb") as opened:
            head = opened.read(HEAD_BYTES)
    except OSError as error:
        raise StageError(f"{file}: can't be read: {error.strerror}; expected a WARC file") from error
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        except zlib.error:
            return  # the reader finds what is behind the damage
    form = name_format(head) if b"WARC/" not in head else ""
    if form:
        raise StageError(f"crawl.warc: {file}: expected a WARC file, found {form}")


def _reach(addresses: list[str]) -> None:
    """Open some of the addresses, all at once. Raises StageError if one can't be opened."""
    if not addresses:
        return
    some = addresses[:: -(-len(addresses) // CHECKED_ADDRESSES)]
    with ThreadPoolExecutor(CHECKED_ADDRESSES) as pool:
        for opened in pool.map(open_remote, some):
            opened.close()


def _describe(place: str) -> dict[str, Any]:
    return {"place": place} if "://" in place else _now(place)


def _now(place: str) -> dict[str, Any]:
    path = Path(place)
    if not path.exists():
        return {"place": place}
    stat = path.stat()
    return {"place": place, "bytes": stat.st_size, "modified": stat.st_mtime_ns}
