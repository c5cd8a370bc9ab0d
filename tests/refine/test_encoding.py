import pytest
from hypothesis import given
from hypothesis import strategies as st
from webencodings.labels import LABELS

from crawl2chat.refine.text.encoding import BROKEN_CHARACTERS, decode, decode_html, find_encoding

GERMAN = "Der Müller gehört zum größten Dorf, für das er früh über die Brücke ging. "
POLISH = "Młynarz poszedł rano nad rzekę, żółta gęś już tam była. "
RUSSIAN = "Мельник пошёл утром к реке, а старый мост исчез. "
TURKISH = "Değirmenci ırmağa gitti, eski köprü yoktu; şişe kırıldı. "
JAPANESE = "水車小屋の主人は朝早く川へ行った。古い橋はなかった。"
# For each encoding of the standard the Python codec that writes it, and a text that needs it.
SAMPLES = {
    "utf-8": ("utf-8", GERMAN + RUSSIAN + JAPANESE),
    "utf-16le": ("utf-16-le", GERMAN + RUSSIAN),
    "utf-16be": ("utf-16-be", GERMAN + RUSSIAN),
    "ibm866": ("cp866", RUSSIAN),
    "iso-8859-2": ("iso8859_2", POLISH),
    "iso-8859-3": ("iso8859_3", "Ĉiu muelisto ĝuas la ĵaŭdon, ŝi aŭdas ĥoron. "),
    "iso-8859-4": ("iso8859_4", "Malūnininkas ėjo prie upės, ąžuolas buvo žalias. "),
    "iso-8859-5": ("iso8859_5", RUSSIAN),
    "iso-8859-6": ("iso8859_6", "ذهب الطحان إلى النهر في الصباح "),
    "iso-8859-7": ("iso8859_7", "Ο μυλωνάς πήγε στο ποτάμι νωρίς το πρωί. "),
    "iso-8859-8": ("iso8859_8", "הטוחן הלך אל הנהר מוקדם בבוקר. "),
    "iso-8859-8-i": ("iso8859_8", "הטוחן הלך אל הנהר מוקדם בבוקר. "),
    "iso-8859-10": ("iso8859_10", "Þorður fór að ánni, ęðđŋ var þar. "),
    "iso-8859-13": ("iso8859_13", "Dzirnavnieks gāja uz upi, ķēniņš šūpojās. "),
    "iso-8859-14": ("iso8859_14", "Aeth y melinydd i'r afon, ŵy a dŵr ŷd. "),
    "iso-8859-15": ("iso8859_15", "Le cœur du meunier coûte 3 € à Œuf, déjà. "),
    "iso-8859-16": ("iso8859_16", "Morarul a mers la râu dimineața, iar podul căzuse și el știa. "),
    "koi8-r": ("koi8_r", RUSSIAN),
    "koi8-u": ("koi8_u", "Мельник пішов уранці до річки, її міст щез. "),
    "macintosh": ("mac_roman", GERMAN),
    "windows-874": ("cp874", "คนโม่แป้งไปที่แม่น้ำแต่เช้าตรู่ "),
    "windows-1250": ("cp1250", POLISH + "„Dobrze” – rzekł. "),
    "windows-1251": ("cp1251", RUSSIAN + "«Ладно» — сказал он. "),
    "windows-1252": ("cp1252", GERMAN + "„Gut“ – sagte er, für 3 €. "),
    "windows-1253": ("cp1253", "Ο μυλωνάς πήγε στο ποτάμι νωρίς το πρωί… "),
    "windows-1254": ("cp1254", TURKISH + "“Peki” dedi. "),
    "windows-1255": ("cp1255", "הטוחן הלך אל הנהר – מוקדם בבוקר. "),
    "windows-1256": ("cp1256", "ذهب الطحان إلى النهر في الصباح، پچژگ "),
    "windows-1257": ("cp1257", "Dzirnavnieks gāja uz upi – ķēniņš šūpojās. "),
    "windows-1258": ("cp1258", "Người thợ đi ra bờ sông ơ ư. ".replace("ợ", "ơ").replace("ờ", "ơ").replace("ườ", "ươ")),
    "x-mac-cyrillic": ("mac_cyrillic", RUSSIAN),
    "gbk": ("gbk", "磨坊主清晨去河边，没有人告诉他旧桥不见了。"),
    "gb18030": ("gb18030", "磨坊主清晨去河边，没有人告诉他㐀桥不见了。"),
    "big5": ("big5", "磨坊主清晨去河邊，沒有人告訴他舊橋不見了。"),
    "euc-jp": ("euc_jp", JAPANESE),
    "iso-2022-jp": ("iso2022_jp", JAPANESE),
    "shift_jis": ("shift_jis", JAPANESE),
    "euc-kr": ("euc_kr", "방앗간 주인은 아침 일찍 강으로 갔다. 다리가 사라졌다. "),
}
BYTES = [name for name in SAMPLES if not name.startswith("utf-16")]  # of which ASCII is a part


