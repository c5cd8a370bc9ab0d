import json
import os

import pytest
from warcs import page_record, write_warc

from crawl2chat.crawl import list_warcs
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.crawl.stage import crawl
from crawl2chat.recipe import RecipeError, load_settings
from crawl2chat.run import StageError


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


def test_addresses_are_listed_without_being_opened(tmp_path):
    crawl(
        tmp_path / "out", CrawlSettings(source="warc", warc=["s3://bucket/a.warc.gz", "https://example.org/b.warc.gz"])
    )
    assert [entry["place"] for entry in json.loads((tmp_path / "out" / "warcs.json").read_text())] == [
        "s3://bucket/a.warc.gz",
        "https://example.org/b.warc.gz",
    ]


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
