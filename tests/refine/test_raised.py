import pytest

from crawl2chat.refine.text.html_blocks import html_blocks


def text(line: str) -> str:
    (block,) = html_blocks(f"<p>{line}</p>")
    return block.text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("3<sup>4</sup>=81", "3⁴=81"),
        ("6.6×10<sup>-34</sup> J s<SUP>−1</SUP>", "6.6×10⁻³⁴ J s⁻¹"),
        ("10<sup>&minus;3</sup> m<sup>2</sup>", "10⁻³ m²"),
        ("H<sub>2</sub>SO<sub>4</sub> and a<sub>10</sub>", "H₂SO₄ and a₁₀"),
        ("born in 1801<sup><a href=#n3>3</a></sup>, died", "born in 1801³, died"),
        ("1<sup>1</sup>/<sub>2</sub> cups", "1¹/₂ cups"),
        ("2<sup>k</sup> and e<sup>-x/2</sup>", "2^k and e^(-x/2)"),
        ("v<sub>max</sub> of x<sub>i,j</sub>", "v_max of x_(i,j)"),
        ("2<sup>n<sub>0</sub></sup>", "2^n₀"),
        ("(a+b)<sup>2</sup>", "(a+b)²"),
    ],
)
def test_numbers_above_and_below_the_line_do_not_run_into_what_is_before_them(line, expected):
    assert text(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("the 1<sup>st</sup> and 22<sup>nd</sup>", "the 1st and 22nd"),
        (
            "au XX<sup>e</sup> siècle, M<sup>me</sup> Roy, n<sup>o</sup> 5, 5<sup>º</sup>",
            "au XXe siècle, Mme Roy, no 5, 5º",
        ),
        ("Rope<sup>TM</sup> and Barrel<sup>®</sup>", "RopeTM and Barrel®"),
        ("a claim<sup>[12]</sup> stays", "a claim[12] stays"),
        ("plain <sup>small print of the whole company</sup>", "plain small print of the whole company"),
        ("paid $5<sup>.99</sup> for 2<sup>,50 </sup>€", "paid $5.99 for 2,50 €"),
        ("Report<sup>a note that is longer than an index</sup>", "Report a note that is longer than an index"),
        ("open <sup>2 without end", "open 2 without end"),
        ("stray</sup> 2", "stray 2"),
    ],
)
def test_ordinals_marks_and_small_print_stay_as_they_are(line, expected):
    assert text(line) == expected


def test_pages_with_indices_are_not_taken_for_code():
    """Braces would be: C4's rule drops pages that hold one."""
    assert "{" not in text("x<sub>max</sub> 2<sup>a+b</sup> y<sub>i,j</sub>")