def page(text: str, head: str = "") -> str:
    return f"<!doctype html><html><head>{head}<title>A page</title></head><body><p>{text}</p></body></html>"


def written(name: str, head: str = "") -> tuple[bytes, str]:
    codec, text = SAMPLES[name]
    return page(text, head).encode(codec), page(text, head)


def test_the_samples_cover_the_table():
    assert len(LABELS) >= 228
    assert set(LABELS.values()) == {*SAMPLES, "replacement", "x-user-defined"}


@pytest.mark.parametrize("label", sorted(set(LABELS) - {"x-user-defined"}))
def test_every_label_of_the_table_in_the_header_and_in_the_page(label):
    name = LABELS[label]
    if name == "replacement":
        assert decode_html(b"<p>hidden", f"text/html; charset={label}") == "\ufffd"
        return
    html, text = written(name)
    for content_type in (
        f"text/html; charset={label}",
        f'TEXT/HTML;Charset="{label.upper()}"',
        f"text/html charset={label};",
    ):
        assert decode_html(html, content_type) == text
    if not name.startswith("utf-16"):
        for head in (
            f'<meta charset="{label}">',
            f"<META  content='text/html; charset={label}' http-equiv=\"Content-Type\" />",
            f"<noscript><meta\ncharset={label}></noscript>",
        ):
            html, text = written(name, head)
            assert decode_html(html) == text
            assert decode_html(html, "text/html; charset=x-unknown") == text
        xml = f'<?xml version="1.0" encoding="{label}"?>'
        assert decode_html(xml.encode() + written(name)[0]) == xml + written(name)[1]


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("shift_jis", "①㈱髙橋﨑Ⅳ～".encode("cp932"), "①㈱髙橋﨑Ⅳ～"),
        ("euc-jp", b"\xad\xa1\xad\xea\xfc\xe2\xb6\xb6\xa1\xc1", "①㈱髙橋～"),  # rows that JIS leaves empty
        ("iso-2022-jp", b"\x1b$B-!-j|b66\x1b(Bok \x1b(I1\x1b(J\\1", "①㈱髙橋ok ｱ¥1"),
        ("euc-kr", "똠방각하 펲시콜라 뷁".encode("cp949"), "똠방각하 펲시콜라 뷁"),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        ("big5-hkscs", "佢哋嘅嘢喺邊度㗎".encode("big5hkscs"), "佢哋嘅嘢喺邊度㗎"),
        ("big5", b"\xf9\xe9\xf9\xfe\xa3\xe1", "╞\uffed€"),  # of Windows' table
        ("gb2312", "朱镕基喆堃€㐀𠀀".encode("gb18030"), "朱镕基喆堃€㐀𠀀"),
        ("gbk", b"3 \x80", "3 €"),
        ("iso-8859-1", b"\x93It\x92s\x94 \x80\x85", "“It’s” €…"),
        ("us-ascii", b"caf\xe9", "café"),
        ("iso-8859-9", b"\xfdrma\xf0a \x80", "ırmağa €"),
        ("tis-620", b"\xa1\xd2 \x80\x93", "กา €“"),
        ("koi8-u", b"\xae\xbe\xa4", "ўЎє"),
        ("x-user-defined", b"a\x80\xff", "a\uf780\uf7ff"),
    ],
)
def test_characters_that_windows_added_are_read(label, data, text):
    assert decode_html(data, f"text/html; charset={label}") == text


@pytest.mark.parametrize("name", [name for name in SAMPLES if name.startswith("windows-")])
def test_bytes_that_windows_leaves_open_are_controls_or_one_replaced_character(name):
    text = decode(bytes(range(256)), name)
    assert len(text) == 256
    assert [text[byte] for byte in range(0x80)] == [chr(byte) for byte in range(0x80)]
    assert "\ufffd" not in text[:0xA0]
    assert name != "windows-1252" or text[0x81] + text[0x8D] + text[0x9D] == "\x81\x8d\x9d"


