import pytest
from effort import assert_linear

from crawl2chat.refine.text.html_blocks import html_blocks
from crawl2chat.refine.text.html_tags import HINT_BITS, HINTS


def texts(page: str) -> list[str]:
    return [block.text for block in html_blocks(page)]


def test_text_inside_a_line_is_one_block_and_block_elements_part_it():
    assert texts("<p>One <b>bold</b> and <a href=x>link</a>ed<p>Two<div>Three</div>four") == [
        "One bold and linked",
        "Two",
        "Three",
        "four",
    ]


def test_names_of_tags_may_be_written_in_any_case():
    assert texts("<DIV>a</Div><dIv>b</DIV><Nav>no</nAV><P>c<Br><bR>d") == ["a", "b", "c", "d"]


def test_one_br_ends_a_line_and_two_a_paragraph():
    assert texts("<p>a<br>b<BR/><br>\n c") == ["a\nb", "c"]


def test_preformatted_text_keeps_its_lines_and_blanks():
    assert texts("<pre>\ndef f():<br>    <b>return</b>  1\n</pre>") == ["def f():\n    return  1"]
    assert texts("<pre><code><div>a</div><div>  b</div></code></pre><div>c</div>") == ["a\n  b", "c"]


@pytest.mark.parametrize(
    "unread",
    [
        "<script>if (a < b) { document.write('<p>no</p>') }</script>",
        "<SCRIPT>no</SCRIPT>",
        "<Style>no</sTYLE>",
        "<!-- <p>no</p> -->",
        "<!doctype html>",
        "<?xml version='1.0'?>",
        "<nav><ul><li>no</ul></nav>",
        "<footer class=x>no</footer>",
        "<select><option>no</select>",
        "<svg><title>no</title></svg>",
    ],
)
def test_what_nobody_reads_is_cut(unread):
    assert texts(f"<p>before{unread}after <svgs>and") == ["before after and"]


def test_a_script_without_end_takes_the_rest_and_other_elements_only_their_tag():
    assert texts("<p>a<script>b<p>c") == ["a"]
    assert texts("<p>a<nav>b<p>c") == ["ab", "c"]
    assert texts("<p>a<!-- b<p>c") == ["a<!-- b", "c"]


def test_formulas_are_their_source():
    math = (
        "<math><semantics><mi>E</mi><mo>=</mo><mi>m</mi><annotation encoding='application/x-tex'>{}</annotation></math>"
    )
    assert texts("<p>Let " + math.format("{\\displaystyle E=mc^{2}}") + " hold") == ["Let $E=mc^{2}$ hold"]
    assert texts("<p>" + math.format("a &lt; b^{2}")) == ["$a < b^{2}$"]
    assert texts("<p><math><mi>x</mi><mo>=</mo><mn>1</mn></math>") == ["x=1"]


def test_entities_are_read_after_the_tags():
    assert texts("<p>1 &lt;b&gt; 2 &amp;amp; caf&eacute;&nbsp;x") == ["1 <b> 2 &amp; café x"]


def test_a_character_with_an_absurd_number_is_none():
    assert texts(f"<p>a&#{'9' * 10_000};b &#{'9' * 500};c &amp; d") == ["a\ufffdb \ufffdc & d"]


def test_angle_brackets_in_attributes_and_alone_end_nothing():
    assert texts("""<p title="a > b" data-x='<p>'>1 < 2 and 3 > 2<a b=c>d</a>""") == ["1 < 2 and 3 > 2d"]


def test_links_are_counted_and_elements_say_where_a_block_is():
    page = '<article><div class="entry-content x"><p id=lead><a href=/>two</a> six</p></div></article>'
    (block,) = html_blocks(page)
    assert (block.text, block.link_chars, block.element.name, block.depth) == ("two six", 3, "p", 3)
    assert block.element.hints == HINT_BITS["lead"]
    assert block.element.container.hints == HINT_BITS["entry"] | HINT_BITS["content"]
    assert block.element.around & HINT_BITS["entry"]
    assert len(HINTS) == len(HINT_BITS) == 128


def test_items_and_cells_without_end_tags_are_siblings():
    first, second, after = html_blocks("<ul><li>a<li>b</ul>c")
    assert first.element.parent is second.element.parent
    assert after.element.name == "body"
    cells = html_blocks("<table><tr><td>a<td>b<tr><td>c</table>")
    assert cells[0].element.parent is cells[1].element.parent is not cells[2].element.parent


def test_names_of_elements_may_hold_hyphens_and_dots():
    assert texts("<p>a<p-x>b</p-x>c<a-b>d</a-b> <nav-bar>e</nav-bar> <script-a>f</script-a>, <x.y>g</x.y>") == [
        "abcd e f, g"
    ]
    (block,) = html_blocks("<p><a-text>not a link</a-text>")
    assert block.link_chars == 0
    assert texts("<nav>no</nav-bar>no</nav>a<svg>no</svg-x>no</svg>b") == ["a b"]
    assert texts("<pre-view><p>a</p></pre-view>") == ["a"]


