import pytest
from effort import assert_linear
from hypothesis import example, given
from hypothesis import strategies as st

from crawl2chat.refine.rules.pii import EMAIL, IPV4, IPV6, PHONE, mask_phones, mask_pii


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to anna.berg+news@mill.example.org.", f"Write to {EMAIL}."),
        ("<a@b.co>,c_d@e-f.museum;", f"<{EMAIL}>,{EMAIL};"),
        ("ping 8.8.8.8, then 93.184.216.34.", f"ping {IPV4}, then {IPV4}."),
        ("at 2a00:1450:4001:81b::200e now", f"at {IPV6} now"),
        ("a@b.co_c@d.org%e@f.net+g@h.io", f"{EMAIL}_{EMAIL}%{EMAIL}+{EMAIL}"),
        ("a@b.co/c@d.org a@b.co;c@d.org", f"{EMAIL}/{EMAIL} {EMAIL};{EMAIL}"),
        ("8.8.8.8,8.8.4.4/1.1.1.1-9.9.9.9:9.9.9.9", f"{IPV4},{IPV4}/{IPV4}-{IPV4}:{IPV4}"),
        ("2a00:1450:4001:81b::200e,2a00:1450:4001:81b::200f", f"{IPV6},{IPV6}"),
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
        st.sampled_from(
            [
                "a@b.co",
                "a.b-c@d.e-f.org",
                "8.8.8.8",
                "2a00::1",
                EMAIL,
                IPV4,
                IPV6,
                *". @ x : - é _ + / , ; 1".split(),
                " ",
            ]
        )
    )
)
@example(["x", EMAIL, "_", "a@b.co"])
def test_masking_again_changes_nothing(pieces):
    once = mask_pii("".join(pieces))[0]
    assert mask_pii(once) == (once, 0, 0)


@pytest.mark.parametrize("unit", ["a-", "a.", "a@", "a@b.", "@a.b", "1.", "1:", "a%", "x@" + "y." * 9])
def test_time_grows_with_the_text_alone(unit):
    assert_linear(lambda share: mask_pii(unit * round(400_000 * share / len(unit))))


@pytest.mark.parametrize(
    "number",
    [
        "+49 30 1234567",
        "+49 (0)30 / 1234567",
        "+44 20 7946 0958",
        "(+44) 20-7946-0958",
        "+33.1.23.45.67.89",
        "+15551234567",
        "+1 (202) 555-0142",
        "(202) 555-0142",
        "(202)555-0142",
        "202-555-0142",
        "202.555.0142",
        "1-800-555-0142",
        "030/1234567",
        "(030) 123 4567",
        "0171-1234567",
        "0171 / 123 45 67",
        "020 7946 0958",
        "01632 960 983",
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", "Tel.: {}.", "({})", "Call {}, or {} after 6 pm", "phone:{};fax", "{}\n3 rooms"]
)
def test_phone_numbers_are_replaced(number, around):
    found = around.count("{}")
    assert mask_phones(around.replace("{}", number)) == (around.replace("{}", PHONE), found)


NEIGHBOURS = ["030/1234567", "202-555-0142", "+49 30 1234567", "(030) 123 4567", "020 7946 0958", PHONE]


@pytest.mark.parametrize("between", [" ", ",", ", ", "/", " / ", ";", "\n", " or ", " - ", "-", "."])
@pytest.mark.parametrize("first", NEIGHBOURS)
@pytest.mark.parametrize("second", NEIGHBOURS)
def test_phone_numbers_next_to_each_other_are_all_replaced(first, second, between):
    text = between.join([first, second, first])
    masked = between.join([PHONE] * 3)
    assert mask_phones(text) == (masked, 3 - [first, second, first].count(PHONE))
    assert mask_phones(masked) == (masked, 0)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24, 24.11.2026, 11/24/2026, 2026-11-24T10:30:45, 01.02.2003 04:05",
        "ISBN 978-3-16-148410-0, 0-306-40615-2, 9783161484100, 3161484100",
        "$1,234,567.89 and 1.234.567,89 € and +1.234.567,89 and +10.000.000 and 12 345 678 and EUR 1200.5555",
        "version 1.12.3456, 2024.100.2000.1, v202.555.0142 and 10.0.19045.3803",
        "2025550142, 12025550142, 4111 1111 1111 1111, 0123 4567 8901 2345, DE89 3704 0044 0532 0130 00",
        "pages 202-355, 1914-1918, 200 300 4000, 3.14159265358979, 0.123 456 7890, 6.02 x 10^23",
        "What is 1+23456789? It is 12 + 34567890 = 34567902. -202-555-0142 and 078-05-1120",
        "https://example.org/202-555-0142 and ?id=202-555-0142 and 192.0.2.1 and 202-555-0142-7",
        PHONE,
    ],
)
def test_numbers_that_are_no_phones_stay(text):
    assert mask_phones(text) == (text, 0)


@given(st.lists(st.sampled_from([*NEIGHBOURS, *"( ) + - 0 1 12 . , / ; x –".split(), " ", "\n"])))
@example(["030/1234567", " ", "202-555-0142"])
def test_masking_phones_again_changes_nothing(pieces):
    once = mask_phones("".join(pieces))[0]
    assert mask_phones(once) == (once, 0)


@pytest.mark.parametrize(
    "unit",
    ["+", "1", "+1", "0", "01", "+1 ", "+1 (", "202-", "202-555-", "030 1", "0171-12 ", "(0", "(+1", "1 202-555-014"],
)
def test_time_to_find_phones_grows_with_the_text_alone(unit):
    assert_linear(lambda share: mask_phones(unit * round(400_000 * share / len(unit))))
