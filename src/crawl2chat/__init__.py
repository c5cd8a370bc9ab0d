"""crawl2chat: every stage of making a large language model, from raw web crawl to chat assistant.

`from crawl2chat import load, run` are the doors for a notebook; `crawl2chat.api` describes them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawl2chat.api import load, run

__all__ = ["load", "run"]
__version__ = "0.1.0"
# Environment variable: a file for a command's exit status. A program that starts a run may end before the run does, and
# the system reports a status only to a living parent.
STATUS_FILE = "CRAWL2CHAT_STATUS_FILE"


def __getattr__(name: str) -> Any:
    """Import the doors on first use, so that `import crawl2chat` stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("crawl2chat.api"), name)
