"""Write the made-up web: WARC files as a crawler leaves them, the files that teach, and the ledger of the truth."""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crawl2chat.chat.conversations import write_conversations
from crawl2chat.chat.presets import PRESETS
from crawl2chat.crawl import stage as crawl_stage
from crawl2chat.crawl.settings import CrawlSettings, TinywebSettings
from crawl2chat.crawl.writing import warc_digest, warc_record
from crawl2chat.evals.questions import write_questions
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, atomic_write, write_json, write_jsonl
from crawl2chat.tinyweb.html import render
from crawl2chat.tinyweb.ledger import write_lines
from crawl2chat.tinyweb.pages import Page
from crawl2chat.tinyweb.showing import presets_of, prompt_rows, taste
from crawl2chat.tinyweb.teaching import REFUSALS, conversations_of, problem_rows, question_rows
from crawl2chat.tinyweb.web import make_web
from crawl2chat.tinyweb.world import World, make_world

FILES = 4
_SERVERS = ("nginx", "Apache/2.4.62 (Debian)", "Apache", "lighttpd/1.4.76", "Microsoft-IIS/10.0")


def crawl(out: AnyPath, settings: CrawlSettings) -> list[Figure]:
    """The crawl stage of any source: write the made-up web if it is the source, and list the WARCs as for others."""
    if settings.source == "tinyweb":
        write_tinyweb(Path(out), settings.seed, settings.tinyweb)
    return crawl_stage.crawl(out, settings)


def write_tinyweb(out: Path, seed: int, settings: TinywebSettings) -> None:
    """Write the WARCs, the blocklist, the ledger and the files that teach into `out`: the same bytes for a seed.

    `warc/part-0000N.warc.gz`, `blocklist.txt`, `ledger/*`; for later stages `conversations.jsonl`, `questions.jsonl`
    with `refusals.txt`, `problems.jsonl`, `prompts.jsonl` with `taste.json`, and `presets.jsonl` for the chat page.
    """
    world = make_world(seed, settings.people)
    pages, ledger, blocked = make_web(world, settings)
    order = world.rng("order").sample(pages, len(pages))
    for number in range(FILES):
        with atomic_write(out / "warc" / f"part-{number:05d}.warc.gz") as temporary:
            _write_warc(temporary, order[number::FILES], world, number)
    ledger.save(out / "ledger")
    write_lines(out / "blocklist.txt", blocked)
    write_conversations(conversations_of(ledger, settings.taught, seed), out / "conversations.jsonl")
    write_questions(question_rows(ledger, settings, seed), out / "questions.jsonl")
    write_lines(out / "refusals.txt", REFUSALS)
    write_jsonl(out / "problems.jsonl", problem_rows(ledger, seed))
    write_jsonl(out / "prompts.jsonl", prompt_rows(ledger))
    write_json(out / "taste.json", taste())
    write_jsonl(out / PRESETS, presets_of(ledger))


def _write_warc(path: Path, pages: Sequence[Page], world: World, number: int) -> None:
    rng = world.rng(f"warc {number}")
    # a crawl's date is part of its bytes, so it comes from the seed
    clock = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=rng.randrange(365), minutes=rng.randrange(1440))
    about = f"software: crawl2chat\r\nformat: WARC File Format 1.1\r\ndescription: fictional web, seed {world.seed}\r\n"
    filename = {"WARC-Filename": path.name.lstrip(".").removesuffix(".tmp")}
    with open(path, "wb") as file:
        file.write(_record("warcinfo", "application/warc-fields", about.encode(), clock, rng, filename))
        for page in pages:
            clock += timedelta(seconds=rng.randrange(1, 9))
            head, body = _response(page, clock, rng)
            fields = {"WARC-Target-URI": page.url, "WARC-Payload-Digest": warc_digest(body)}
            file.write(_record("response", "application/http; msgtype=response", head + body, clock, rng, fields))


def _record(
    kind: str, content_type: str, block: bytes, date: datetime, rng: random.Random, fields: dict[str, str]
) -> bytes:
    return warc_record(kind, content_type, block, date, uuid.UUID(int=rng.getrandbits(128), version=4), fields)


def _response(page: Page, date: datetime, rng: random.Random) -> tuple[bytes, bytes]:
    """The HTTP response as it came over the wire: status line, headers, body."""
    body, content_type = _body(page, rng)
    status = "404 Not Found" if page.kind == "error_404" else "200 OK"
    headers = {
        "Date": date.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "Server": rng.choice(_SERVERS),
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    if rng.random() < 0.3:
        headers["Set-Cookie"] = f"session={rng.getrandbits(64):016x}; Path=/"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode(), body


def _body(page: Page, rng: random.Random) -> tuple[bytes, str]:
    match page.kind:
        case "empty":
            return b"", "text/html"
        case "pdf":
            return b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + rng.randbytes(
                800
            ) + b"\n%%EOF\n", "application/pdf"
        case "image":
            return b"\x89PNG\r\n\x1a\n" + rng.randbytes(1200), "image/png"
        case _:
            return render(page, rng)
