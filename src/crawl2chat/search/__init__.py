"""Search over documents: passages ranked by BM25, and with embeddings from a folder by both."""

from crawl2chat.search.index import Passage, SearchIndex, build_index, open_index

__all__ = ["Passage", "SearchIndex", "build_index", "open_index"]
