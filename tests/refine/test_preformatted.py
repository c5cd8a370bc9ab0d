import pytest

from crawl2chat.refine.text.extract import render_markdown
from crawl2chat.refine.text.html_blocks import html_blocks
from crawl2chat.refine.text.html_reader import Stretch, is_prose, paragraphs, stretches

LETTER = """
Dear all,

The mill by the river has stood still since the flood of last spring, and
nobody in the village knows who is going to mend the wheel. I asked the
miller, but he would not say.

> Has anybody asked the carpenter?
> He mended the bridge.

Yours,
A Reader
"""
POEM = """The moon is on the mill,
  the water, dark and deep,
turns nothing now; the wheel is still,
  the miller is asleep."""
RFC = """
   This document describes how a message of the mill is sent to the
   harbour, and what the ferryman is expected to do with it.  It does not
   define a standard of any kind.

1.  Introduction

   A message has a head and a body.  The head says from whom it comes,
   and the ferryman must not open the body.
"""
JAPANESE = "水車小屋の主人は朝早く川へ行った。\n水は冷たく、空は暗かった。\n誰も来なかったので、彼は帰った。"
CODE = {
    "Python": 'def turn(wheel, days=7):\n    """Turn it."""\n    for day in range(days):\n        wheel.turn(day * 2)\n    return wheel',  # noqa: E501
    "C": "int sum(int n)\n{\n  int s = 0;\n  for (int i = 0; i < n; i++) s += i;\n  return s;\n}",
    "shell": "$ make the mill turn round and round, now.\nall done, the mill turns and turns again.\n$ exit",
    "settings": "title: the mill\nauthor: a reader\nlanguage: english\ncolour: dark green\nsize: very large\nborder: none\nfont: small",  # noqa: E501
    "columns": "name        age    town\nAnna        31     Harwick, north.\nBob         40     Selby, south.\nCarl        52     Harwick, again.",  # noqa: E501
    "HTML": "<p>The miller went to the river,</p>\n<p>and the wheel turned all day long.</p>\n<p>He was tired.</p>",
    "SQL": "SELECT name, town FROM millers\nWHERE age > 30 AND town = 'Selby'\nORDER BY name, town\nLIMIT 10 OFFSET 20",
    "short": "a b\n  c",
}  # fmt: skip


def markdown(page: str) -> str:
    return render_markdown(html_blocks(page))


@pytest.mark.parametrize("text", [LETTER, POEM, RFC, JAPANESE])
def test_prose_is_told_from_code(text):
    assert is_prose(text)
    assert "```" not in markdown(f"<pre>{text.replace('>', '&gt;')}</pre>")


@pytest.mark.parametrize("name", CODE)
def test_code_is_told_from_prose(name):
    assert not is_prose(CODE[name])


@pytest.mark.parametrize(
    "page",
    [
        "<pre><code>{}</code></pre>",
        '<pre class="language-text">{}</pre>',
        '<div class="highlight"><pre>{}</pre></div>',
        '<pre class="brush: js">{}</pre>',
    ],
)
def test_what_the_page_marks_as_code_is_code(page):
    assert markdown(page.format(POEM)) == f"```\n{POEM}\n```"


def test_wrapped_lines_are_joined_and_verses_addresses_and_quotations_keep_theirs():
    found = paragraphs(LETTER.strip())
    assert len(found) == 4
    assert found[1].endswith(
        "nobody in the village knows who is going to mend the wheel. I asked the miller, but he would not say."
    )
    assert found[2] == "> Has anybody asked the carpenter?\n> He mended the bridge."
    assert found[3] == "Yours,\nA Reader"
    assert paragraphs(POEM)[0].split("\n")[1] == "the water, dark and deep,"
    assert paragraphs(RFC.strip("\n"))[0].startswith(
        "This document describes how a message of the mill is sent to the harbour, and"
    )


def test_prose_in_pre_is_paragraphs_beside_others():
    blocks = html_blocks(f"<div><p>One.</p><pre>{LETTER}</pre><p>Two.</p></div>")
    assert {block.element.name for block in blocks} == {"p"}
    assert len({block.element.container for block in blocks}) == 1


MAIL = """On Tue, 3 Mar 2009 at 09:12:33PM +0100, A. Miller wrote:
> See https://mill.example/wheel/2009/03/a-b_c.html for the plan, or
> ask <carpenter@mill.example>, who has drawn it.

I have read it, and I do not think that the wheel will turn. The water is
too low: http://river.example/levels?year=2009&month=3 has the figures.

--
A. Reader <reader@village.example>
http://village.example/~reader/"""
TABLE = """   +------+-----------+
   | Code | Meaning   |
   +------+-----------+
   |    1 | It turns. |
   +------+-----------+"""


def test_addresses_in_a_mail_are_not_code():
    assert is_prose(MAIL)
    assert paragraphs(MAIL)[0].endswith("ask <carpenter@mill.example>, who has drawn it.")


def test_a_table_in_a_document_is_a_stretch_of_its_own_and_the_rest_is_prose():
    foot = "Miller                     Informational                     [Page 1]"
    found = list(stretches(f"{RFC}\n{TABLE}\n\n{RFC}\n{foot}"))
    assert [stretch for stretch in found if not stretch.is_prose] == [Stretch(TABLE, False)]
    assert found[-1] == Stretch("Miller Informational [Page 1]", True)
    assert markdown(f"<pre>{RFC}\n{TABLE}\n{RFC}</pre>").count("```\n") == 2


@pytest.mark.parametrize(
    "text",
    [
        CODE["Python"] + "\n\n" + CODE["C"],
        'def turn(wheel):\n    """Turn the wheel of the mill once, as the miller would, or not at all.\n\n'
        '    The water must be high enough, or nothing moves, and the miller sleeps.\n    """\n    return wheel',
        f"{TABLE}\n\nThis is what the columns of the table mean, in words for everybody.\n\n{TABLE}\n{TABLE}\n{TABLE}",
    ],
)
def test_code_with_a_little_prose_in_it_stays_whole(text):
    assert list(stretches(text)) == [Stretch(text, False)]


def test_verses_of_two_lines_are_not_joined():
    poem = (
        POEM.replace("turns", "Turns").replace("the ", "The ")
        + "\n\nThe wind is in the willow tree,\nThe moon is on the sea."
    )
    assert paragraphs(poem)[1] == "The wind is in the willow tree,\nThe moon is on the sea."


def test_wrapped_lines_of_a_script_without_spaces_are_joined_without_one_and_verses_are_not():
    wrapped = "水車小屋の主人は朝早く川へ行った。水は冷\nたく、空は暗かった。誰も来なかったので、\n彼は帰った。"
    assert paragraphs(wrapped) == [wrapped.replace("\n", "")]
    assert paragraphs(JAPANESE) == [JAPANESE]
