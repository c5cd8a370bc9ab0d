"""Crawl: pages arrive as WARC, from Common Crawl, from files, or from the built-in fictional web."""
