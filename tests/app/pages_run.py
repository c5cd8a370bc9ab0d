"""A run as far as refining whose pages a test has written, hostile ones among them."""

from pathlib import Path

from warcs import html, http, page_record, prose, record, write_warc

from crawl2chat.cli.main import main

N_GOOD = 120
EVIL_URL = "https://evil.example.org/<script>window.hacked=1</script>/x"
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script><svg onload="window.hacked=1">'
SHORT_URL = "https://host3.example.org/short"
STAYED_URL, EXACT_URL = "https://copies.example.org/second", "https://copies.example.org/first"  # and host1's page 1


def evil_page() -> bytes:
    """Scripts in the source, and text that would be one if it were taken for HTML."""
    quoted = EVIL.replace("&", "&amp;").replace("<", "&lt;")
    text = prose(999, 24).replace("\n\n", f" {quoted} is what they said there.\n\n", 1)
    return html(text, f"{EVIL}</title><base href=javascript:window.hacked=1//>").replace(
        b"<nav>", EVIL.encode() + b"<nav>"
    )


def write_pages_run(run: Path) -> Path:
    """N_GOOD good pages, one in German, a short one, two copies, an error, and a hostile one."""
    german = (
        "Der Müller ging am Abend nach Hause, und er aß mit den anderen, die schon lange auf ihn gewartet hatten. " * 8
    )
    extra = [
        page_record(3, "The miller went home in the evening, and he had his supper.", url=SHORT_URL),
        page_record(1, url=EXACT_URL),
        page_record(1, prose(1).replace(" the ", " that ", 1), url=STAYED_URL),
        page_record(0, german, url="https://host0.example.org/german"),
        record(http(b"gone", status="404 Not Found"), "https://host0.example.org/gone"),
        record(http(evil_page(), "Content-Type: text/html; charset=utf-8; x=<b>"), EVIL_URL),
        record(b"no answer of a server", "https://host0.example.org/broken"),
    ]
    write_warc(run / "crawl" / "a.warc.gz", [page_record(i) for i in range(N_GOOD)])
    write_warc(run / "crawl" / "b.warc.gz", extra)
    command = ["refine", str(run / "crawl"), "--out", str(run / "refine"), "--refine.workers", "1"]
    assert main(command) == 0
    return run