def test_a_custom_element_behind_another_begins_a_block():
    assert texts("<x-p>One is here.</x-p><x-p>Two</x-p>\n<x-p>is it.</x-p>\n<x-p>Three.</x-p>") == [
        "One is here.",
        "Two is it.",
        "Three.",
    ]
    assert texts("<p>Press <x-key>Ctrl</x-key>+<x-key>C</x-key> <x-b>now</x-b> <x-b>or</x-b> never") == [
        "Press Ctrl+C now or never"
    ]


def test_svg_and_math_may_close_themselves_and_other_elements_may_not():
    assert texts('<p>a<svg class="x" width=0 />b<SVG/>c<math/>d<svg><path/><g>no</g></svg>e') == ["a b c d e"]
    assert texts("<p>a<svg width=1/>no</svg>b") == ["a b"]  # the slash is the width's
    assert texts("<p>a<script src=x />no</script>b<div/>c") == ["a b", "c"]


@pytest.mark.parametrize("as_xml", ["header", "declaration"])
def test_in_xml_any_element_may_close_itself(as_xml):
    page = """<html><head><title/><script src="/a.js"/><style type='text/css'/></head><body><iframe src='x'/><p/>
    <pre/><p>a<br/>b <a name="x"/>c</p><textarea/><script>no()</script><p>d</p></body></html>"""
    if as_xml == "declaration":
        page = f"<?xml version='1.0'?>\n{page}"
    blocks = html_blocks(page, "application/xhtml+xml; charset=utf-8" if as_xml == "header" else None)
    assert [block.text for block in blocks] == ["a\nb c", "d"]
    assert sum(block.link_chars for block in blocks) == 0


HOSTILE = {
    "formulas": "<math><annotation x-tex>" * 50_000 + "</math>",
    "nested": "<div>" * 300_000 + "text",
    "paragraphs": "<p>short" * 60_000,
    "end tags": "</div></p></li>" * 100_000,
    "open tags": "<nav <script " * 100_000,
    "unclosed scripts in two cases": "<script><SCRIPT></Script " * 50_000,
    "unclosed comments": "<!-- <p " * 100_000,
    "unclosed elements": "<nav><footer><svg>x" * 50_000,
    "quotes": "<a b=\"c' <a b='c\" " * 100_000,
    "equals": "<p " + "=" * 1_000_000,
    "attributes": "<p " + "a=b " * 300_000 + ">",
    "brackets": "<" * 1_000_000,
    "line ends": "<br> " * 300_000,
    "line ends after blanks": "a" + "<i> </i>" * 100_000 + "<br>" * 100_000,
    "lists": "<ul><li>" * 100_000,
    "rows": "<table><tr><td>" * 60_000,
    "entities": "&amp" * 300_000,
    "hidden": "<div hidden>" * 50_000 + "text" * 1000,
    "hidden in turn": "<p hidden>" * 100_000 + "text",
    "hidden in a line": "<p>a<span style=display:none>b" * 50_000,
    "hidden words": "<p>" + "<b hidden>" * 50_000 + "text",
    "gutters": "<div class=gutter>" * 50_000 + "text",
    "gutters in turn": "<div class=gutter>text</div>" * 50_000,
    "rendered formulas": "<span class=MathJax>" * 50_000 + "text",
    "raised": "<p>" + ("<sup>2" * 10_000 + "</sup>" * 10_000) * 10,
    "raised in turn": "<p>" + "x<sup>2</sup>" * 100_000,
    "custom elements": "<x-a>b</x-a>" * 50_000,
    "MathML": "<math>" + "<msqrt>" * 1_400 + "</math>" + ("<math>" + "</mi>" * 1_900 + "</math>") * 30,
    "spans": "<table><tr>" + "<td rowspan=65534>" * 60 + "<tr><td>a" * 50_000,
    "preformatted": "<pre>" + "the mill, \n\n" * 100_000,
    # text behind the first eighth's blanks, too: a part without any is dropped at once, and says nothing
    "preformatted blanks": "<pre>a" + " \n" * 20_000 + "b, and the mill " * 50 + " \n" * 180_000 + "c, the mill " * 50,
    "self-closed": '<?xml version="1.0"?>' + "<p/>" * 100_000,
    "self-closed svg": "<svg/>" * 100_000,
    "hints": "".join(f'<div class="content nav{i}">x' for i in range(50_000)),
}


@pytest.mark.no_cover  # what is timed is the code, not its tracing
@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_with_length_alone(name):
    page = HOSTILE[name]
    assert_linear(lambda share: html_blocks(page[: round(len(page) * share)]))
