"""crawl2chat: every stage of making a large language model, from raw web crawl to chat assistant."""

__version__ = "0.1.0"
