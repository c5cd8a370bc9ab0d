"""The spider of `crawl.site`, imported only in the process that crawls: Scrapy's parts, set up to be polite."""

import gzip
import json
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler, CrawlerProcess
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Headers, HtmlResponse, Response
from scrapy.linkextractors import LinkExtractor
from scrapy.responsetypes import responsetypes
from scrapy.spidermiddlewares.httperror import HttpError
from scrapy.utils.asyncio import call_later
from scrapy.utils.gz import gunzip, gzip_magic_number
from scrapy.utils.sitemap import Sitemap

from crawl2chat import __version__
from crawl2chat.crawl.settings import SiteSettings
from crawl2chat.crawl.site import FETCHED, OTHERS, PAGES, host_of
from crawl2chat.crawl.writing import LeftOut, warc_digest, warc_record, write_left_out

ROBOT = "crawl2chat"  # as robots.txt may call us
TRANSIENT = [408, 429, 500, 502, 503, 504, 522, 524]  # tried again, and again when a killed crawl goes on
MAX_SITEMAPS = 200
LONGEST_PAUSE = 120  # seconds, whatever a server's Retry-After says
NOT_STORED = {b"Transfer-Encoding", b"Set-Cookie"}  # undone by the client; of no use to a reader


def crawl(out: Path, settings: SiteSettings) -> None:
    """Crawl from the addresses until nothing is left or a limit is reached; raises what went wrong in this code."""
    here = __name__
    process = CrawlerProcess(
        {
            "USER_AGENT": f"{ROBOT}/{__version__}" + (f" (+{settings.contact})" if settings.contact else ""),
            "ROBOTSTXT_OBEY": True,
            "ROBOTSTXT_USER_AGENT": ROBOT,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
            "DOWNLOAD_DELAY": settings.delay,
            "DOWNLOAD_DELAY_JITTER": 0,
            "RANDOMIZE_DOWNLOAD_DELAY": False,
            "DOWNLOAD_TIMEOUT": settings.timeout,
            "DOWNLOAD_MAXSIZE": settings.max_page_bytes,
            "DOWNLOAD_WARNSIZE": 0,
            "DOWNLOAD_VERIFY_CERTIFICATES": True,
            "REDIRECT_MAX_TIMES": 10,
            "RETRY_HTTP_CODES": TRANSIENT,
            "DEPTH_PRIORITY": 1,  # what is near first, so that an endless corner of a site does not take all pages
            "SCHEDULER_MEMORY_QUEUE": "scrapy.squeues.FifoMemoryQueue",
            # after robots.txt, before redirects and retries; and next to the network, which sees what is tried again
            "DOWNLOADER_MIDDLEWARES": {f"{here}.Limits": 101, f"{here}.Patience": 990},
            "HTTPCACHE_ENABLED": True,
            "HTTPCACHE_STORAGE": f"{here}.WarcStorage",
            "HTTPCACHE_IGNORE_HTTP_CODES": TRANSIENT,
            "COOKIES_ENABLED": False,
            "LOG_ENABLED": False,
            "LOG_INSTALL_ROOT_HANDLER": False,
            "TELNETCONSOLE_ENABLED": False,
            "REMOTE_CONTROL_ENABLED": False,
        }
    )
    crawler = process.create_crawler(SiteSpider)
    errors: list[Any] = []
    crawler.signals.connect(lambda failure: errors.append(failure), signals.spider_error, weak=False)
    process.crawl(crawler, out=out, site=settings)
    process.start(install_signal_handlers=False)
    if errors:
        errors[0].raiseException()
    spider = crawler.spider
    assert isinstance(spider, SiteSpider)
    write_left_out(out, spider.left_out())


class NotFetched(IgnoreRequest):
    """A request that our own limits refuse; its text is the reason."""


