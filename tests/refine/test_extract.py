import pytest

from crawl2chat.refine import extract_text
from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.refine.text.extract import require_extractor
from crawl2chat.stages.files import StageError

ARTICLE = (
    "<main><article><p>{}</p><p>The second paragraph says a little more than the first one did.</p></article></main>"
)


def test_navigation_scripts_and_styles_are_no_text():
    page = f"""<!doctype html><html><head><style>p {{ color: red }}</style><script>var tracker = 1;</script></head>
    <body><nav><ul><li><a href="/">Home page</a><li><a href="/shop">To the shop</a></ul></nav>
    {ARTICLE.format("The miller went to the river in the morning.")}
    <script>alert("hello")</script><footer><a href=/imprint>Imprint</a></footer></body></html>"""
    text = extract_text(page.encode())
    assert "The miller went to the river in the morning." in text
    for unwanted in ("color", "tracker", "Home page", "shop", "hello", "Imprint", "<"):
        assert unwanted not in text


def test_paragraphs_are_parted_by_an_empty_line_and_blanks_are_single():
    assert (
        extract_text(ARTICLE.format("One\u00a0 \t two\r\nthree\x00\x07 four.").encode()).split("\n\n")[0]
        == "One two three four."
    )


@pytest.mark.parametrize(
    ("encoding", "content_type", "head"),
    [
        ("utf-8", "text/html; charset=utf-8", ""),
        ("utf-8", "text/html", ""),
        ("iso-8859-1", 'text/html; charset="ISO-8859-1"', ""),
        ("windows-1252", None, '<meta charset="windows-1252">'),
        ("iso-8859-15", None, '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-15">'),
        ("utf-8", "text/html; charset=utf-8", '<meta charset="iso-8859-1">'),  # the header counts more
        ("utf-8", "text/html; charset=unheard-of", ""),
        ("utf-8", None, '<meta charset="utf-16">'),
        ("iso-8859-1", None, ""),
        ("utf-8-sig", "text/html; charset=iso-8859-1", ""),  # the byte order mark counts most
        ("utf-16", None, ""),
    ],
)
def test_text_is_read_in_the_encoding_it_was_written_in(encoding, content_type, head):
    text = "Die Mühle gehört dem größten Müller des Dorfes, der für Brot ein paar Groschen nahm."
    page = f"<html><head>{head}</head><body>{ARTICLE.format(text)}</body></html>"
    assert text in extract_text(page.encode(encoding), content_type=content_type)


def test_cyrillic_and_japanese_pages_without_a_label_are_guessed():
    for text, encoding in [
        ("Мельник пошёл к реке рано утром, " * 9, "koi8-r"),
        ("水車小屋の主人は朝早く川へ行った。" * 9, "shift_jis"),
    ]:
        assert text in decode_html(f"<p>{text}".encode(encoding, errors="ignore")).replace("ё", "ё")


def test_a_page_in_utf8_that_says_latin1_is_utf8():
    text = "Die Mühle gehört dem Müller."
    assert decode_html(text.encode(), "text/html; charset=iso-8859-1") == text
    assert decode_html(text.encode("latin-1"), "text/html; charset=iso-8859-1") == text


def test_soft_hyphens_are_removed_and_accents_composed():
    page = ARTICLE.format("Die Müh\u00adle geho\u0308rt dem Mu&#776;l&shy;ler.")
    assert extract_text(page.encode()).startswith("Die Mühle gehört dem Müller.")


@pytest.mark.parametrize("extractor", ["blocks", "resiliparse", "trafilatura"])
def test_every_extractor_finds_the_paragraphs_and_no_scripts(extractor):
    if extractor == "trafilatura":
        pytest.importorskip("trafilatura", reason="the extra trafilatura is not installed")
    page = f"<body><script>no()</script>{ARTICLE.format('The miller went to the river, and he was not alone.')}"
    text = extract_text(page.encode(), extractor=extractor)
    assert "went to the river" in text
    assert "The second paragraph" in text
    assert "no()" not in text


def test_a_decoded_page_is_taken_too_and_an_unknown_extractor_is_not():
    assert extract_text("<p>The miller went to the river.") == "The miller went to the river."
    with pytest.raises(ValueError, match="foo"):
        extract_text(b"<p>x", extractor="foo")  # type: ignore[arg-type]


def test_an_extractor_that_is_not_installed_is_told_before_any_page(monkeypatch):
    monkeypatch.setattr("crawl2chat.refine.text.extract.find_spec", lambda name: None)
    with pytest.raises(StageError, match=r"crawl2chat\[trafilatura\]"):
        require_extractor("trafilatura")


@pytest.mark.parametrize("html", [b"", b"\0\0\0", b"<", b"<p>", bytes(range(256)), b"<html><body></body></html>"])
def test_any_bytes_give_a_text(html):
    assert isinstance(extract_text(html), str)