@pytest.mark.parametrize("name", ["shift_jis", "euc-jp", "euc-kr", "big5", "gbk", "gb18030"])
@given(data=st.binary(max_size=40))
def test_what_is_broken_never_swallows_what_follows_an_ascii_character(name, data):
    codec, text = SAMPLES[name]
    assert decode(data + b"\n" + text.encode(codec), name).endswith(text)


@given(st.text(st.characters(exclude_characters="\ufffd\x1b\0", exclude_categories=["Cs"]), max_size=60), st.data())
def test_one_bad_byte_in_utf8_leaves_every_letter_as_written(text, data):
    text = GERMAN + text
    at = data.draw(st.integers(0, len(text)))
    bad = data.draw(st.integers(0x80, 0xFF))
    broken = text[:at].encode() + bytes([bad]) + text[at:].encode()
    for html, content_type in [
        (broken, "text/html; charset=utf-8"),
        (b"<meta charset=utf-8>" + broken, None),
        (broken, None),
    ]:
        if html.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        assert decode_html(html, content_type).removeprefix("<meta charset=utf-8>") == f"{text[:at]}\ufffd{text[at:]}"


@given(st.integers(0, 200))
def test_a_page_cut_inside_a_letter_is_whole_up_to_there(cut):
    whole = page(GERMAN + "„Ja…“ 🙂 " + JAPANESE)
    text = decode_html(whole.encode()[: 80 + cut], "text/html; charset=utf-8")
    assert whole.startswith(text.rstrip("\ufffd"))
    assert len(text) - len(text.rstrip("\ufffd")) <= 1


@pytest.mark.parametrize("name", ["windows-1253", "iso-8859-7", "iso-8859-8", "windows-874", "iso-8859-6"])
def test_one_bad_byte_in_a_single_byte_encoding_is_one_replaced_character(name):
    codec, text = SAMPLES[name]
    bad = decode(bytes(range(0xA0, 0x100)), name).index("\ufffd") + 0xA0
    for at in range(len(text) + 1):
        html = text[:at].encode(codec) + bytes([bad]) + text[at:].encode(codec)
        assert decode_html(html, f"text/html; charset={name}") == f"{text[:at]}\ufffd{text[at:]}"


@pytest.mark.parametrize(
    "name", ["windows-1251", "koi8-r", "shift_jis", "euc-jp", "gbk", "big5", "euc-kr", "windows-1252"]
)
def test_a_page_that_says_utf8_and_is_not_is_read_as_what_it_is(name):
    html, text = written(name)
    assert decode_html(html, "text/html; charset=utf-8") == text  # by detection
    html, text = written(name, f"<meta charset={name}>")
    assert decode_html(html, "text/html; charset=utf-8") == text  # by the next declaration


def test_an_encoding_is_judged_by_what_is_beyond_ascii_however_late_it_comes():
    head = "<script>" + "x" * 200_000 + "</script>"
    html, text = written("windows-1251", head)
    assert decode_html(html, "text/html; charset=utf-8") == text
    text = page(JAPANESE, head) + "é"
    assert decode_html(text.encode() + b"\xe9", "text/html; charset=utf-8") == text + "\ufffd"


def test_a_few_broken_letters_do_not_disprove_a_declaration():
    few, many = "é" * (BROKEN_CHARACTERS - 1), "é" * BROKEN_CHARACTERS
    for label in ("text/html; charset=utf-8", "text/html; charset=euc-kr"):
        html = ". ".join(few).encode("latin-1") + b"."
        assert decode_html(html, label).count("\ufffd") == len(few)
    assert decode_html(" ".join(many).encode("latin-1"), "text/html; charset=utf-8") == " ".join(many)
    # Many, but fewer than are whole.
    html = many.encode("latin-1") + ("ü" * BROKEN_CHARACTERS).encode()
    assert decode_html(html, "text/html; charset=utf-8") == "\ufffd" * len(many) + "ü" * BROKEN_CHARACTERS


@pytest.mark.parametrize("label", ["iso-8859-1", "iso-8859-2", "windows-1251", "gb2312", "shift_jis", "big5", "koi8-r"])
def test_what_is_utf8_is_read_so_whatever_the_page_says(label):
    text = page(GERMAN + RUSSIAN, f"<meta charset={label}>")
    assert decode_html(text.encode()) == text
    assert decode_html(text.encode(), f"text/html; charset={label}") == text