class SiteSpider(Spider):
    """Follow the links of pages, breadth first, within the hosts of the first addresses."""

    name = "site"

    def __init__(self, out: Path, site: SiteSettings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out, self.site = out, site
        self.hosts = {host_of(address) for address in site.addresses}
        self.links = LinkExtractor(tags=("a", "area"), attrs=("href",))
        self.started: set[str] = set()  # addresses of pages that were asked for
        self.too_deep: dict[str, str] = {}  # an address, and the page that links to it
        self.queries: Counter[str] = Counter()  # addresses with a query, by what is before the ?
        self.n_sitemaps = 0
        self.reasons: dict[str, LeftOut] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> "SiteSpider":
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.take_robots, signals.robots_parsed)
        crawler.signals.connect(spider.take_dropped, signals.request_dropped)
        return spider

    async def start(self) -> AsyncIterator[Request]:
        for address in self.site.addresses:
            yield Request(address, self.parse, errback=self.fail)

    def parse(self, response: Response) -> Iterator[Request]:
        """The requests of a page's links."""
        wishes = robot_wishes(response)
        if wishes & {"noindex", "none"}:
            self.note(response.url, "noindex", "the page asks not to be collected")
        if not isinstance(response, HtmlResponse) or wishes & {"nofollow", "none"}:
            return
        for link in self.links.extract_links(response):
            url = link.url.partition("#")[0]
            if link.nofollow or host_of(url) not in self.hosts or url in self.started:
                continue
            if response.meta["depth"] >= self.site.depth:
                self.too_deep.setdefault(url, response.url)
            elif self._few_queries(url, response.url):
                yield Request(url, self.parse, errback=self.fail)

    def _few_queries(self, url: str, linked_from: str) -> bool:
        """Whether an address may be one more that differs from others only in its query."""
        path, _, query = url.partition("?")
        if not query:
            return True
        self.queries[path] += 1
        if self.queries[path] > self.site.queries:
            self.note(url, "too_many_queries", f"{self.site.queries} addresses of this path differ only after the ?",
                      linked_from)  # fmt: skip
            return False
        return True

    def parse_sitemap(self, response: Response) -> Iterator[Request]:
        body = response.body
        if gzip_magic_number(response):
            body = gunzip(body, max_size=self.site.max_page_bytes)
        sitemap = Sitemap(body)
        for entry in sitemap:
            url = urljoin(response.url, entry["loc"])
            if sitemap.type == "sitemapindex":
                yield from self._sitemap(url, named=True)
            elif host_of(url) in self.hosts:
                yield Request(url, self.parse, errback=self.fail)

    def _sitemap(self, url: str, *, named: bool) -> Iterator[Request]:
        """named: somebody said that it is there, so it is noted if it is not."""
        self.n_sitemaps += 1
        if self.n_sitemaps <= MAX_SITEMAPS:
            yield Request(url, self.parse_sitemap, errback=self.fail if named else self.forget, meta={"sitemap": True})
        else:
            self.note(url, "too_many_sitemaps", f"more than {MAX_SITEMAPS}")

    def take_robots(self, robotparser: Any, request: Request) -> None:
        """Keep the delay that a robots.txt asks for, and read its sitemaps."""
        downloader = self.crawler.engine.downloader
        host = urlsplit(request.url).hostname or ""
        delay = max(self.site.delay, robotparser.crawl_delay(ROBOT) or 0)
        downloader.per_slot_settings[host] = {"delay": delay}
        if slot := downloader.slots.get(host):
            slot.delay = delay
        if not self.site.sitemaps or not self.site.depth:
            return
        named = [urljoin(request.url, url) for url in robotparser.rp.sitemaps]
        for url in named or [urljoin(request.url, "/sitemap.xml")]:
            for sitemap in self._sitemap(url, named=bool(named)):
                self.crawler.engine.crawl(sitemap)

    def take_dropped(self, request: Request) -> None:
        """A redirect to an address that was asked for before: often a page by another name, or else a loop."""
        if request.meta.get("redirect_urls"):
            self.note(request.meta["redirect_urls"][0], "redirect_to_known", request.url)

    def fail(self, failure: Any) -> None:
        """Note why there is no page."""
        request, error = failure.request, failure.value
        first = request.meta.get("redirect_urls", [request.url])[0]
        kind, detail = type(error).__name__, " ".join(str(error).split())[:200]
        if isinstance(error, HttpError):
            reason, detail = "http_status", str(error.response.status)
        elif isinstance(error, NotFetched):
            reason, detail = str(error), request.url if first != request.url else ""
        elif isinstance(error, IgnoreRequest):
            known = {"robots.txt": "robots", "redirection": "too_many_redirects", "size": "too_large"}
            reason = next((reason for word, reason in known.items() if word in detail), "ignored")
        elif "Timeout" in kind:
            reason = "timeout"
        elif "Cancelled" in kind:
            reason = "too_large"
        else:
            reason, detail = "failed", f"{kind}: {detail}"
        self.note(first, reason, detail, (request.headers.get("Referer") or b"").decode("latin-1"))

    def forget(self, failure: Any) -> None:
        """A sitemap that nobody named is not there."""

    def note(self, url: str, reason: str, detail: str = "", linked_from: str = "") -> None:
        self.reasons.setdefault(url, LeftOut(url, reason, detail, linked_from))

    def left_out(self) -> list[LeftOut]:
        """What was found and not fetched, in the order in which it was given up."""
        for url, linked_from in self.too_deep.items():
            if url not in self.started:
                self.note(url, "too_deep", f"more than {self.site.depth} links away", linked_from)
        return list(self.reasons.values())


