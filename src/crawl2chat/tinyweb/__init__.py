"""The fictional web: from a seed, WARC files that nobody has seen and a ledger of what is true of them."""

from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tinyweb.settings import TinywebSettings
from crawl2chat.tinyweb.write import write_tinyweb

__all__ = ["Ledger", "TinywebSettings", "write_tinyweb"]
