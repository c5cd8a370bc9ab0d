import pytest

from crawl2chat.refine.rules.urls import check_url, load_blocklists
from crawl2chat.stages.files import StageError

BLOCKED = frozenset({"bad.example", "x.good.example"})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://bad.example/page", "blocked_host"),
        ("http://BAD.example:8080/", "blocked_host"),
        ("https://deep.www.bad.example./", "blocked_host"),
        ("https://notbad.example/", None),
        ("https://good.example/", None),
        ("https://x.good.example/", "blocked_host"),
        ("https://free-sex.example/", "host_word"),
        ("https://www.casino.example/", "host_word"),
        ("https://essex.example/casino", None),
        ("https://good.example/film.MP4", "not_html_extension"),
        ("https://good.example/page.html?file=a.pdf", None),
        ("https://good.example/mp4", None),
        ("http://[::1", "bad_url"),
        (f"https://{'a.' * 120}good.example/", None),
        (f"https://{'a.' * 121}good.example/", "bad_url"),
        ("book:17", None),
    ],
)
def test_addresses_are_judged_by_host_and_extension(url, reason):
    assert check_url(url, BLOCKED).reason == reason


def test_host_words_can_be_switched_off():
    assert check_url("https://poker.example/", frozenset(), host_words=False).reason is None


def test_a_blocklist_has_one_host_a_line_and_comments(tmp_path):
    (tmp_path / "hosts").write_text("# list\nBad.example\n\n.other.example  # why\n")
    assert load_blocklists((str(tmp_path / "hosts"),)) == {"bad.example", "other.example"}
    assert load_blocklists(()) == frozenset()
    with pytest.raises(StageError, match=r"refine\.blocklist = none: can't be read .* expected one host per line"):
        load_blocklists(("none",))
