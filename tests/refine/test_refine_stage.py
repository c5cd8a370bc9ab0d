import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from warcs import html, http, page_record, prose, record, write_warc

from crawl2chat.crawl import Fault, Page, Place
from crawl2chat.refine import steps
from crawl2chat.refine.pages import refine_pages
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import refine
from crawl2chat.refine.steps import KeptPage, Reject, check_response, refine_page
from crawl2chat.refine.tables import ROWS
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import hash_files

GERMAN = "Der Müller ging am Morgen zum Fluss, und niemand hatte ihm gesagt, dass die alte Brücke fort war. " * 9


def some_web(folder: Path) -> None:
    """Three WARCs with a page for most reasons to drop one."""
    first = [
        record(b"software: x", kind="warcinfo", content_type="application/warc-fields"),
        *(page_record(i, prose(i, 24)) for i in range(10)),
        page_record(10, GERMAN),
        page_record(11, prose(3, 24), url="https://copies.example/exact"),
        page_record(12, prose(4, 60)),
        page_record(13, "Too short to say anything at all to anybody. And that is that."),
        page_record(14, prose(14), length=10**13),
    ]
    second = [
        page_record(20, prose(4, 60) + " And one sentence more.", url="https://copies.example/near"),
        page_record(21, prose(21, 24), url="https://casino.example/"),
        record(http(html(prose(22, 24)), status="404 Not Found"), "https://example.org/gone"),
        record(http(b"%PDF", "Content-Type: application/pdf"), "https://example.org/paper"),
        record(http(html("")), "https://example.org/empty"),
        page_record(23, prose(23, 24) + "\n\nWrite to miller@mill.example.org or 8.8.8.8, he answers in a day."),
    ]
    write_warc(folder / "a.warc.gz", first)
    write_warc(folder / "b.warc.gz", second)
    write_warc(folder / "c.warc", [page_record(i, prose(i, 24)) for i in range(30, 40)], "plain")


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crawl")
    some_web(folder)
    return folder


