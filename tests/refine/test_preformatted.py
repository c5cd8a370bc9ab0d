import pytest

from crawl2chat.refine.html_blocks import html_blocks
from crawl2chat.refine.markdown import render
from crawl2chat.refine.preformatted import is_prose, paragraphs

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
    return render(html_blocks(page))


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
