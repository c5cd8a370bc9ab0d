"""A page before it becomes HTML: its main text in blocks, and what should become of it."""

from dataclasses import dataclass, field
from typing import Literal

from crawl2chat.tinyweb.ledger import PageTruth

Template = Literal["blog", "newspaper", "forum", "wiki", "shop", "table"]
TEMPLATES: tuple[Template, ...] = ("blog", "newspaper", "forum", "wiki", "shop", "table")


@dataclass(frozen=True)
class Site:
    """A host with its look and its habits."""

    host: str
    name: str
    template: Template
    encoding: int  # index into html.ENCODINGS
    sloppy: bool  # unclosed and misnested tags, capitals, missing quotes


@dataclass(frozen=True)
class Block:
    """A piece of main text. `lines` keeps its line breaks; the others are one line."""

    tag: Literal["p", "h2", "quote", "lines"]
    text: str


@dataclass
class Page:
    kind: str
    title: str
    blocks: list[Block]
    site: Site = Site("", "", "blog", 0, False)  # site and url are given when pages are laid out over sites
    url: str = ""
    outcome: Literal["keep", "drop"] = "keep"
    reason: str | None = None
    original: "Page | None" = None  # of a mirror
    pii: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join([self.title, *(block.text for block in self.blocks)]) if self.blocks else self.title

    def truth(self) -> PageTruth:
        duplicate_of = self.original.url if self.original else None
        return PageTruth(
            self.url, self.kind, self.text, self.outcome, self.reason, duplicate_of, self.pii, self.site.template
        )


def paragraphs(*texts: str) -> list[Block]:
    return [Block("p", text) for text in texts]
