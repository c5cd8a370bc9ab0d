import pytest

from crawl2chat.refine.text.html_blocks import html_blocks

TEX = r"\frac{a}{b}"
ANNOTATED = (
    f'<math><mfrac><mi>a</mi><mi>b</mi></mfrac><annotation encoding="application/x-tex">{TEX}</annotation></math>'
)
PLAIN = "<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math>"
GLYPHS = '<span class="base"><span class="mord">a</span><span>b</span></span>'


def text(line: str) -> str:
    (block,) = html_blocks(f"<p>Let {line} hold.</p>")
    return block.text


@pytest.mark.parametrize(
    "markup",
    [
        f'<script type="math/tex">{TEX}</script>',
        f"<SCRIPT type='math/tex' id=MathJax-Element-1>% <![CDATA[\n{TEX} %]]></SCRIPT>",
        f'<span class="MathJax_Preview">{TEX}</span><script type="math/tex">{TEX}</script>',
        f'<span class="MathJax_Preview"></span><span class="MathJax" id="M-1-Frame"><nobr aria-hidden="true">{GLYPHS}</nobr>'  # noqa: E501
        f'<span class="MJX_Assistive_MathML">{PLAIN}</span></span><script type="math/tex" id="M-1">{TEX}</script>',
        f'<span class="MathJax"><nobr aria-hidden="true">{GLYPHS}</nobr><span class="MJX_Assistive_MathML">{PLAIN}</span></span>',  # noqa: E501
        f'<script type="math/mml">{PLAIN}</script>',
        '<mjx-container class="MathJax" jax="CHTML"><mjx-math class="MJX-TEX" aria-hidden="true"><mjx-mfrac><mjx-mi>'
        f'<mjx-c class="mjx-c61"></mjx-c></mjx-mi><mjx-mi>b</mjx-mi></mjx-mfrac></mjx-math>'
        f"<mjx-assistive-mml>{PLAIN}</mjx-assistive-mml></mjx-container>",
        f'<span class="katex"><span class="katex-mathml">{ANNOTATED}</span>'
        f'<span class="katex-html" aria-hidden="true">{GLYPHS}</span></span>',
        f'<math alttext="{TEX}"><mi>a</mi></math>',
        ANNOTATED,
        PLAIN,
        f'<span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display: none;">{ANNOTATED}</span>'
        rf'<img class="mwe-math-fallback-image-inline" aria-hidden="true" alt="{{\displaystyle {TEX}}}"></span>',
        rf'<img class="mwe-math-fallback-image-inline" alt="{{\displaystyle {TEX}}}">',
        f'<img class="latex" src=x.png alt="{TEX}" />',
        '<img src="https://s0.wp.com/latex.php?latex=%5Cfrac%7Ba%7D%7Bb%7D&bg=fff" title="x">',
        f'<img class="tex" alt="${TEX}$">',
        rf"\({TEX}\)",
    ],
)  # fmt: skip
def test_a_formula_is_there_once_and_as_its_source(markup):
    found = text(markup)
    assert found in (f"Let ${TEX}$ hold.", rf"Let \({TEX}\) hold.")


def test_display_formulas_have_two_dollars_and_may_be_blocks_of_their_own():
    page = r'<p>So</p><script type="math/tex; mode=display">\int_0^t v &lt; a<b\,dt</script><p>holds.</p>'
    assert [block.text for block in html_blocks(page)] == ["So", r"$$\int_0^t v &lt; a<b\,dt$$", "holds."]
    assert text(r'<math display="block" alttext="x^2"></math>') == "Let $$x^2$$ hold."


@pytest.mark.parametrize(
    ("address", "tex"),
    [
        (r"https://latex.codecogs.com/svg.latex?\frac{a}{b}&space;c", r"\frac{a}{b} c"),
        (r"https://latex.codecogs.com/png.image?\dpi{110}\bg_white&space;x^2&plus;1", "x^2+1"),
        ("https://latex.codecogs.com/gif.latex?%5Cinline%20x%5E2", "x^2"),
        ("https://www.zhihu.com/equation?tex=x%5E2%2By&w=9", "x^2+y"),
        ("https://render.githubusercontent.com/render/math?mode=inline&math=e%5E%7Bx%7D", "e^{x}"),
        ("https://chart.googleapis.com/chart?cht=tx&chl=x_1", "x_1"),
    ],
)
def test_the_address_of_an_image_may_hold_its_formula(address, tex):
    assert text(f'<img src="{address}">') == f"Let ${tex}$ hold."


@pytest.mark.parametrize("encoding", ["application/x-tex", "TeX", "LaTeX", "text/tex"])
def test_the_source_in_an_annotation_may_be_called_by_any_name_of_tex(encoding):
    kinds = f'<annotation encoding="text/plain">ab</annotation><annotation encoding="{encoding}">{TEX}</annotation>'
    assert text(f"<math><semantics><mi>a</mi>{kinds}</semantics></math>") == f"Let ${TEX}$ hold."


def test_formulas_that_are_alike_stay_two():
    assert text('<img class=latex alt="x"> <img class=latex alt="y">') == "Let $x$ $y$ hold."
    once = f'<span class="katex-mathml">{ANNOTATED}</span><span class="katex-html" aria-hidden=true>{GLYPHS}</span>'
    assert text(f"{once} and {once}") == f"Let ${TEX}$ and ${TEX}$ hold."


def test_what_has_no_source_beside_it_is_not_cut():
    assert text('<span class="katex-html" aria-hidden="true">x+1</span>') == "Let x+1 hold."
    assert text('<span class="MathJax_Preview">x+1</span>') == "Let x+1 hold."
    assert text('<img class="photo" alt="a boat"> <i aria-hidden="true">x</i>') == "Let x hold."
    assert text('<script type="text/javascript">x</script>') == "Let hold."


@pytest.mark.parametrize(
    ("mathml", "tex"),
    [
        ("<msup><mi>x</mi><mn>2</mn></msup><mo>+</mo><mn>1</mn>", "$x^2+1$"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>10</mn></msubsup>", "$x_i^{10}$"),
        ("<msqrt><mi>a</mi><mo>−</mo><mi>b</mi></msqrt>", r"$\sqrt{a-b}$"),
        ("<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>", "$∑_{i=1}^n$"),
        ("<mover><mi>v</mi><mo>→</mo></mover>", r"$\vec{v}$"),
        ("<msup><mrow><mi>a</mi><mi>b</mi></mrow><mn>2</mn></msup>", "${ab}^2$"),
        ("<msup><mn>10</mn><mn>2</mn></msup>", "$10^2$"),
        ("<munder><mi>lim</mi><mi>n</mi></munder>", "$lim_n$"),
        ("<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr></mtable>", r"$\begin{matrix}1 & 2\end{matrix}$"),  # noqa: E501
        ("<m:msup><m:mi>x</m:mi><m:mn>2</m:mn></m:msup>", "$x^2$"),
        ("<mi>x</mi><mo>&lt;</mo><mn>1</mn>", "x<1"),
    ],
)  # fmt: skip
def test_mathml_without_source_becomes_tex(mathml, tex):
    assert text(f"<math>{mathml}</math>") == f"Let {tex} hold."
