import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from statistics import median

import pytest

from crawl2chat.crawl import Page, read_warc
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.crawl.site import check_site
from crawl2chat.crawl.stage import crawl
from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.stages.files import StageError

CRAWL_DELAY = 0.1  # seconds
GERMAN = "<p>Ein naßkalter Fühler, übel gelaunt, fährt früh über Österreich"
LINKS = (
    "/a /private/x /missing /loop1 /cal/0 /q?n=0 /slow /huge /gz {other}/linked /away /latin /old /broken "
    "/unlisted /header /busy #top mailto:x"
)
BUSY = 1  # seconds that /busy asks to be left alone


def links(*addresses: str) -> bytes:
    return "".join(f'<p>Some text.</p><a href="{address}">here</a>' for address in addresses).encode()


class Site(BaseHTTPRequestHandler):
    """A site with everything that a crawler may meet; `server.asked` has each request's time, path and user agent."""

    def do_GET(self):
        path, server = self.path, self.server
        server.asked.append((time.monotonic(), path, self.headers["User-Agent"]))
        robots = f"User-agent: *\nCrawl-delay: {CRAWL_DELAY}\nDisallow: /private\nSitemap: /map.xml\n"
        listed = f"<urlset><url><loc>/from-map</loc></url><url><loc>{server.other}/in-map</loc></url></urlset>"
        answers = {
            "/robots.txt": {"status": server.robots, "body": robots.encode(), "Content-Type": "text/plain"},
            "/map.xml": {"body": listed.encode(), "Content-Type": "text/xml"},
            "/": {"body": links(*LINKS.format(other=server.other).split())},
            "/loop1": {"status": 302, "Location": "/loop2"},
            "/loop2": {"status": 302, "Location": "/loop1"},
            "/old": {"status": 301, "Location": "/new"},
            "/away": {"status": 302, "Location": f"{server.other}/away"},
            "/gz": {"body": gzip.compress(links("/deep")), "Content-Encoding": "gzip"},
            "/latin": {"body": GERMAN.encode("latin-1")},  # and not UTF-8, as it says
            "/huge": {"body": b"x" * 300_000},
            "/unlisted": {"body": b'<meta name="robots" content="NoIndex">' + links("/from-unlisted")},
            "/header": {"body": b"Not for robots.", "X-Robots-Tag": "noindex, nofollow"},
            "/missing": {"status": 404, "body": links("/never")},
        }
        if path.startswith(("/cal/", "/q?n=")):
            before, number = path[:5], int(path[5:])
            self.answer(body=links(f"{before}{number + 1}"))
        elif path == "/busy" and not any(earlier == "/busy" for _, earlier, _ in server.asked[:-1]):
            self.answer(429, **{"Retry-After": str(BUSY)})
        elif path == "/slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the crawler hangs up
                while not server.stop.wait(0.1):
                    self.wfile.write(b"<p>")
        elif path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"<p>and then nothing")
        else:
            self.answer(**answers.get(path, {"body": links("/")}))

    def answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content-Type": "text/html; charset=utf-8"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(robots: int = 200, other: str = "http://other.example"):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    server.asked, server.robots, server.other, server.stop = [], robots, other, threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()


def site(url: str, **settings) -> CrawlSettings:
    settings = {"delay": 0, "timeout": 1, "max_page_bytes": 100_000} | settings
    return CrawlSettings(source="site", site={"addresses": [f"{url}/"], **settings})


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory):
    """The folder of a crawl, the server that was crawled, and another one that it links to."""
    out = tmp_path_factory.mktemp("site")
    with serving() as other, serving(other=other.url) as server:
        crawl(out, site(server.url, depth=4, queries=3, contact="me@example.com"))
    return out, server, other


@pytest.mark.slow
def test_pages_are_stored_as_they_were_sent(crawled):
    out, server, _ = crawled
    pages = {page.url.removeprefix(server.url): page for page in read_warc(out / "warc" / "site.warc.gz")}
    assert all(isinstance(page, Page) and page.status == 200 for page in pages.values())
    walked = [f"/cal/{n}" for n in range(4)] + [f"/q?n={n}" for n in range(3)]
    assert sorted(pages) == sorted(
        ["/", "/a", "/busy", "/deep", "/from-map", "/from-unlisted", "/gz", "/latin", "/new", *walked]
    )
    assert pages["/gz"].body == links("/deep")
    assert decode_html(pages["/latin"].body, pages["/latin"].content_type) == GERMAN


