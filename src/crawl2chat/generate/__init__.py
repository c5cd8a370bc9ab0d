"""From logits to text: controls of sampling, batched generation, streaming."""

from crawl2chat.generate.engine import Engine
from crawl2chat.generate.request import Candidates, Completion, Request
from crawl2chat.generate.sampling import Sampling

__all__ = ["Candidates", "Completion", "Engine", "Request", "Sampling"]