@pytest.mark.parametrize(
    "head",
    [
        "<!-- <meta charset=koi8-r> --><meta charset=windows-1252>",
        "<!--><meta charset=windows-1252>",
        "<script>document.write('<meta charset=koi8-r>')</script><meta charset=windows-1252>",
        "<STYLE>/* <meta charset=koi8-r> */</STYLE ><meta charset=windows-1252>",
        '<metadata charset=koi8-r><meta name="x" content="charset=koi8-r"><meta charset=windows-1252>',
        "<meta name=description content='charset=koi8-r'><meta charset=windows-1252>",
        "<meta charset=none><meta http-equiv=content-type content='text/html;charset=windows-1252'>",
        '<meta charset="windows-1252;">',
        "<meta charset = ' Windows-1252 '>",
        '<meta charset="text/html; charset=windows-1252">',
        "<meta charset=windows-1252 charset=koi8-r>",
        "<meta charset=x-user-defined>",
        "<script>" + "x" * 9000 + "</script><meta charset=windows-1252>",  # later than the 1,024 bytes of browsers
    ],
)
def test_only_a_meta_element_declares_and_odd_ones_do(head):
    text = page("Un café à côté, déjà. " * 5, head)
    assert decode_html(text.encode("cp1252")) == text


def test_the_first_known_declaration_counts():
    html, text = written("koi8-r", "<meta charset=windows-1251>")
    assert decode_html(html, "text/html; charset=koi8-r") == text
    assert decode_html(html, "text/html; charset=koi8-r; charset=windows-1251") == text
    assert decode_html(html, "text/html; charset=x; charset='koi8-r', text/html") == text
    xml = '<?xml version="1.0" encoding="windows-1251"?>'
    html, text = written("koi8-r", "<meta charset=koi8-r>")
    assert decode_html(xml.encode() + html) == xml + text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("content_type", [None, "text/html; charset=utf-8", "text/html; charset=utf-16"])
def test_utf16_without_a_mark_shows_in_its_zeros(codec, content_type):
    text = page(RUSSIAN)
    assert decode_html(text.encode(codec), content_type) == text


def test_utf16_is_not_believed_of_bytes_without_a_zero():
    assert decode_html(page(GERMAN).encode(), "text/html; charset=utf-16") == page(GERMAN)
    html, text = written("koi8-r", "<meta charset=koi8-r>")
    assert decode_html(html, "text/html; charset=utf-16le") == text


@pytest.mark.parametrize(
    "name", [name for name in BYTES if find_encoding(name) not in ("iso-8859-8-i", "windows-1258")]
)
def test_pages_without_a_label_are_guessed(name):
    if name in ("ibm866", "macintosh", "x-mac-cyrillic") or name.startswith(("iso-8859-1", "iso-8859-3", "iso-8859-4")):
        pytest.skip("nobody leaves these unlabelled, and no detector knows them all")
    codec, text = SAMPLES[name]
    assert decode_html(page(text * 6).encode(codec)) == page(text * 6)


def test_utf8_inside_of_latin1_stays_utf8():
    html = "Déjà vu à l'été, café. ".encode("cp1252") + "“It’s”".encode()
    for content_type in (None, "text/html; charset=utf-8"):
        assert decode_html(html, content_type) == "Déjà vu à l'été, café. “It’s”"


def test_a_page_without_a_label_that_is_utf8_but_for_a_few_bytes_is_utf8():
    html = page("It’s a café. " * 3 + "{}").encode().replace(b"{}", b"\xe9t\xe9")
    assert decode_html(html) == page("It’s a café. " * 3 + "\ufffdt\ufffd")


@given(st.binary(max_size=60), st.sampled_from(sorted(LABELS)), st.booleans())
def test_any_bytes_under_any_label_are_a_text(data, label, in_page):
    assert isinstance(decode(data, LABELS[label]), str)
    html = f"<meta charset={label}>".encode() + data if in_page else data
    assert isinstance(decode_html(html, None if in_page else f"text/html; charset={label}"), str)


@pytest.mark.parametrize(
    "piece", [b"<!--", b"<script>", b"<meta charset=", b"<meta content='", b"<meta ", b"<title", b"charset="]
)
def test_hostile_heads_are_read_in_time(piece):
    assert isinstance(decode_html(piece * (1_000_000 // len(piece)) + b"\xe9"), str)
