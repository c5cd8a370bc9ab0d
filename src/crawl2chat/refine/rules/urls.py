"""Pages that can be dropped by their address alone: blocked hosts, other file types, gambling and adult hosts."""

import re
import zlib
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from crawl2chat.refine.rules import Verdict, drop, keep
from crawl2chat.stages.files import StageError
from crawl2chat.stages.text_files import NotText, read_text

# Addresses that end so are media, programs or data even when a server calls them text/html.
NOT_HTML = re.compile(
    r"\.(?:7z|avi|bin|bmp|css|csv|docx?|epub|exe|flv|gif|gz|ico|iso|jpe?g|js|json|m4a|mkv|mov|mp[34g]|mpeg|ogg|pdf|png|"
    r"pptx?|rar|rss|svg|swf|tar|tiff?|ttf|wav|web[mp]|wmv|woff2?|xlsx?|xml|zip)$",
    re.IGNORECASE,
)
MAX_HOST = 253  # characters (RFC 1035)
# Whole words of a host, between dots and hyphens: `sex` is one in free-sex.example, not in essex.example.
HOST_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        adult bdsm erotic erotica escort escorts fetish hentai milf nude nudes porn porno porns sex sexcam sexy viagra
        xxx xxxx bingo blackjack casino casinos gambling jackpot poker roulette slots sportsbook
        """,
    )
)


@lru_cache(maxsize=2)
def load_blocklists(paths: tuple[str, ...]) -> frozenset[str]:
    """Hosts of all files, one per line, `#` begins a comment. Raises StageError for a missing file."""
    lines: list[str] = []
    for path in paths:
        try:
            lines += read_text(Path(path).expanduser()).splitlines()
        except (OSError, EOFError, zlib.error, NotText) as error:
            raise StageError(
                f"refine.blocklist = {path}: can't be read ({error}); expected one host per line"
            ) from error
    hosts = (line.split("#")[0].strip().lower().strip(".") for line in lines)
    return frozenset(host for host in hosts if host)


def check_url(url: str, blocklist: frozenset[str], *, host_words: bool = True) -> Verdict:
    """Drop addresses whose host (or a parent domain of it) is blocked, or that can't hold a page of prose.

    Addresses of your own making, such as `book:17` or `manual/start.pdf`, have no host and pass.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
    except ValueError:  # such as an unclosed bracket of an IPv6 address
        return drop("bad_url", detail=url[:200])
    if len(host) > MAX_HOST:  # and to look up each of its domains would take quadratic time
        return drop("bad_url", len(host), url[:200])
    labels = host.split(".")
    for i in range(len(labels)):
        parent = ".".join(labels[i:])
        if parent in blocklist:
            return drop("blocked_host", detail=parent)
    words = HOST_WORDS.intersection(host.replace("-", ".").split(".")) if host_words else ()
    if words:
        return drop("host_word", detail=min(words))
    extension = NOT_HTML.search(parts.path) if host else None
    return drop("not_html_extension", detail=extension.group().lower()) if extension else keep()
