"""Where pages come from."""

from typing import Literal

from pydantic import Field, model_validator

from crawl2chat.stages.settings import Settings, Words


class CommonCrawlSettings(Settings):
    crawl_id: str = Field("", description="a monthly crawl such as CC-MAIN-2026-30; see commoncrawl.org for the list")
    n_warcs: int = Field(
        1, ge=0, description="number of WARCs to take, spread evenly over the crawl; each is about 1 GB; 0: all"
    )
    paths: Words = Field([], description="take these WARCs of the listing instead, e.g. crawl-data/CC-MAIN-…/….warc.gz")
    base_url: str = Field("https://data.commoncrawl.org", description="address that serves the listing and the WARCs")


class TaughtSettings(Settings):
    """The conversations that the made-up web writes for the stage sft."""

    wordings: int = Field(4, ge=1, description="number of wordings in which each fact of a taught person is asked")
    direct_sums: int = Field(600, ge=0, description="number of sums answered at once, as the question asks")
    worked_sums: int = Field(1500, ge=0, description="number of sums answered step by step, as the question asks")
    open_sums: int = Field(
        600, ge=0, description="number of sums asked without saying how to answer, and of word problems"
    )
    worked_share: float = Field(0.3, ge=0, le=1, description="share of those that are answered step by step")
    talks: int = Field(
        900,
        ge=0,
        description="number of conversations of two to five questions: follow-ups, corrections, other subjects",
    )


class TinywebSettings(Settings):
    """How much of each kind the fictional web holds; by default 7,100 pages, of which 6,600 stay (9 MB of text)."""

    people: int = Field(300, ge=10, description="people with five facts each, who appear on 0, 1, 2, 4 ... 256 pages")
    passages_per_level: int = Field(
        6, ge=0, description="passages at each level of 4, 8 ... copies; six times as many at 1 and 2 copies"
    )
    passage_levels: int = Field(9, ge=1, le=9, description="number of levels of copies: 9 means 1, 2, 4 ... 256 copies")
    glossaries: int = Field(400, ge=0, description="pages that define invented words and then use them")
    word_games: int = Field(
        1500, ge=0, description="pages that repeat invented words and their meanings, a fifth of the tokens"
    )
    phrase_books: int = Field(60, ge=0, description="pages that translate into the world's invented language")
    interviews: int = Field(120, ge=0, description="interviews and pages of a helper who answers questions")
    stories: int = Field(400, ge=0, description="short stories, two per page")
    verses: int = Field(150, ge=0, description="rhymed verses, three per page")
    worked_sums: int = Field(6000, ge=0, description="sums worked digit by digit, three per page")
    direct_sums: int = Field(2250, ge=0, description="sums with the answer alone")
    held_out_sums: int = Field(600, ge=0, le=2000, description="problems that appear on no page, kept for testing")
    junk_pages: int = Field(520, ge=0, description="pages that must be dropped, over all reasons")
    personal_pages: int = Field(80, ge=0, description="pages to keep that contain e-mail or IP addresses to mask")
    taught: TaughtSettings = TaughtSettings()
    strangers: int = Field(
        700, ge=0, description="invented people on no page, about whom the stage honesty teaches to refuse"
    )
    looked_up: int = Field(700, ge=0, description="invented people to look up, each with a passage of its own")


class SiteSettings(Settings):
    """A polite crawl. robots.txt is always obeyed, and no host but those of the addresses is asked for anything."""

    addresses: Words = Field(
        [], description="for source site: where to begin, such as https://docs.example.org/; only these hosts are read"
    )
    pages: int = Field(1000, ge=1, description="maximum number of addresses to fetch, those that fail included")
    depth: int = Field(
        10, ge=0, description="maximum number of links to follow from a first address; sites can be endless"
    )
    queries: int = Field(
        50, ge=0, description="maximum number of addresses that differ only after the ?, as those of calendars do"
    )
    sitemaps: bool = Field(True, description="read the sitemaps that robots.txt names, or /sitemap.xml")
    delay: float = Field(1.0, ge=0, description="seconds between two requests to a host; robots.txt can ask for more")
    timeout: float = Field(30.0, gt=0, description="timeout for one page, in seconds")
    max_page_bytes: int = Field(5_000_000, ge=1000, description="leave out larger pages, in bytes as they are sent")
    contact: str = Field(
        "", description="address or e-mail of yours that the user agent names, so that a site's owner can reach you"
    )


class CrawlSettings(Settings):
    """Where the pages come from."""

    source: Literal["tinyweb", "warc", "commoncrawl", "site", "documents", "none"] = Field(
        "tinyweb",
        description="tinyweb: the built-in fictional web; warc: your files; commoncrawl: a public crawl; "
        "site: pages of a web site, fetched politely; documents: folders of HTML, Markdown, text, PDF and DOCX; "
        "none: no pages at all, for a run that begins with an imported model",
    )
    seed: int = Field(0, description="seed of the fictional web, and of the choice among Common Crawl's WARCs")
    warc: Words = Field(
        [], description="for source warc: WARC or WET files, folders, globs, http(s):// or s3:// addresses"
    )
    documents: Words = Field([], description="for source documents: folders or files; PDF and DOCX need an extra")
    site: SiteSettings = SiteSettings()
    commoncrawl: CommonCrawlSettings = CommonCrawlSettings()
    tinyweb: TinywebSettings = TinywebSettings()

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> "CrawlSettings":
        if self.source == "warc" and not self.warc:
            raise ValueError('source is "warc" but no WARC is named; give --crawl.warc PATH')
        if self.source != "warc" and self.warc:
            raise ValueError(f'warc names {self.warc[0]} but source is "{self.source}"; give --crawl.source warc too')
        if self.source == "commoncrawl" and not (self.commoncrawl.crawl_id or self.commoncrawl.paths):
            raise ValueError(
                'source is "commoncrawl" but no crawl is named; give --crawl.commoncrawl.crawl_id CC-MAIN-2026-30'
            )
        if self.source == "documents" and not self.documents:
            raise ValueError('source is "documents" but no folder is named; give --crawl.documents FOLDER')
        if self.source != "documents" and self.documents:
            raise ValueError(
                f'documents names {self.documents[0]} but source is "{self.source}"; give --crawl.source documents too'
            )
        if self.source == "site" and not self.site.addresses:
            raise ValueError('source is "site" but no address is named; give --crawl.site.addresses https://…')
        if self.source != "site" and self.site.addresses:
            raise ValueError(
                f'site.addresses names {self.site.addresses[0]} but source is "{self.source}"; '
                "give --crawl.source site too"
            )
        return self