class _Middleware:
    """What Scrapy asks of a middleware that wants to know its crawler."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)


class Limits(_Middleware):
    """Refuse requests to other hosts, whatever asks for them, and further ones than are allowed."""

    def process_request(self, request: Request) -> None:
        spider = self.crawler.spider
        assert isinstance(spider, SiteSpider)
        if host_of(request.url) not in spider.hosts:
            raise NotFetched("other_host")
        if _is_robots(request) or request.meta.get("sitemap") or request.url in spider.started:
            return
        if len(spider.started) >= spider.site.pages:
            raise NotFetched("page_limit")
        spider.started.add(request.url)

    def process_response(self, request: Request, response: Response) -> Response:
        """A robots.txt that the server fails to send forbids all, one that it says is absent nothing (RFC 9309)."""
        if _is_robots(request) and response.status >= 400:
            return response.replace(body=b"User-agent: *\nDisallow: /\n" if response.status >= 500 else b"")
        return response

    def process_exception(self, request: Request, exception: Exception) -> Response | None:
        if _is_robots(request) and not isinstance(exception, IgnoreRequest):
            return Response(request.url, status=503, body=b"User-agent: *\nDisallow: /\n", request=request)
        return None


class Patience(_Middleware):
    """Leave a busy host alone as long as it asks (Retry-After, in seconds; RFC 9110, section 10.2.3)."""

    def process_response(self, request: Request, response: Response) -> Response:
        wait = response.headers.get("Retry-After") or b""
        slot = self.crawler.engine.downloader.slots.get(urlsplit(request.url).hostname or "")
        if response.status in (429, 503) and wait.isdigit() and slot and int(wait) > slot.delay:
            usual, slot.delay = slot.delay, min(int(wait), LONGEST_PAUSE)
            call_later(slot.delay, setattr, slot, "delay", usual)
        return response


def robot_wishes(response: Response) -> set[str]:
    """What a page asks of robots, such as noindex, in its header X-Robots-Tag or its tags <meta name="robots">.

    A header that names another robot, as in "otherbot: noindex", is for that one.
    """
    said: list[str] = []
    for value in response.headers.getlist("X-Robots-Tag"):
        robot, colon, wishes = value.decode("latin-1").rpartition(":")
        if not colon or robot.strip().lower() == ROBOT:
            said.append(wishes)
    if isinstance(response, HtmlResponse):
        said += response.xpath("//meta[translate(@name, 'ROBTS', 'robts') = 'robots']/@content").getall()
    return set(" ".join(said).lower().replace(",", " ").split())


def _is_robots(request: Request) -> bool:
    return bool(request.meta.get("dont_obey_robotstxt"))


class WarcStorage:
    """Scrapy's store of answers: every one is a WARC record, flushed before its line in `fetched.jsonl`."""

    def __init__(self, settings: Any) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def open_spider(self, spider: SiteSpider) -> None:
        """Open the files of a crawl that was killed, or new ones, without what it had half written."""
        self.out = spider.out
        ends = {PAGES: 0, OTHERS: 0}
        kept = 0
        fetched = self.out / FETCHED
        for line in fetched.read_bytes().splitlines(keepends=True) if fetched.exists() else []:
            if not line.endswith(b"\n"):
                break
            row = json.loads(line)
            self.rows[row["url"]] = row
            ends[row["file"]] = row["offset"] + row["length"]
            kept += len(line)
        self.index = open(fetched, "ab")  # noqa: SIM115 (closed when the spider is)
        self.files = {name: open(self.out / name, "ab") for name in ends}  # noqa: SIM115
        for file, end in ((self.index, kept), *((self.files[name], end) for name, end in ends.items())):
            file.truncate(end)

    def close_spider(self, spider: SiteSpider) -> None:
        for file in (self.index, *self.files.values()):
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def retrieve_response(self, spider: SiteSpider, request: Request) -> Response | None:
        row = self.rows.get(request.url)
        if row is None:
            return None
        with open(self.out / row["file"], "rb") as file:
            file.seek(row["offset"])
            record = gzip.decompress(file.read(row["length"]))
        block = record.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n\r\n")
        head, _, body = block.partition(b"\r\n\r\n")
        headers = Headers()
        for line in head.split(b"\r\n")[1:]:
            field, _, value = line.partition(b": ")
            headers.appendlist(field, value)
        kind = responsetypes.from_args(headers=headers, url=request.url, body=body)
        return kind(url=request.url, status=row["status"], headers=headers, body=body)

    def store_response(self, spider: SiteSpider, request: Request, response: Response) -> None:
        head = f"HTTP/1.1 {response.status} \r\n".encode()
        for name, values in response.headers.items():
            head += b"".join(name + b": " + value + b"\r\n" for value in values if name not in NOT_STORED)
        block = head + b"\r\n" + response.body
        fields = {"WARC-Target-URI": request.url, "WARC-Payload-Digest": warc_digest(response.body)}
        kind = "application/http; msgtype=response"
        record = warc_record("response", kind, block, datetime.now(UTC), uuid.uuid4(), fields)
        is_page = response.status == 200 and not _is_robots(request) and not request.meta.get("sitemap")
        is_page = is_page and not robot_wishes(response) & {"noindex", "none"}
        file = self.files[place := PAGES if is_page else OTHERS]
        offset = file.tell()
        file.write(record)
        file.flush()
        row = {
            "url": request.url, "status": response.status, "file": place, "offset": offset, "length": len(record)
        }  # fmt: skip
        self.rows[request.url] = row
        self.index.write(json.dumps(row).encode() + b"\n")
        self.index.flush()
