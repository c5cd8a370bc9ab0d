"""The bytes of a page as text, in the encoding it was written in."""

import re

BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
META_BYTES = 4096
META_CHARSET = re.compile(rb"""<meta\b[^>]{0,500}?charset\s*=\s*["']?\s*([\w:.-]{2,40})""", re.IGNORECASE)
HEADER_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([\w:.-]{2,40})""", re.IGNORECASE)


def decode_html(html: bytes, content_type: str | None = None) -> str:
    """Bytes to text as a browser does it: byte order mark, HTTP header, meta element, else UTF-8 or a guess.

    Unlike in a browser, bytes that are valid UTF-8 are UTF-8 when the page says that it is Latin-1: servers say so
    by default, and no text in Latin-1 is UTF-8 by accident.
    """
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    for bom, encoding in BOMS:
        if html.startswith(bom):
            return html[len(bom) :].decode(encoding, errors="replace")
    header = HEADER_CHARSET.search(content_type or "")
    meta = META_CHARSET.search(html[:META_BYTES])
    declared = [header.group(1)] if header else []
    if meta:
        label = meta.group(1).decode("ascii", "ignore")
        # A meta element that can be read as ASCII is not in UTF-16, whatever it says (HTML standard, 13.2.3.2).
        declared.append("utf-8" if label.lower().startswith("utf-16") else label)
    known = next(filter(None, (map_encoding_to_html5(label, False) for label in declared)), None)
    if known in (None, "utf-8", "cp1252"):  # what browsers make of Latin-1
        try:
            return html.decode("utf-8")
        except UnicodeDecodeError:
            known = known or detect_encoding(html) or "utf-8"
    return str(bytes_to_str(html, known, "replace"))
