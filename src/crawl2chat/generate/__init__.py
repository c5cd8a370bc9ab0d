"""From logits to text: controls of sampling, batched generation, streaming.

Imported on first use, so that the command line can read `generate.settings` without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawl2chat.generate.engine import Engine
    from crawl2chat.generate.request import Candidates, Completion, Request
    from crawl2chat.generate.settings import Sampling

__all__ = ["Candidates", "Completion", "Engine", "Request", "Sampling"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from crawl2chat.generate import engine

    return getattr(engine, name)
