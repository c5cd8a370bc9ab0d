"""A filter of your own: drop pages that shout.

    crawl2chat refine pages.warc.gz --out documents --refine.extra examples/custom_filter.py:is_calm

or in a recipe, `extra = ["examples/custom_filter.py:is_calm"]` below `[refine]`. The funnel counts what it drops as the
step `is_calm`, and `crawl2chat refine pages.warc.gz --explain URL` shows what it finds on one page. It runs after the
built-in rules, in worker processes; when this file changes, refine runs again.
"""

from crawl2chat.refine import Document, Verdict, drop, keep

MAX_CAPITALS = 0.3  # of the letters; English prose has 0.02 to 0.06


def is_calm(document: Document) -> bool | Verdict:
    """A document has `text`, `url` and `language`. Return True, False, or a verdict with a reason and a value."""
    letters = [letter for letter in document.text if letter.isalpha()]
    capitals = sum(map(str.isupper, letters)) / max(1, len(letters))
    return drop("capitals", capitals) if capitals > MAX_CAPITALS else keep()
