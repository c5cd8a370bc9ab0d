import pytest

from crawl2chat.refine.text.html_blocks import html_blocks

ARTICLE = "<p>" + "The miller went to the river, and the wheel turned all day. " * 20 + "</p>"


def texts(page: str) -> list[str]:
    return [block.text for block in html_blocks(page)]


@pytest.mark.parametrize(
    "tag",
    [
        "div hidden",
        "div class=x HIDDEN=''",
        "div hidden=hidden id=y",
        'section style="display:none"',
        "p style='color: red; DISPLAY : None !important;'",
        'ul style="visibility:hidden"',
        'article STYLE="Visibility: Collapse"',
        "dialog",
        "my-box hidden",
        "span style=display:none",
        "form style='display:block;display:none'",
    ],
)
def test_what_the_page_hides_is_no_text(tag):
    name = tag.split()[0]
    inner = "b" if name == "p" else name
    page = f"{ARTICLE}<{tag}>secret <b>words</b><{inner}>and more</{inner}> too</{name}>seen{ARTICLE}"
    found = " ".join(texts(page))
    assert "seen" in found
    assert not any(word in found for word in ("secret", "words", "more", "too"))


@pytest.mark.parametrize(
    "tag",
    [
        'div hidden="until-found"',
        'div class="hidden none"',
        "div data-hidden aria-hidden=true",
        'div title="display:none"',
        'div style="display:none;display:block"',
        'div style="background-image:none;overflow:hidden"',
        "details",
        "dialog open",
        'input type="hidden"',
    ],
)
def test_what_only_looks_hidden_is_text(tag):
    assert "seen" in " ".join(texts(f"{ARTICLE}<{tag}>seen</{tag.split()[0]}>{ARTICLE}"))


def test_a_hidden_word_leaves_its_line_whole():
    line = "The price was <span style='display: none'>never</span>seven <b hidden>or <b>ten</b> </b>coins."
    assert texts(f"<p>{line}</p>") == ["The price was seven coins."]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>a<p hidden>no<p>b", ["a", "b"]),
        ("<ul><li>a<li hidden>no<ul><li>no</ul><li>b</ul>c", ["a", "b", "c"]),
        ("<table><tr><td>a<td hidden>no<td>b<tr style='display:none'><td>no</table>c", ["a", "b", "c"]),
        ("<div>a<div hidden>no<p>no</div>b</div>c", ["a", "b", "c"]),
        ("<section><div hidden>no</section>c", ["c"]),
        ("<p>a<span hidden>no<div>b</div>", ["a", "b"]),
        ("<p hidden>no<p hidden>no<p>b", ["b"]),
    ],
)
def test_a_hidden_element_ends_as_any_other(page, expected):
    assert texts(page + ARTICLE)[: len(expected)] == expected
    assert len(texts(page + ARTICLE)) == len(expected) + 1


@pytest.mark.parametrize("wrapper", ["body style='visibility:hidden'", "div style='display:none'", "my-app hidden"])
def test_what_hides_most_of_a_page_is_shown_but_not_what_it_hides_itself(wrapper):
    page = f"<{wrapper}><div hidden>{ARTICLE}<p hidden>unseen</p>{ARTICLE}</div></{wrapper.split()[0]}><p>a"
    assert " ".join(texts(page)).count("wheel turned") == 40
    assert "unseen" not in " ".join(texts(page))
    assert texts(page)[-1] == "a"


def test_paragraphs_that_a_script_shows_one_by_one_are_text():
    page = "<h1>Mill</h1>" + "<p style='visibility:hidden'>The wheel turned all day.</p>" * 20
    assert len(texts(page)) == 21


def test_hidden_rows_do_not_shift_columns():
    page = f"{ARTICLE}<table><tr><td hidden>no<td>a<td>b</table>"
    assert [block.element.column for block in html_blocks(page)[1:]] == [0, 1]
