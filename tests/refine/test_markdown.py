import pytest

from crawl2chat.refine.text.extract import render_markdown
from crawl2chat.refine.text.html_blocks import html_blocks


def markdown(page: str) -> str:
    return render_markdown(html_blocks(page))


def test_headings_paragraphs_and_lists():
    page = "<h1>Mills</h1><p>They turn.<h2>Kinds<br>of mill</h2><ul><li>wind<li><p>water</p><p>and tide</p></ul><p>End."
    assert markdown(page) == "# Mills\n\nThey turn.\n\n## Kinds of mill\n\n- wind\n- water\nand tide\n\nEnd."


def test_items_of_an_ordered_list_are_numbered():
    assert markdown("<ol><li>a<li>b</ol><ol><li>c</ol>") == "1. a\n2. b\n1. c"


def test_rows_of_a_table_are_lines():
    page = "<p>Prices<table><tr><th>grain<th>price<tr><td>rye<td>two<br>coins</table><table><tr><td>x<td>y</table>"
    assert markdown(page) == "Prices\n\ngrain | price\nrye | two coins\n\nx | y"


def test_head_body_and_foot_of_a_table_are_one():
    head, body = "<thead><tr><th>grain<th>price</thead>", "<tbody><tr><td>rye<td>2</tbody>"
    foot = "<tfoot><tr><td>all<td>2</tfoot>"
    assert markdown(f"<table>{head}{body}{foot}</table><table>{body}</table>") == (
        "grain | price\nrye | 2\nall | 2\n\nrye | 2"
    )


def test_empty_cells_keep_their_place():
    page = "<table><tr><th></th><th>2001<th>2013<tr><td>Anna<td><td>3<tr><td>Bob<td colspan=2>4<td>5</table>"
    assert markdown(page) == "| 2001 | 2013\nAnna |  | 3\nBob | 4 |  | 5"


def test_cells_may_hold_a_paragraph_and_rows_that_lay_out_a_page_are_none():
    assert markdown("<table><tr><td><p>rye</p><td><div><p>two</p></div></table>") == "rye | two"
    assert markdown("<table><tr><td>menu<td><p>One.</p><p>Two.</p></table>") == "menu\n\nOne.\n\nTwo."
    long = "word " * 100 + "."
    assert markdown(f"<table><tr><td>menu<td>{long}</table>") == f"menu\n\n{long}"


def test_code_is_fenced_and_keeps_its_lines():
    assert markdown("<p>So:<pre><code>if x:\n    y()\n</code></pre>Done.") == "So:\n\n```\nif x:\n    y()\n```\n\nDone."
    assert markdown("<pre><div>a</div><div>  b</div></pre><pre>c</pre>") == "```\na\n  b\n```\n\n```\nc\n```"
    assert markdown("<pre><ol><li>a<li>  b</ol></pre><pre><div><div>c</div></div>d</pre>") == (
        "```\na\n  b\n```\n\n```\nc\nd\n```"
    )


def test_a_cell_that_spans_rows_keeps_its_column_in_the_rows_below():
    page = (
        "<table><tr><th rowspan=2>a<th colspan=2>b<tr><td>c<td>d<tr><td>e<td rowspan='2'>f<td>g<tr><td>h<td>i</table>"
    )
    assert markdown(page) == "a | b\n| c | d\ne | f | g\nh |  | i"
    body = "<tbody><tr><td rowspan=0>a<td>b<tr><td>c</tbody>"
    assert markdown(f"<table>{body}<tbody><tr><td>d</tbody></table>") == "a | b\n| c\nd"


def test_spans_that_no_table_has_are_bounded():
    rows = "<tr><td rowspan=99999 colspan=99999>a" + "<tr><td>b" * 3
    lines = markdown(f"<table>{rows}</table>").split("\n")
    assert [line.strip("| ") for line in lines] == ["a", "b", "b", "b"]
    assert max(map(len, lines)) < 200


GUTTERS = [
    '<table><tr><td class="gutter"><pre>1\n2\n</pre></td><td class="code"><pre>{}</pre></td></tr></table>',
    '<table class="highlighttable"><tr><td class="linenos"><div class="linenodiv"><pre><span class="normal">1</span>\n'
    '<span class="normal">2</span></pre></div></td><td class="code"><div><pre><span></span>{}</pre></div></td></table>',
    '<pre class="highlight"><code><table class="rouge-table"><tbody><tr><td class="rouge-gutter gl"><pre class="lineno">1\n2\n'  # noqa: E501
    '</pre></td><td class="rouge-code"><pre>{}</pre></td></tr></tbody></table></code></pre>',
    '<table><tr><td class="lntd"><pre><code><span class="lnt">1\n</span><span class="lnt">2\n</span></code></pre></td>'
    '<td class="lntd"><pre><code>{}</code></pre></td></tr></table>',
    "<table><tr><td class=nums><pre>1\n2</pre><td><pre>{}</pre></table>",
    '<pre class="line-numbers"><code>{}<span aria-hidden="true" class="line-numbers-rows"><span></span></span></code></pre>',  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize("page", GUTTERS)
def test_line_numbers_beside_code_go_and_its_fence_is_on_lines_of_its_own(page):
    code = "int a;\n  int b;"
    assert markdown(f"<p>So:</p>{page.format(code)}<p>Done.") == f"So:\n\n```\n{code}\n```\n\nDone."


def test_line_numbers_inside_code_go():
    for name in ("lineno", "linenos", "line-number", "hljs-ln-numbers", "ln"):
        page = f'<pre><code><span class="{name}"> 9 </span>int a;\n<span class={name}>10 </span>int b;</code></pre>'
        assert markdown(page) == "```\nint a;\nint b;\n```"
    row = '<tr><td class="hljs-ln-numbers" data-line-number="{0}"><div>{0}</div></td><td class="hljs-ln-code">{1}</td></tr>'  # noqa: E501
    table = f"<pre><code><table>{row.format(1, 'int a;')}{row.format(2, '  int b;')}</table></code></pre>"
    assert markdown(table) == "```\nint a;\n  int b;\n```"


def test_numbers_that_are_no_line_numbers_stay():
    assert markdown("<div class=gutter>12 apples</div>") == "12 apples"
    assert markdown("<pre>3\n1\n2</pre>") == "```\n3\n1\n2\n```"
    assert markdown("<p>Order <span class=order-number>12</span> is there.") == "Order 12 is there."


def test_cells_of_code_are_no_row():
    page = "<table><tr><td><pre>a = 1;</pre><td><pre>b = 2;</pre></table>"
    assert markdown(page) == "```\na = 1;\n```\n\n```\nb = 2;\n```"


def test_a_pre_that_is_never_closed_ends_with_its_cell():
    assert markdown("<table><tr><td><pre>a = 1;</td></tr></table><p>b") == "```\na = 1;\n```\n\nb"


def test_nothing_is_nothing():
    assert markdown("") == ""
