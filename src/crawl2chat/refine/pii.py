"""Personal data: e-mail addresses and public IP addresses are replaced by ones that belong to nobody."""

import ipaddress
import re

EMAIL = "email@example.com"  # RFC 2606
IPV4, IPV6 = "192.0.2.1", "2001:db8::1"  # RFC 5737, RFC 3849
LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-")
MAX_LOCAL = 64  # RFC 5321
# Every attempt begins at an @ and lengths are bounded, so time grows with the text alone, whatever it holds.
DOMAIN = re.compile(r"@(?=[A-Za-z0-9])((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63})(?![A-Za-z0-9@])")
# A pattern that begins with a digit, not with a look behind it, is searched for several times as fast.
IP4 = re.compile(r"\d(?<![\w.]\d)\d{0,2}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
TWO_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")  # every IPv6 address has them
IP6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


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
        while text[begin] in ".-'":
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
