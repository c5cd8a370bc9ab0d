"""crawl2chat: every stage of making a large language model, from raw web crawl to chat assistant.

`from crawl2chat import chat, load, run` are the doors for a notebook; `crawl2chat.api` describes them.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawl2chat.api import chat, load, run

__all__ = ["chat", "load", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the doors on first use, so that `import crawl2chat` stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("crawl2chat.api"), name)


class _ChatPackage(ModuleType):
    """The subpackage `chat`, which takes the name of the function `chat` as soon as it is imported: callable, too."""

    def __call__(self, *arguments: Any, **options: Any) -> str:
        """Answer as `crawl2chat.api.chat`, which describes the arguments."""
        return str(importlib.import_module("crawl2chat.api").chat(*arguments, **options))


importlib.import_module("crawl2chat.chat").__class__ = _ChatPackage
