"""The made-up web: from a seed, WARC files that nobody has seen, the files that teach, and a ledger of the truth."""

from typing import TYPE_CHECKING, Any

from crawl2chat.crawl.settings import TinywebSettings
from crawl2chat.tinyweb.ledger import Ledger

if TYPE_CHECKING:
    from crawl2chat.tinyweb.write import write_tinyweb

__all__ = ["Ledger", "TinywebSettings", "write_tinyweb"]


def __getattr__(name: str) -> Any:
    """`write_tinyweb` when it is first used: to read the ledger, none of what the writer imports is needed."""
    if name != "write_tinyweb":
        raise AttributeError(name)
    from crawl2chat.tinyweb.write import write_tinyweb

    return write_tinyweb
