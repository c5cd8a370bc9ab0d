from crawl2chat.refine.html_blocks import html_blocks
from crawl2chat.refine.markdown import render


def markdown(page: str) -> str:
    return render(html_blocks(page))


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


def test_nothing_is_nothing():
    assert markdown("") == ""