@pytest.mark.slow
def test_no_other_host_is_asked_and_nothing_that_robots_txt_forbids(crawled):
    _, server, other = crawled
    assert other.asked == []
    assert not [path for _, path, _ in server.asked if path.startswith("/private")]


@pytest.mark.slow
def test_a_host_is_asked_as_slowly_as_it_wants_under_our_own_name(crawled):
    _, server, _ = crawled
    times = [when for when, path, _ in server.asked if path != "/robots.txt"]
    assert median(after - before for before, after in pairwise(times)) > 0.9 * CRAWL_DELAY
    assert {agent.partition("/")[0] for _, _, agent in server.asked} == {"crawl2chat"}
    assert all("(+me@example.com)" in agent for _, _, agent in server.asked)


@pytest.mark.slow
def test_a_server_that_is_busy_is_left_alone_as_long_as_it_asks(crawled):
    _, server, _ = crawled
    first = next(when for when, path, _ in server.asked if path == "/busy")
    assert min(when for when, path, _ in server.asked if when > first) - first > 0.9 * BUSY


@pytest.mark.slow
def test_what_was_not_fetched_is_listed_with_its_reason(crawled):
    out, server, _ = crawled
    left_out = {row["url"].removeprefix(server.url): row["reason"] for row in rows(out / "left_out.jsonl")}
    assert left_out == {
        "/private/x": "robots",
        "/missing": "http_status",
        "/loop1": "redirect_to_known",
        "/cal/4": "too_deep",
        "/q?n=3": "too_many_queries",
        "/slow": "timeout",
        "/huge": "too_large",
        "/away": "other_host",
        "/unlisted": "noindex",
        "/header": "noindex",
        "/broken": "failed",
    }


@pytest.mark.slow
def test_a_killed_crawl_asks_only_for_what_is_left(tmp_path):
    with serving() as server:
        code = f"""
from crawl2chat.crawl.stage import crawl
from crawl2chat.crawl.settings import CrawlSettings
if __name__ == "__main__":
    crawl({str(tmp_path)!r}, CrawlSettings.model_validate_json({site(server.url, pages=12).model_dump_json()!r}))
"""
        (tmp_path / "run.py").write_text(code)
        command = [sys.executable, str(tmp_path / "run.py")]
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 60
        while len(server.asked) < 7 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stored = [row["url"] for row in rows(tmp_path / "fetched.jsonl")]
        with open(tmp_path / "warc" / "site.warc.gz", "ab") as warc:
            warc.write(b"half a record")
        server.asked.clear()
        assert subprocess.run(command).returncode == 0
        asked = Counter(path for _, path, _ in server.asked)
    assert len(stored) >= 4
    assert not asked.keys() & {url.removeprefix(server.url) for url in stored}
    pages = list(read_warc(tmp_path / "warc" / "site.warc.gz"))
    assert all(isinstance(page, Page) for page in pages)
    assert len({page.url for page in pages}) == len(pages)
    left_out = Counter(row["reason"] for row in rows(tmp_path / "left_out.jsonl"))
    assert left_out["page_limit"] > 0
    assert sum(row["file"].startswith("warc/") for row in rows(tmp_path / "fetched.jsonl")) == len(pages)


@pytest.mark.slow
def test_a_robots_txt_that_can_not_be_read_forbids_all(tmp_path):
    with serving(robots=503) as server, pytest.raises(StageError, match=r"no page could be fetched: .*/: robots"):
        crawl(tmp_path, site(server.url))
    assert {path for _, path, _ in server.asked} == {"/robots.txt"}


def test_an_address_that_is_not_one_of_the_web_is_refused():
    with pytest.raises(StageError, match=r"site\.addresses = docs\.example\.org: expected a web address, such as"):
        check_site(CrawlSettings(source="site", site={"addresses": "docs.example.org"}).site)
