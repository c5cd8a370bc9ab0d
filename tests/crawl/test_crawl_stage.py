import gzip
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from warcs import page_record, write_warc

from crawl2chat.crawl import list_warcs
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.crawl.stage import crawl
from crawl2chat.stages.files import StageError
from crawl2chat.stages.settings import RecipeError, load_settings


def test_paths_folders_and_globs_name_warcs(tmp_path):
    for name in ("a.warc.gz", "b.warc.gz", "deep/c.warc", "deep/d.txt"):
        write_warc(tmp_path / "in" / name, [page_record(1)], "plain")
    settings = CrawlSettings(source="warc", warc=[f"{tmp_path}/in/*.gz", f"{tmp_path}/in/deep"])
    figures = {figure.name: figure.value for figure in crawl(tmp_path / "out", settings)}
    names = [warc.rpartition("/")[2] for warc in list_warcs(tmp_path / "out")]
    assert names == ["a.warc.gz", "b.warc.gz", "c.warc"]
    assert figures == {"warcs": 3, "bytes": 3 * len(page_record(1))}


def test_a_warc_that_changed_after_the_crawl_stage_is_told(tmp_path):
    warc = write_warc(tmp_path / "a.warc.gz", [page_record(1)])
    crawl(tmp_path / "out", CrawlSettings(source="warc", warc=str(warc)))
    before = (tmp_path / "out" / "warcs.json").read_bytes()
    os.utime(warc, (1, 1))
    with pytest.raises(StageError, match=r"a\.warc\.gz: has changed or gone since the crawl stage; run crawl again"):
        list_warcs(tmp_path / "out")
    crawl(tmp_path / "out", CrawlSettings(source="warc", warc=str(warc)))
    assert (tmp_path / "out" / "warcs.json").read_bytes() != before
    assert list_warcs(tmp_path / "out") == [str(warc)]


def test_a_folder_and_a_file_are_crawls_too(tmp_path):
    warc = write_warc(tmp_path / "deep" / "a.warc.gz", [page_record(1)])
    assert list_warcs(tmp_path) == [str(warc)]
    assert list_warcs(warc) == [str(warc)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageError, match=r"no WARC file here; expected \*\.warc"):
        list_warcs(tmp_path / "empty")


def test_a_pattern_without_files_is_named(tmp_path):
    with pytest.raises(StageError, match=r"none\*\.warc: there is no such file"):
        crawl(tmp_path / "out", CrawlSettings(source="warc", warc=f"{tmp_path}/none*.warc"))


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.warc.wet.gz", "a.wet.gz", "a.wet", "A.WARC.GZ"])
def test_names_of_warc_and_wet_files_are_known(tmp_path, name):
    file = write_warc(tmp_path / "in" / name, [page_record(1)])
    write_warc(tmp_path / "in" / "a.cdx.gz", [])
    assert list_warcs(tmp_path / "in") == [str(file)]
    crawl(tmp_path / "out", CrawlSettings(source="warc", warc=f"{tmp_path}/in"))
    assert list_warcs(tmp_path / "out") == [str(file)]


def test_a_folder_without_warcs_says_what_is_in_it(tmp_path):
    for name in ("a.html", "b/c.html", "d.wat.gz"):
        write_warc(tmp_path / name, [])
    found = r"no WARC file here; expected .*; found 2 \*\.html, 1 \*\.wat\.gz"
    with pytest.raises(StageError, match=found):
        list_warcs(tmp_path)
    with pytest.raises(StageError, match=found):
        crawl(tmp_path / "out", CrawlSettings(source="warc", warc=str(tmp_path)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_file_of_another_format_is_refused_before_any_work(tmp_path, pack):
    (tmp_path / "a.warc.gz").write_bytes(pack(b"<!doctype html><p>a page"))
    with pytest.raises(StageError, match=r"a\.warc\.gz: expected a WARC file, found HTML; `wget"):
        crawl(tmp_path / "out", CrawlSettings(source="warc", warc=f"{tmp_path}/*"))


@pytest.mark.parametrize("begin", [b"", b"a line before\n", b"\x1f\x8b\x08 broken", bytes(100)])
def test_a_damaged_warc_is_the_readers_business(tmp_path, begin):
    data = gzip.compress(page_record(1)) if begin.startswith(b"\x1f\x8b") else page_record(1)
    (tmp_path / "a.warc.gz").write_bytes(begin + data if begin else b"")
    crawl(tmp_path / "out", CrawlSettings(source="warc", warc=str(tmp_path)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_are_opened_once_and_listed(tmp_path, server):
    for i in range(40):
        write_warc(tmp_path / "served" / f"{i}.warc.gz", [page_record(i)])
    addresses = [f"{server}/{i}.warc.gz" for i in range(40)]
    crawl(tmp_path / "out", CrawlSettings(source="warc", warc=addresses))
    assert list_warcs(tmp_path / "out") == addresses


def test_an_address_that_can_not_be_reached_is_told_before_any_work(tmp_path, server):
    write_warc(tmp_path / "served" / "a.warc.gz", [page_record(1)])
    for address, said in [
        ("http://127.0.0.1:9/a.warc.gz", "can't be reached"),
        (f"{server}/b", "there is no such file"),
    ]:
        with pytest.raises(StageError, match=said):
            crawl(tmp_path / "out", CrawlSettings(source="warc", warc=[f"{server}/a.warc.gz", address]))
        assert not (tmp_path / "out" / "warcs.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source", "warc"], 'source is "warc" but no WARC is named; give --crawl.warc PATH'),
        (["--warc", "a.warc"], 'warc names a.warc but source is "tinyweb"; give --crawl.source warc too'),
        (["--source", "commoncrawl"], 'source is "commoncrawl" but no crawl is named'),
    ],
)
def test_settings_that_do_not_fit_together_are_one_clear_error(flags, message):
    with pytest.raises(RecipeError, match=message):
        load_settings(CrawlSettings, flags=flags)


def test_a_path_on_the_command_line_is_enough_for_a_recipe_of_warcs(tmp_path):
    (tmp_path / "pages.toml").write_text('source = "warc"')
    assert load_settings(CrawlSettings, tmp_path / "pages.toml", ["--warc", "my pages.warc.gz"]).warc == [
        "my pages.warc.gz"
    ]