@pytest.fixture(scope="module")
def refined(crawled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("refine")
    refine(crawled, out, RefineSettings(workers=2))
    return out


def rows(out: Path, table: str) -> list[dict]:  # type: ignore[type-arg]
    return [row for file in sorted((out / table).iterdir()) for row in pq.read_table(file).to_pylist()]


def test_every_page_and_every_fault_is_a_document_or_a_reject(refined):
    documents, rejects = rows(refined, "documents"), rows(refined, "rejects")
    places = [(row["place"]["warc"], row["place"]["offset"], row["place"]["within"]) for row in [*documents, *rejects]]
    assert len(set(places)) == len(places) == 15 + 6 + 10
    assert {place[0] for place in places} == {"a.warc.gz", "b.warc.gz", "c.warc"}
    assert len({row["id"] for row in documents}) == len(documents)


def test_rejects_say_which_step_dropped_them_and_why(refined):
    reasons = {
        row["url"].rpartition("/")[2] or row["url"]: (row["step"], row["reason"]) for row in rows(refined, "rejects")
    }
    assert reasons == {
        "": ("read", "bad_content_length"),
        "10": ("language", "other_language"),
        "exact": ("exact_duplicates", "copy"),
        "12": ("near_duplicates", "copy"),
        "13": ("gopher_quality", "too_few_words"),
        "https://casino.example/": ("url", "host_word"),
        "gone": ("response", "http_status"),
        "paper": ("response", "not_html"),
        "empty": ("extract", "no_text"),
    }


def test_a_copy_names_the_document_that_stayed(refined):
    ids = {row["id"]: row["url"] for row in rows(refined, "documents")}
    copies = {row["url"]: row for row in rows(refined, "rejects") if row["reason"] == "copy"}
    assert ids[copies["https://copies.example/exact"]["copy_of"]] == "https://host3.example.org/3"
    assert ids[copies["https://host5.example.org/12"]["copy_of"]] == "https://copies.example/near"
    assert copies["https://host5.example.org/12"]["detail"] == "https://copies.example/near"


def test_a_document_says_how_many_were_dropped_as_its_copies(refined):
    copies = {row["url"]: row["copies"] for row in rows(refined, "documents") if row["copies"]}
    assert copies == {"https://host3.example.org/3": 1, "https://copies.example/near": 1}


def test_results_do_not_depend_on_how_much_deduplication_holds_at_a_time(crawled, refined, tmp_path):
    refine(crawled, tmp_path / "out", RefineSettings(workers=2, partition_mb=0.004))
    assert hash_files(tmp_path / "out") == hash_files(refined)


def test_documents_hold_clean_text_and_no_personal_data(refined):
    documents = {row["url"]: row for row in rows(refined, "documents")}
    assert documents["https://host1.example.org/1"]["text"].split() == prose(1, 24).split()
    assert documents["https://host1.example.org/1"]["language"] == "en"
    assert "email@example.com or 192.0.2.1" in documents["https://host2.example.org/23"]["text"]


def test_the_funnel_adds_up(refined):
    funnel = json.loads((refined / "funnel.json").read_text())
    assert funnel["pages"] + funnel["faults"] == funnel["steps"][0]["in"] == 31
    for before, after in zip(funnel["steps"], funnel["steps"][1:], strict=False):
        assert before["out"] == before["in"] - sum(before["dropped"].values()) == after["in"]
    assert funnel["steps"][-1]["out"] == funnel["kept"] == len(rows(refined, "documents"))
    assert funnel["masked"] == {"emails": 1, "ips": 1}
    assert funnel["records_that_are_no_pages"] == {"warcinfo": 1}
    assert sorted(path.name for path in refined.iterdir()) == ["documents", "funnel.json", "rejects"]


def test_results_do_not_depend_on_the_number_of_workers_or_the_folder(crawled, refined, tmp_path):
    shutil.copytree(crawled, tmp_path / "moved")
    figures = refine(tmp_path / "moved", tmp_path / "out", RefineSettings(workers=1))
    assert hash_files(tmp_path / "out") == hash_files(refined)
    names = {"pages", "faults", "kept", "kept_share", "characters_kept", "speed", "signature_version", "lines_dropped"}
    assert names < {figure.name for figure in figures}


def test_rejects_are_in_row_groups_so_that_some_of_them_can_be_read_alone(tmp_path):
    records = [record(http(b"gone", status="404 Not Found"), f"https://a.example/{i}") for i in range(2 * ROWS + 1)]
    write_warc(tmp_path / "crawl" / "a.warc.gz", records)
    refine(tmp_path / "crawl", tmp_path / "out", RefineSettings(workers=1))
    footer = pq.read_metadata(tmp_path / "out" / "rejects" / "part-00000.parquet")
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [ROWS, ROWS, 1]


def test_a_killed_run_goes_on_and_ends_with_the_same_files(crawled, refined, tmp_path):
    out = tmp_path / "out"
    program = (
        "import sys; from pathlib import Path; from crawl2chat.refine.stage import refine; "
        "from crawl2chat.refine.settings import RefineSettings; "
        "refine(Path(sys.argv[1]), Path(sys.argv[2]), RefineSettings(workers=1))"
    )
    run = [sys.executable, "-c", program, str(crawled), str(out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(run, env=environment)
    end = time.monotonic() + 300
    while not (out / "shards" / "00000").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (out / "funnel.json").exists()
    first = (out / "shards" / "00000" / "documents.parquet").stat().st_ino
    linked = tmp_path / "kept_to_compare"
    os.link(out / "shards" / "00000" / "documents.parquet", linked)
    subprocess.run(run, env=environment, check=True)
    assert hash_files(out) == hash_files(refined)
    assert linked.stat().st_ino == first
    assert linked.stat().st_nlink == 1  # what was done before the kill was used and then removed


def test_a_run_killed_while_it_tidied_up_only_tidies_up(refined, tmp_path):
    shutil.copytree(refined, tmp_path / "out")
    (tmp_path / "out" / "shards" / "00001").mkdir(parents=True)
    figures = refine(Path("not needed any more"), tmp_path / "out", RefineSettings())
    assert hash_files(tmp_path / "out") == hash_files(refined)
    assert {figure.name: figure.value for figure in figures}["pages"] == 30


def test_rule_sets_can_be_switched_off(tmp_path):
    warc = write_warc(tmp_path / "a.warc.gz", [page_record(1, "Short and { odd."), page_record(2, GERMAN)])
    off = {"enabled": False}
    settings = RefineSettings(
        languages=[],
        min_language_score=0,
        gopher_repetition=off,
        gopher_quality=off,
        c4=off,
        fineweb=off,
        mask_pii=False,
    )
    refine(warc, tmp_path / "out", settings)
    assert [row["text"] for row in rows(tmp_path / "out", "documents")] == ["Short and { odd.", GERMAN.strip()]


def test_a_missing_blocklist_is_told_before_any_work(crawled, tmp_path):
    with pytest.raises(StageError, match=r"refine\.blocklist = .*none"):
        refine(crawled, tmp_path, RefineSettings(blocklist=str(tmp_path / "none")))


def page(i: int, body: bytes) -> Page:
    return Page(f"https://example.org/{i}", 200, "text/html", {}, body, Place("a", i), "")


NESTED = b"<div>" * 40_000 + b"text"  # takes resiliparse most of a minute


def patience(seconds: float) -> RefineSettings:
    return RefineSettings(extractor="resiliparse", extract_seconds=seconds)


def test_a_page_that_takes_too_long_is_dropped_and_the_others_are_kept():
    pages = [page(i, NESTED if i == 1 else html(prose(i, 24))) for i in range(6)]
    found = list(refine_pages(iter(pages), patience(1), workers=2))
    assert [type(item) for item in found] == [KeptPage, Reject, KeptPage, KeptPage, KeptPage, KeptPage]
    assert [item.place.offset for item in found] == list(range(6))
    assert (found[1].step, found[1].reason, found[1].value) == ("extract", "timeout", 1)


@pytest.mark.parametrize(("kills", "expected"), [(1, "timeout"), (2, "crashed")])
def test_a_page_whose_process_dies_twice_is_dropped(kills, expected):
    stop = threading.Event()

    def kill_children() -> None:
        killed: set[int] = set()
        while len(killed) < kills and not stop.is_set():
            for child in multiprocessing.active_children():
                if child.pid and child.pid not in killed and len(killed) < kills and is_at_work(child.pid):
                    killed.add(child.pid)
                    os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_children)
    thread.start()
    try:
        found = list(refine_pages(iter([page(0, NESTED)]), patience(2), workers=1))
    finally:
        stop.set()
        thread.join()
    assert [item.reason for item in found if isinstance(item, Reject)] == [expected]


def is_at_work(process: int) -> bool:
    """It has computed for longer than starting takes."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 1.5


BARE_XML = "<?xml version='1.0'?><rss><title>News</title></rss>"
PDF = "%PDF-1.7 <html>"


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("TEXT/HTML ; charset=utf-8", "text", None),
        ("text/html, text/html", "text", None),
        ("application/xhtml+xml", "text", None),
        ("text/html charset=utf-8", "text", None),
        ('"text/html"', "text", None),
        ("text/html;charset=utf-8;", "text", None),
        ("text/htmlx", "<!doctype html><p>text", "not_html"),
        ("image/png, text/html", "<!doctype html><p>text", "not_html"),
        ("text/plain", "<!doctype html><p>text", "not_html"),
        ("application/json", '{"text": 1}', "not_html"),
        ("application/pdf", PDF, "not_html"),
        # Types that say nothing, or no type: the body decides.
        *(
            (content_type, body, reason)
            for content_type in ("", "unknown/unknown", "*/*", "html", "text", "text/", "/", "application/unknown")
            for body, reason in [
                ("<!doctype html><p>text", None),
                ("\ufeff<HTML><p>text", None),
                (" \r\n\t<!-- a comment --><!-- and one --> <html><p>text", None),
                ("<!-- a comment --> text", None),
                ('<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html>', None),
                ("<P>text", None),
                (BARE_XML, "not_html"),
                ("<rss><channel>", "not_html"),
                ("<svg xmlns=x><title>a</title></svg>", "not_html"),
                ("only text", "not_html"),
                (PDF, "not_html"),
                ('{"text": 1}', "not_html"),
                ("\x89PNG\r\n", "not_html"),
            ]
        ),
        # Types of any file: a whole document is one.
        ("application/octet-stream", "<!doctype html><p>text", None),
        ("application/xml", '<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml">', None),
        ("text/xml", BARE_XML, "not_html"),
        ("application/octet-stream", "<p>text", "not_html"),
    ],
)
def test_only_html_can_be_a_document(content_type, body, reason):
    assert check_response(replace(page(0, body.encode()), content_type=content_type)).reason == reason
    if body.startswith("<!doctype"):
        utf16 = replace(page(0, body.encode("utf-16")), content_type=content_type)
        assert check_response(utf16).reason == reason


@pytest.mark.parametrize("begin", [b"<!--", b"<?", b" ", b"<!-- -->", b"<? >", b"<!-- --> x"])
def test_the_start_of_a_body_is_read_in_time(begin):
    assert check_response(replace(page(0, begin * 1_000_000), content_type="")).reason in (
        None,
        "not_html",
        "empty_body",
    )


def test_texts_of_a_wet_file_become_documents(tmp_path):
    texts = [prose(i, 24).replace("\n\n", "\n") for i in range(3)]
    records = [
        record(text.encode(), f"https://example.org/{i}", kind="conversion", content_type="text/plain")
        for i, text in enumerate(texts)
    ]
    refine(write_warc(tmp_path / "a.warc.wet.gz", records), tmp_path / "out", RefineSettings(workers=1))
    assert [row["text"] for row in rows(tmp_path / "out", "documents")] == texts


def test_records_that_are_not_pages_are_shown(tmp_path, capsys):
    records = [
        page_record(1, prose(1, 24)),
        record(b"{}", kind="metadata", content_type="application/json"),
        record(b"x", "https://example.org/a.png", kind="resource", content_type="image/png"),
        record(b"HTTP/1.1 200 OK\r\n\r\n", kind="revisit"),
        record(b"HTTP/1.1 200 OK\r\n\r\n", kind="revisit"),
    ]
    figures = refine(write_warc(tmp_path / "a.warc", records, "plain"), tmp_path / "out", RefineSettings(workers=1))
    shown = {figure.name: figure.value for figure in figures if figure.name.startswith("other_records/")}
    assert shown == {"other_records/metadata": 1, "other_records/resource": 1, "other_records/revisit": 2}
    assert "refine: 4 records are not pages: 2 revisit, 1 metadata, 1 resource" in capsys.readouterr().err


NO_PAGES = {
    "a.html": (lambda: [b"<!doctype html><p>text"], "a.html: expected WARC/1.0, found HTML; `wget"),
    "empty.warc.gz": (lambda: [], "empty.warc.gz: the file holds no bytes"),
    "requests.warc": (
        lambda: [record(b"GET / HTTP/1.1\r\n\r\n", kind="request")] * 3,
        r"requests.warc: only records of other types \(3 request\)",
    ),
    "a.warc.wat.gz": (
        lambda: [record(b"{}", kind="metadata", content_type="application/json")] * 2,
        "2 metadata.*WAT files; give the WARC or WET files",
    ),
}


@pytest.mark.parametrize("name", NO_PAGES)
def test_a_run_that_finds_no_page_says_what_it_found(tmp_path, name):
    make, said = NO_PAGES[name]
    file = write_warc(tmp_path / name, make(), "plain")
    for _ in range(2):  # what was read is used again, and gives the same
        with pytest.raises(StageError, match=rf"(?s)no page found; pages are WARC records of type .*{said}"):
            refine(file, tmp_path / "out", RefineSettings(workers=1))


@pytest.mark.parametrize("step", ["classifier", "near_duplicates"])
def test_a_page_that_can_not_be_scored_or_signed_is_dropped(step, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setitem(steps.PREPARATIONS, step, fail)
    found = refine_page(page(0, html(prose(0, 24))), RefineSettings())
    assert isinstance(found, Reject)
    assert (found.step, found.reason, found.value) == (step, "memory", 1000)


def test_a_stage_that_stops_early_leaves_no_process():
    pages = (page(i, html(prose(i, 24))) for i in range(1000))
    some = refine_pages(pages, RefineSettings(), workers=2)
    next(some)
    some.close()
    assert multiprocessing.active_children() == []


def test_faults_pass_in_order():
    fault = Fault(Place("a", 1), "truncated", "")
    found = list(refine_pages(iter([page(0, html(prose(0, 24))), fault]), RefineSettings(), workers=1))
    assert isinstance(found[1], Reject)
    assert (found[1].step, found[1].reason) == ("read", "truncated")


@pytest.mark.skipif("CRAWL2CHAT_SHARED" not in os.environ, reason="CRAWL2CHAT_SHARED names no folder with real pages")
def test_real_pages_are_all_accounted_for(tmp_path):
    warc = Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "web-pages" / "web-pages.warc.gz"
    refine(warc, tmp_path, RefineSettings())
    assert len(rows(tmp_path, "documents")) + len(rows(tmp_path, "rejects")) == 990
