"""From logits to text: controls of sampling, batched generation, streaming."""

from crawl2chat.generate.engine import Completion, Engine
from crawl2chat.generate.sampling import Sampling

__all__ = ["Completion", "Engine", "Sampling"]
