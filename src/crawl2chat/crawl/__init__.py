"""Pages arrive as WARC: from files, from Common Crawl, or from the built-in fictional web."""

from crawl2chat.crawl.framing import Fault, Place
from crawl2chat.crawl.stage import list_warcs
from crawl2chat.crawl.warc import Page, read_record, read_warc

__all__ = ["Fault", "Page", "Place", "list_warcs", "read_record", "read_warc"]
