import json
import zipfile

import matplotlib
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from crawl2chat.crawl.documents import find_documents, join_lines
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.crawl.stage import crawl
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import refine
from crawl2chat.stages.checks import outside_inputs
from crawl2chat.stages.files import StageError
from crawl2chat.stages.settings import load_settings

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
LONG = "The pump stops when the filter is full of sand, and this line goes on in the"


def write_docx(path):
    cells = "".join(f"<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>" for text in ("E04", "wet sensor"))
    body = f"<w:p><w:r><w:t>Error codes of the pump</w:t></w:r></w:p><w:tbl><w:tr>{cells}</w:tr></w:tbl>"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{PACKAGE}/content-types"></Types>')
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type="{RELATION}" '
            'Target="word/document.xml"/></Relationships>',
        )
        archive.writestr("word/document.xml", f"<w:document {WORD}><w:body>{body}</w:body></w:document>")
        archive.writestr("docProps/core.xml", '<c xmlns:dc="d"><dc:title>Errors &amp; causes</dc:title></c>')


def write_pdf(path, text, title=None):
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure = Figure()
        figure.text(0.1, 0.5, text, fontsize=6)
        figure.savefig(path, metadata={"Title": title})


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Folders of the two stages over documents of each kind, good and bad, by the recipe for documents."""
    root = tmp_path_factory.mktemp("collected")
    docs = root / "docs"
    (docs / "manuals").mkdir(parents=True)
    (docs / ".git").mkdir()
    (docs / ".git" / "config.txt").write_text("not a document")
    (docs / "e04.md").write_text(
        "# Error E04\r\n\r\nWrite to help@example.com. {Dry} the sensor.", encoding="utf-8-sig"
    )
    (docs / "e11.md").write_text("# Error E11\n\nWrite to help@example.com. {Dry} the engine.")
    (docs / "notes.txt").write_bytes("Der Fühler ist naß.".encode())
    (docs / "casino.html").write_text("<title>Poker &amp; Co</title><nav>Home</nav><p>Our casino opens at ten.")
    (docs / "latin.txt").write_bytes("Der Fühler ist naß.".encode("latin-1"))
    (docs / "sheet.xlsx").write_bytes(b"PK\x03\x04")
    (docs / "empty.md").write_bytes(b"")
    (docs / "torn.pdf").write_bytes(b"%PDF-1.4 torn")
    (docs / "torn.docx").write_bytes(b"PK\x03\x04 torn")
    write_docx(docs / "manuals" / "errors.docx")
    write_pdf(docs / "manuals" / "my pump.pdf", f"{LONG}\nnext one.\nA new paragraph.", "Manual of the pump")
    write_pdf(docs / "manuals" / "scanned.pdf", "")
    figures = crawl(root / "crawl", CrawlSettings(source="documents", documents=[str(docs)]))
    recipe = load_settings(RefineSettings, "recipes/documents.toml", table="refine")
    refine(root / "crawl", root / "refine", recipe)
    return root, {figure.name: figure.value for figure in figures}


def test_documents_of_every_kind_keep_their_text_address_and_title(collected):
    root, _ = collected
    rows = pq.read_table(root / "refine" / "documents").to_pylist()
    assert {row["url"]: (row["title"], row["text"]) for row in rows} == {
        "casino.html": ("Poker & Co", "Our casino opens at ten."),
        "e04.md": ("Error E04", "# Error E04\n\nWrite to help@example.com. {Dry} the sensor."),
        "e11.md": ("Error E11", "# Error E11\n\nWrite to help@example.com. {Dry} the engine."),
        "manuals/errors.docx": ("Errors & causes", "Error codes of the pump\n\nE04 | wet sensor"),
        "manuals/my pump.pdf": (
            "Manual of the pump",
            f"# Manual of the pump\n\n{LONG} next one.\nA new paragraph.",
        ),
        "notes.txt": ("notes.txt", "Der Fühler ist naß."),
    }


def test_what_can_not_be_read_is_listed_with_its_reason(collected):
    root, figures = collected
    left_out = [json.loads(line) for line in (root / "crawl" / "left_out.jsonl").read_text().splitlines()]
    assert {row["url"]: row["reason"] for row in left_out} == {
        "empty.md": "empty",
        "latin.txt": "not_utf8",
        "manuals/scanned.pdf": "no_text",
        "sheet.xlsx": "unknown_kind",
        "torn.docx": "unreadable",
        "torn.pdf": "unreadable",
    }
    assert all(row["detail"] for row in left_out)
    assert figures["left_out"] == 6


def test_a_changed_document_is_a_changed_input(tmp_path):
    (tmp_path / "a.md").write_text("one")
    settings = CrawlSettings(source="documents", documents=[str(tmp_path)])
    before = outside_inputs(settings)
    assert outside_inputs(settings) == before
    (tmp_path / "a.md").write_text("three")
    assert outside_inputs(settings) != before


def test_addresses_of_several_places_are_below_what_they_have_in_common(tmp_path):
    for name in ("a/x.md", "b/deep/x.md", "b/y\n.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    found = find_documents([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "b" / "deep" / "x.md")])
    assert [address for _, address in found] == ["a/x.md", "b/deep/x.md", "b/y%0A.md"]


def test_a_place_without_documents_is_refused(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(StageError, match=r"none of 1 files is of a kind that is read; expected \.html"):
        crawl(tmp_path / "out", CrawlSettings(source="documents", documents=[str(tmp_path)]))
    with pytest.raises(StageError, match="there is no such file or folder"):
        find_documents([str(tmp_path / "none")])
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(StageError, match="is in this folder; give --out another place"):
        crawl(tmp_path / "out", CrawlSettings(source="documents", documents=[str(tmp_path)]))


def test_printed_lines_become_paragraphs():
    page = f"Pumps\r\n{LONG}\r\nnext one, and this has a hyphen: a long main\ufffe\r\ntenance plan.\r\n- a\r\n- b"
    assert join_lines(page) == f"Pumps\n{LONG} next one, and this has a hyphen: a long maintenance plan.\n- a\n- b"
