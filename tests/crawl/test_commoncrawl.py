import gzip
import itertools
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from warcs import page_record, write_warc

from crawl2chat.crawl import Page, list_warcs, read_warc
from crawl2chat.crawl.commoncrawl import spread_evenly
from crawl2chat.crawl.settings import CommonCrawlSettings, CrawlSettings
from crawl2chat.crawl.stage import crawl
from crawl2chat.stages.files import StageError

CRAWL = "CC-MAIN-2026-30"


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves parts of files, as the real server does."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        part = data[int(begin) : int(end or len(data)) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{int(begin) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture(params=[RangeHandler, SimpleHTTPRequestHandler], ids=["ranges", "no ranges"])
def base_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    folder = tmp_path / "served"
    paths = [f"crawl-data/{CRAWL}/segments/{i}/warc/{i}.warc.gz" for i in range(10)]
    for i, path in enumerate(paths):
        write_warc(folder / path, [page_record(100 * i + j) for j in range(3)])
    listing = folder / "crawl-data" / CRAWL / "warc.paths.gz"
    listing.write_bytes(gzip.compress("\n".join(paths).encode()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(request.param, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def settings(base_url: str, **fields: object) -> CrawlSettings:
    return CrawlSettings(source="commoncrawl", commoncrawl=CommonCrawlSettings(base_url=base_url, **fields))


def test_pages_of_chosen_warcs_are_streamed_from_the_server(tmp_path, base_url):
    crawl(tmp_path / "crawl", settings(base_url, crawl_id=CRAWL, n_warcs=2))
    warcs = list_warcs(tmp_path / "crawl")
    assert len(warcs) == 2
    pages = [page for warc in warcs for page in read_warc(warc)]
    assert [type(page) for page in pages] == [Page] * 6
    assert all(page.place.warc.startswith(base_url) for page in pages)
    assert [path.name for path in (tmp_path / "crawl").iterdir()] == ["warcs.json"]


def test_zero_takes_the_whole_listing(tmp_path, base_url):
    crawl(tmp_path / "crawl", settings(base_url, crawl_id=CRAWL, n_warcs=0))
    assert [Path(place).name for place in list_warcs(tmp_path / "crawl")] == [f"{i}.warc.gz" for i in range(10)]


def test_given_paths_are_taken_without_the_listing(tmp_path, base_url):
    path = f"crawl-data/{CRAWL}/segments/7/warc/7.warc.gz"
    crawl(tmp_path / "crawl", settings(base_url, paths=[path]))
    assert json.loads((tmp_path / "crawl" / "warcs.json").read_text()) == [{"place": f"{base_url}/{path}"}]
    assert [page.url[-3:] for page in read_warc(f"{base_url}/{path}")] == ["700", "701", "702"]


def test_a_crawl_that_does_not_exist_is_named(tmp_path, base_url):
    with pytest.raises(StageError, match=r"CC-MAIN-1999-01/warc\.paths\.gz: there is no such file"):
        crawl(tmp_path / "crawl", settings(base_url, crawl_id="CC-MAIN-1999-01"))


def test_without_a_network_the_error_says_that_one_is_needed(tmp_path):
    with pytest.raises(StageError, match="a network is needed"):
        crawl(tmp_path / "crawl", settings("http://127.0.0.1:9", crawl_id=CRAWL))


def test_the_choice_is_even_and_decided_by_the_seed():
    paths = [str(i) for i in range(1000)]
    chosen = [int(path) for path in spread_evenly(paths, 10, seed=3)]
    assert {b - a for a, b in itertools.pairwise(chosen)} == {100}
    assert spread_evenly(paths, 10, seed=3) == [str(i) for i in chosen]
    assert spread_evenly(paths, 10, seed=5) != [str(i) for i in chosen]
    assert spread_evenly(paths, 1000, seed=0) == paths
    with pytest.raises(StageError, match="n_warcs = 1001, but the crawl has only 1000"):
        spread_evenly(paths, 1001, seed=0)
