"""Personal data: e-mail addresses, public IP addresses and phone numbers are replaced by ones that belong to nobody."""

import ipaddress
import re

EMAIL = "email@example.com"  # RFC 2606
IPV4, IPV6 = "192.0.2.1", "2001:db8::1"  # RFC 5737, RFC 3849
PHONE = "+1-202-555-0100"  # kept for fiction in North America's numbering plan
LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-")
MAX_LOCAL = 64  # RFC 5321
# Every attempt begins at an @ and lengths are bounded, so time grows with the text alone, whatever it holds.
DOMAIN = re.compile(r"@(?=[A-Za-z0-9])((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63})(?![A-Za-z0-9@])")
# A pattern that begins with a digit, not with a look behind it, is searched for several times as fast.
IP4 = re.compile(r"\d(?<![\w.]\d)\d{0,2}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
TWO_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")  # every IPv6 address has them
IP6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
# A phone number has a form of its own; digits in a row, or with blanks alone between them, may be anything.
# +49 (0)30 1234567, (+44) 20-7946-0958, +15551234567: 8 to 15 digits (E.164)
WITH_PLUS = re.compile(r"(?:\(\+[1-9]\d{0,2}\)|\+[1-9])(?:[ .()/–-]{0,3}\d){7,14}")
# (202) 555-0142, 1-202-555-0142, 202.555.0142
NORTH_AMERICAN = re.compile(
    r"(?:1[ .-])?(?:\([2-9]\d\d\)[ .-]?|[2-9]\d\d(?P<by>[.-]))[2-9]\d\d(?(by)(?P=by)|[ .-])\d{4}"
)
# (030) 123 4567, 030/1234567, 0171-1234567, 020 7946 0958: 10 or 11 digits that begin with one 0
WITH_ZERO = re.compile(r"(?:\(0[1-9]\d{1,3}\) ?|0[1-9]\d{1,3}(?: ?[/–-] ?| ))\d{3,4}(?:[ -]?\d{2,4}){1,2}")
# Per form: how many digits it may have, and what shows that it is only the beginning of something longer.
FORMS = (
    (WITH_PLUS, range(15, 7, -1), re.compile(r"\d|[.,-]\d")),
    (NORTH_AMERICAN, range(11, 9, -1), re.compile(r"\d|[.,-]\d")),
    (WITH_ZERO, range(11, 9, -1), re.compile(r"\d|[.,/ -]\d")),
)
# Where one may begin, if nothing before it shows that it is only the end of something longer.
BEGINNING = re.compile(
    r"(?<![\w+/=-])(?:\(\+[1-9]|\+[1-9][\d .()/–-])"
    r"|(?<![\w.,+/=-])(?:(?:1[ .-])?(?:\([2-9]\d\d\)|[2-9]\d\d[.-])|(?<!\d )\(?0[1-9]\d{1,3}[ )/–-])"
)
BETWEEN = re.compile(r"(?: ?[.,/–-] ?| )?")  # two numbers next to each other
FIRST_DIGIT, NEXT_DIGIT = re.compile(r"\(?\+?\d"), re.compile(r"[ .()/–-]{0,3}\d")
THOUSANDS = re.compile(r"\+\d{1,3}(?:[. ]\d{3})+")


def mask_phones(text: str) -> tuple[str, int]:
    """The text with phone numbers replaced, and how many: +… anywhere, North America's and those with a leading 0.

    Only forms that little else has are found, so dates, prices, versions, ISBNs and plain digits stay, and so do
    numbers written in a country's own way otherwise. Masking again changes nothing.
    """
    parts, copied_to, count = [], 0, 0
    at = 0
    while match := BEGINNING.search(text, at):
        begin: int | None = match.start()
        at = match.start() + 1
        while begin is not None and (end := _phone_end(text, begin)):
            if not text.startswith(PHONE, begin):
                parts += [text[copied_to:begin], PHONE]
                copied_to, count = end, count + 1
            at = end
            begin = _phone_after(text, end)
    return "".join([*parts, text[copied_to:]]), count


def _phone_end(text: str, begin: int) -> int | None:
    """Where the number that begins here ends; None where none does.

    It ends before another number, or else where it is longest without being the beginning of something longer.
    """
    if text.startswith(PHONE, begin):
        return begin + len(PHONE)
    readings = _readings(text, begin)
    for end, _ in reversed(readings):
        if _phone_after(text, end) is not None:
            return end
    return next((end for end, longer in readings if not longer.match(text, end)), None)


def _phone_after(text: str, end: int) -> int | None:
    """Where another number begins that is next to one that ends here."""
    between = BETWEEN.match(text, end)
    assert between is not None
    begin = between.end()
    if begin == end and text[end : end + 1] not in ("+", "("):
        return None
    return begin if text.startswith(PHONE, begin) or _readings(text, begin) else None


def _readings(text: str, begin: int) -> list[tuple[int, re.Pattern[str]]]:
    """Ends of all that has a number's form and begins here, longest first, each with what would make it longer."""
    ends: list[int] = []
    digit = FIRST_DIGIT.match(text, begin)
    while digit and len(ends) < 15:
        ends.append(digit.end())
        digit = NEXT_DIGIT.match(text, digit.end())
    return [
        (ends[n - 1], longer)
        for form, lengths, longer in FORMS
        for n in lengths
        if n <= len(ends)
        and form.fullmatch(text, begin, ends[n - 1])
        and not THOUSANDS.fullmatch(text, begin, ends[n - 1])
    ]


def mask_pii(text: str) -> tuple[str, int, int]:
    """The text with e-mail and public IP addresses replaced, and how many of each. Masking again changes nothing."""
    text, emails = _mask_emails(text)
    ips = 0

    def mask(match: re.Match[str]) -> str:
        nonlocal ips
        masked = _mask_ip(match.group())
        ips += masked != match.group()
        return masked

    if TWO_COLONS.search(text):
        text = IP6.sub(mask, text)
    return IP4.sub(mask, text), emails, ips


def _mask_emails(text: str) -> tuple[str, int]:
    parts, copied_to, count = [], 0, 0
    floor = 0  # end of the address before: none begins inside it
    for match in DOMAIN.finditer(text):
        begin = at = match.start()
        while begin > floor and at - begin <= MAX_LOCAL and text[begin - 1] in LOCAL:
            begin -= 1
        if at - begin > MAX_LOCAL:
            continue
        while text[begin] in (".-'" if begin > floor else ".-'_%+"):  # the latter between two addresses
            begin += 1
        if begin == at:
            continue
        floor = match.end()
        if text[begin:floor] != EMAIL:
            parts += [text[copied_to:begin], EMAIL]
            copied_to, count = floor, count + 1
    return "".join([*parts, text[copied_to:]]), count


def _mask_ip(text: str) -> str:
    """A replacement where the text is an address that somebody may own; private, reserved and no addresses stay."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if address.version == 4:
        return IPV4 if address.is_global else text
    is_unicast = int(address) >> 125 == 1  # 2000::/3; a::b is rather code
    return IPV6 if address.is_global and is_unicast else text
