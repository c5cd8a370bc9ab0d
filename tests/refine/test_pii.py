import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.refine.pii import EMAIL, IPV4, IPV6, mask_pii


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to anna.berg+news@mill.example.org.", f"Write to {EMAIL}."),
        ("<a@b.co>,c_d@e-f.museum;", f"<{EMAIL}>,{EMAIL};"),
        ("ping 8.8.8.8, then 93.184.216.34.", f"ping {IPV4}, then {IPV4}."),
        ("at 2a00:1450:4001:81b::200e now", f"at {IPV6} now"),
    ],
)
def test_addresses_are_replaced(text, masked):
    assert mask_pii(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "192.168.0.1 and 127.0.0.1 and 10.1.2.3 belong to nobody",
        "version 1.2.3 of 300.1.1.1 and 1.2.3.4.5",
        "at 12:30:45 std::vector a::b",
        "@handle and user@localhost and a @ b.com",
    ],
)
def test_what_is_no_public_address_stays(text):
    assert mask_pii(text) == (text, 0, 0)


def test_what_was_masked_is_counted():
    assert mask_pii("a@b.org c@d.org 8.8.8.8")[1:] == (2, 1)


@given(
    st.lists(
        st.sampled_from(["a@b.co", "a.b-c@d.e-f.org", "8.8.8.8", "2a00::1", ".", "@", " ", "x", ":", "-", "é", EMAIL])
    )
)
def test_masking_again_changes_nothing(pieces):
    once = mask_pii("".join(pieces))[0]
    assert mask_pii(once) == (once, 0, 0)


@pytest.mark.parametrize("unit", ["a-", "a.", "a@", "a@b.", "@a.b", "1.", "1:", "a%", "x@" + "y." * 9])
def test_time_grows_with_the_text_alone(unit):
    began = time.process_time()
    mask_pii(unit * (400_000 // len(unit)))
    assert time.process_time() - began < 3
