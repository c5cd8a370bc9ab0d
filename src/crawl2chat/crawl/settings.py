"""Where pages come from."""

from typing import Literal

from pydantic import Field, model_validator

from crawl2chat.stages.settings import Settings, Words
from crawl2chat.tinyweb.settings import TinywebSettings


class CommonCrawlSettings(Settings):
    crawl_id: str = Field("", description="a monthly crawl such as CC-MAIN-2026-30; see commoncrawl.org for the list")
    n_warcs: int = Field(
        1, ge=0, description="number of WARCs to take, spread evenly over the crawl; each is about 1 GB; 0: all"
    )
    paths: Words = Field([], description="take these WARCs of the listing instead, e.g. crawl-data/CC-MAIN-…/….warc.gz")
    base_url: str = Field("https://data.commoncrawl.org", description="address that serves the listing and the WARCs")


class CrawlSettings(Settings):
    source: Literal["tinyweb", "warc", "commoncrawl"] = Field(
        "tinyweb", description="tinyweb: the built-in fictional web; warc: your files; commoncrawl: a public crawl"
    )
    seed: int = Field(0, description="seed of the fictional web, and of the choice among Common Crawl's WARCs")
    warc: Words = Field(
        [], description="for source warc: WARC or WET files, folders, globs, http(s):// or s3:// addresses"
    )
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
        return self
