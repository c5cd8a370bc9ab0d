"""Constrained decoding: what an answer claims to have read, it can only quote."""

from collections.abc import Collection, Sequence

from crawl2chat.tokenizer import Tokenizer

MOST_TOKENS = 16  # of a quotation
CLAUSE_ENDS = ".,;:!?()…"


class Quoting:
    """Which tokens may come next in an answer such as `Page 12 says: a goat.`

    Up to the first token with a colon anything may. After it comes a run of the result's own words, within one
    clause, and then a full stop. The model chooses which words; after a colon it can't make any up. A model of a
    million parameters knows what kind of word a question asks for and does not learn to copy words that it meets
    for the first time (docs/decisions.md).
    """

    def __init__(self, tokenizer: Tokenizer, result: str, *, only_pages: bool = False) -> None:
        """result: a tool's text; what it says comes after its first colon, on its first line.

        only_pages: only what follows a first colon after "Page" is a quotation.
        """
        _, _, said = result.split("\n")[0].partition(":")
        self.source = tokenizer.encode(said)
        self.stop = tokenizer.encode(".")
        self.tokenizer, self.only_pages = tokenizer, only_pages
        pieces = [tokenizer.decode([id]) for id in self.source]
        following = [*pieces[1:], ""]
        # digits are tokens of their own, so a number begins with a lone space
        self.begins_word = [
            piece[:1] == " " and (piece[1:2].isalnum() or (piece == " " and after[:1].isdigit()))
            for piece, after in zip(pieces, following, strict=True)
        ]
        self.in_clause = [not any(mark in piece for mark in CLAUSE_ENDS) for piece in pieces]

    def __call__(self, written: Sequence[int]) -> Collection[int] | None:
        """Ids that may follow `written`; None where any may."""
        colon = next((i for i, id in enumerate(written) if b":" in self.tokenizer.decode_bytes([id])), None)
        if colon is None:
            return None
        if self.only_pages and not self.tokenizer.decode(written[:colon]).lstrip().startswith("Page "):
            return None
        quoted = list(written[colon + 1 :])
        if self.stop[0] in quoted:
            return None
        if len(quoted) >= MOST_TOKENS:
            return self.stop
        n, source = len(quoted), self.source
        allowed: set[int] = set()
        for start in range(len(source)):
            if not self.begins_word[start] or source[start : start + n] != quoted:
                continue
            end = start + n
            if end < len(source) and self.in_clause[end]:
                allowed.add(source[end])
            if n and (end == len(source) or self.begins_word[end] or not self.in_clause[end]):
                allowed.update(self.stop)
        return allowed or self.stop
