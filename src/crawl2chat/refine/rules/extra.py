"""Filters of your own: functions named in `refine.extra`, which run after the built-in rules.

    # my_filter.py
    from crawl2chat.refine import Document, Verdict, drop, keep

    def is_wanted(document: Document) -> bool | Verdict:
        return "cookie" not in document.text

A filter is given what the built-in rules see: the extracted and cleaned text, with its address and language. It returns
True to keep the page, False to drop it, or a `Verdict`: `keep()`, or `drop(reason, value, detail)` for a reason of its
own in the funnel. The function's name is the name of the step. It runs in worker processes, one page at a time, within
the page's limits of time and memory. A page on which it raises is dropped as `failed`; a filter that fails on more than
half of the pages that reach it ends the stage with the first traceback.
"""

import traceback
from collections.abc import Callable
from functools import lru_cache

from crawl2chat.refine.documents import Document
from crawl2chat.refine.rules import Verdict, drop, keep
from crawl2chat.stages.files import StageError
from crawl2chat.stages.user_code import describe_error, load_object

Filter = Callable[[Document], bool | Verdict]
TRACE_CHARS = 4000  # of a traceback, whose end says most
FAILED_SHARE = 0.5  # of the pages that reach a filter, above which its failures end the stage
UNWANTED = "unwanted"  # the reason of a filter that returns False


def filter_name(reference: str) -> str:
    """The name of a filter's step: `is_wanted` for `my_filter.py:is_wanted`."""
    return reference.rpartition(":")[2]


@lru_cache(maxsize=32)
def load_filter(reference: str) -> Filter:
    """Return the function, loaded once per process. Raises StageError if there is none or it can't be called."""
    function: Filter = load_object(reference, "refine.extra")
    if not callable(function):
        raise StageError(
            f"refine.extra = {reference}: is {function!r}; expected a function that takes a document and returns True, "
            "False or a Verdict"
        )
    return function


def run_filter(reference: str, text: str, url: str, language: str) -> Verdict:
    """Return the filter's verdict; a filter that raises, or returns something else, drops the page as `failed`.

    The first line of such a verdict's detail says how it failed; those after it are the traceback, from the filter on.
    """
    try:
        found = load_filter(reference)(Document("", text, url, language))
    except MemoryError:
        raise
    except Exception as error:
        inside = error.__traceback__.tb_next if error.__traceback__ else None  # from the filter's own lines on
        trace = "".join(traceback.format_exception(type(error), error, inside))
        return drop("failed", detail=f"{' '.join(describe_error(error).split())[:200]}\n{trace[-TRACE_CHARS:]}")
    if isinstance(found, Verdict):
        return found
    if not isinstance(found, bool):
        return drop("failed", detail=f"returned {found!r:.100}; expected True, False or a Verdict".replace("\n", " "))
    return keep() if found else drop(UNWANTED)
