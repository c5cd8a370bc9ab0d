import gzip
import json
import os
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crawl2chat.evals.judging import final_value, is_correct, reference_part
from crawl2chat.evals.values import plain, whole_value

# One value a line, each in the ways that it may be written.
SAME = [
    ["3/4", "0.75", ".750", r"\frac{3}{4}", r"\dfrac34", r"\tfrac{3}{4}", r"\frac 34", "¾", "3⁄4", "6/8"],
    ["7 1/4", "7.25", "7¼", r"7\frac{1}{4}", r"7 \frac14", "29/4"],
    ["-7/2", r"-\frac{7}{2}", "−3.5", r"\frac{-7}{2}", "-3½", "- 3.5"],
    ["2500", "2,500", "2 500", "2\u00a0500", "2\u2009500", "2{,}500", r"2,\!500", "2'500", "2.5e3", "2.5 × 10³",
     r"2.5\times10^{3}", "2.5 thousand", "**2,500**", "2500.00", "$2,500$", r"\(2500\)", "２５００"],
    ["700000", "7,00,000", "700,000", "7 lakh", "7e5", "700 000", "0.7 million"],
    ["4300.25", "4.300,25", "4,300.25", "4 300.25"],
    ["1000", "10^3", "10³", "10^{3}", "1e3", "1,000 apples"],
    ["-8", "−8", "– 8", "-8.0", "-8 °C", "x = -8"],
    ["5", "+5", "5.", "(5)", "5 pears", "y=5", "n = 5", "٥"],
    ["45%", "45 %", "45 percent", "45 per cent", r"45\%", "45"],
    ["$60", r"\$60", "60 dollars", "60$", "USD 60", "$60.00", "60"],
    ["14 cm", "14cm", r"14\text{ cm}", r"14\,\mathrm{cm}", "14 centimetres", "14"],
    ["80 km/h", "80km/h", "80 kilometers per hour", "80"],
    ["30°", r"30^\circ", r"30^{\circ}", "30 degrees"],
    ["9 m²", "9 m^2", "9 square meters"],
    ["7:45", "7:45 am", "7:45 A.M.", "07:45"],
    ["7:45 pm", "19:45", "7:45pm", "7:45 p.m."],
    ["8 pm", "20:00", "8:00 pm", "8 p.m."],
    ["30-40", "30–40", "30 - 40", "30 to 40"],
    ["(5, 6)", "5, 6", "(5,6)", r"\left(5, 6\right)", "5 and 6"],
    ["2,7", "2, 7"],
    ["3:2", "3 : 2"],
    ["4 hours 20 minutes", "4 h 20 min", "4 hours and 20 minutes"],
    ["Oslo", "oslo.", "**Oslo**", '"Oslo"'],
    ["E04", "e04"],
    [r"5\sqrt{2}", r"5\sqrt2", r"5 \sqrt{2}", "5√2"],
    [r"\frac{\sqrt{3}}{2}", r"\dfrac{\sqrt3}{2}"],
    [r"3\pi", "3π", r"3 \pi"],
    [r"\text{(B)}", "B", "(B)", r"\textbf{B}"],
    ["x^2-4x", "x^{2} - 4x", "x²−4x"],
    [r"[1,\infty)", r"\left[1, \infty\right)"],
    [r"\begin{pmatrix} 3 \\ 4 \end{pmatrix}", r"\begin{pmatrix}3\\4\end{pmatrix}"],
    ["12_5", "12_{5}"],
    ["9" * 300, "9" * 300 + "."],
]  # fmt: skip
FRAMES = [
    "{}", "#### {}", "So it is.\n#### {}\n", "The answer is {}.", r"\boxed{{{}}}", "**Answer:** {}",
    r"It is $\boxed{{{}}}$.",
    "Final Answer: The final answer is ${}$. I hope it is correct.", "#### 99\nNo, I forgot one.\n#### {}",
    "<think>Perhaps #### 98?</think>#### {}",
]  # fmt: skip


@pytest.mark.parametrize("ways", SAME, ids=lambda ways: ways[0][:20])
def test_a_value_is_right_in_each_way_of_writing_it(ways):
    wrong = [
        (frame.format(way), reference)
        for reference in ways
        for way in ways
        for frame in FRAMES
        if not is_correct(frame.format(way), reference) or not is_correct(frame.format(way), f"So.\n#### {reference}")
    ]
    assert not wrong


@pytest.mark.parametrize("ways", SAME, ids=lambda ways: ways[0][:20])
def test_no_other_value_is_right(ways):
    others = [of[0] for of in SAME if of is not ways]
    if ways[0].startswith("7:45"):  # without am or pm it may be either
        others = [other for other in others if not other.startswith("7:45")]
    taken = [(frame.format(o), ways[0]) for o in others for frame in FRAMES if is_correct(frame.format(o), ways[0])]
    assert not taken


# As the references of mathematics data sets are written.
MATHEMATICAL = r"""
\dfrac{5}{\sqrt{7}}  (-\infty,9]  x^3-6x+4  \text{Tuesday}  6\pi  \{2,4,6\}  4-7i  a+b  \binom{7}{3}  F  22,\!333,\!444
y=5x-8  0.\overline{6}  \begin{pmatrix}5&6\\7&8\end{pmatrix}  13_6  \left(4,\frac{\pi}{3}\right)  4,5,6
\frac{310}9\text{degrees}  \$47,\!116  [3,8)  x\in[-3,5]  2.75\times10^{-3}  e^{4}  \pm5  1\pm3\sqrt{5}  \infty
1-\frac{1}{3^{8}}  \frac{x+2}{x-3}  7,-4  (1,3),(2,5)  4\sqrt[3]{9}  \cos2x  11\text{inches}  9\text{and}10
\mathbf{w}  1999!  2\le{}x\le7  \frac{1}{5},\frac{1}{6}
""".split()


def test_mathematical_references_are_right_for_themselves_and_for_no_other():
    for frame in ("{}", "So \\boxed{{{}}}.", "The final answer is ${}$.", "#### {}"):
        answers = [frame.format(reference) for reference in MATHEMATICAL]
        for i, reference in enumerate(MATHEMATICAL):
            assert [j for j, answer in enumerate(answers) if is_correct(answer, reference)] == [i]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3+4=7, so 7. The answer is 12.", "12"),
        ("16 - 3 - 4 = 9 eggs a day, 9 * 2 = 18.\n#### 18", "18"),
        ("The answer is 42.0", "42"),
        ("The answer is **1,200** pears, sold in 3 weeks.", "1200"),
        ("That makes $1,234.50.", "1234.5"),
        ("The answer is -5.", "-5"),
        ("It falls to −5 degrees.", "-5"),
        ("First 7, then 9", "9"),
        ("The answer is 7. No: the answer is 8.", "8"),
        ("The answer is 12, not 13.", "12"),
        ("The answer is 20 − 8 = 12.", "12"),
        ("#### 20 apples - 8 apples = 12 apples", "12"),
        ("20 - 8 = 12", "12"),
        ("the answer is 15 gallons * 8 pints / gallon = <<15*8=120>>120 pints", "120"),
        ("The answer is 12 because 4 * 3 = 12 and 5 are left over", "12"),
        ("#### She has 12 eggs", "12"),
        ("#### 3 #### 4", "4"),
        (r"\boxed{3}, no, \boxed{4}", "4"),
        ("#### Step 2: add 5\nThat makes 12.", "12"),
        ("#### 12\nThank you for these 3 questions.", "12"),
        ("After 5 days, 20 apples remain.", "20"),
        ("4 * 3 = 12\n12 + 5 = 17\n\n17", "17"),
        ("The answer is:\n\n7", "7"),
        ("**Final Answer**\n\n$$\\boxed{7}$$", "7"),
        ("It is 5 (five).", "5"),
        ("22/7 ≈ 3.14", "3.14"),
        ("She pays $6/day", "6"),
        ("He came in 4th", "4"),
        ("#### 18 ####", "18"),
        ("**Answer**: 18, from 3 * 6", "18"),
        ("答案是18个苹果。", "18"),
        ("18元", "18"),
        ("คำตอบคือ18บาท", "18"),
        ("I'd say it's the capital:\nOslo", "Oslo"),
        ("The answer is Oslo. It lies by the sea.", "Oslo"),
    ],
)  # fmt: skip
def test_a_text_comes_to_its_last_marked_value_or_else_its_last_number(text, value):
    assert is_correct(text, value)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("I can't say.", "12"), ("", "12"), ("   \n", "12"), ("It is twelve.", "12"), ("The answer is 120.", "12"),
        ("The answer is -12.", "12"), ("####", "12"), ("#### \n", "12"), ("12\n####", "12"), (r"\boxed{}", "12"),
        ("#### 2", "1/2"), ("#### 1", "1/2"), ("#### 15", "10:15"), ("#### 10", "10-20"), ("#### 20", "10-20"),
        ("3 or 4", "4"), ("3 or 4", "3"), ("either 3 or 4", "3"), ("The answer is 3 or maybe 4", "3"),
        ("#### 3 (or 4)", "3"), (r"\boxed{3} or \boxed{4}", "4"), ("3 apples or 4 apples", "4"), ("3, 4", "4"),
        ("#### 3, 4", "3"), ("3 | 4", "4"), ("3; 4", "4"), ("3? 4? 5?", "5"), ("between 3 and 5", "5"),
        ("16 3 4 18", "18"), ("16, 3, 4, 18", "18"), ("16\n3\n4\n18", "18"), ("16+3+4+18", "18"), ("7. 9", "9"),
        ("10-20", "20"), ("10 to 20", "20"), ("10-20", "15"), ("She has 12-7", "7"), ("(3+4)-5", "5"),
        ("1234,567", "567"), ("4\n\nor\n\n5", "5"), ("x is 4 or x is 5", "5"), ("#### 4 or is it 5?", "4"),
        ("It is 4, or else, if you count him, 5.", "5"), ("4... 5", "5"), ("#### 4 5", "4"),
        ("1 2", "12"), ("#### 1 2", "12"), ("1\n2", "12"), ("1, 2", "12"), ("E 0 4", "E04"),
        ("She has 16 eggs and eats 3. How many are left?", "3"),
        ("<think>#### 12", "12"), ("<think>12</think>", "12"),
        ("#### 3x", "3"), ("#### 3x+1", "3"), ("y = 3x + 2", "2"), (r"#### 2\pi", "2"), (r"#### 2 \sqrt{3}", "3"),
        ("#### 3^2", "3"), ("#### 3/4/2024", "3/4"), ("E04", "4"), ("#### 1/0", "1"), ("1e999999999", "1"),
        ("#### 12 m", "12 cm"), ("12 cents", "$12"), ("#### 50%", "0.5"), ("10:15 pm", "10:15 am"), ("3.5", "3,5"),
        ("#### 5 million", "5"), ("#### 2 hours 30 minutes", "2"), ("0.333", "1/3"), ("[3,4)", "(3,4)"),
        ("A B C D", "B"), ("Oslo or Bergen", "Oslo"), ("not Oslo", "Oslo"),
    ],
)  # fmt: skip
def test_another_value_several_or_none_are_wrong(text, reference):
    assert not is_correct(text, reference)


def test_a_reference_is_what_its_last_mark_marks_or_all_of_a_short_one():
    assert reference_part("3+4=<<3+4=7>>7\n#### 7") == "7"
    assert reference_part("#### 3\nNo.\n#### 1/2") == "1/2"
    assert reference_part(r"Half, so $\boxed{\frac{1}{2}}$.") == r"\frac{1}{2}"
    assert reference_part(" Blocked flue ") == "Blocked flue"


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("", "an empty answer"),
        (" ? ", "an empty answer"),
        ("7\n####", "nothing after its last mark"),
        ("She has 3 apples and buys 4, which makes 7.", "10 words without a mark"),
        ("#### " + "9" * 5000, "5,000 characters"),
    ],
)  # fmt: skip
def test_a_reference_that_cannot_be_compared_with_says_why(reference, found):
    with pytest.raises(ValueError, match=re.escape(found)):
        reference_part(reference)
    assert not is_correct("7", reference)


numbers = st.fractions(-(10**7), 10**7, max_denominator=40) | st.integers(-(10**9), 10**9).map(Fraction)


def written(number: Fraction) -> list[str]:
    """A number in all ways that have room for it."""
    sign, size = "-" if number < 0 else "", abs(number)
    whole, rest = divmod(size, 1)
    ways = [f"{sign}{size.numerator}/{size.denominator}", rf"{sign}\frac{{{size.numerator}}}{{{size.denominator}}}"]
    if rest and whole:
        ways += [f"{sign}{whole} {rest}", rf"{sign}{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}"]
    if size.denominator in (1, 2, 4, 5, 8, 10, 20, 25, 40):
        digits = f"{float(size):,.3f}"
        ways += [f"{sign}{digits}", f"{sign}{digits.replace(',', '')}", f"{sign}{digits.replace(',', ' ')}"]
        ways += [f"{sign}{digits.replace(',', '')}e0", rf"{sign}{digits.replace(',', '')} \times 10^{{0}}"]
        if size >= 1000:  # below, a comma would have to be taken for a decimal one
            ways.append(sign + digits.replace(",", "_").replace(".", ",").replace("_", "."))
    if not rest:
        ways += [f"{sign}{whole}", f"{sign}{whole:,}", f"−{whole}" if sign else f"+{whole}", f"{sign}{whole}00 e-2"]
        ways[-1] = ways[-1].replace(" ", "")
    return ways


@given(numbers, st.sampled_from(FRAMES), st.sampled_from(["", " cm", " apples", "%"]))
def test_a_number_equals_itself_however_it_is_written(number, frame, unit):
    ways = written(number)
    for way in ways:
        assert whole_value(way).quantities[0].number == number
        assert is_correct(frame.format(way + unit), ways[0])
        assert is_correct(frame.format(ways[0]), way + unit)


@given(numbers, numbers, st.sampled_from(FRAMES))
def test_a_number_equals_no_other_number(one, other, frame):
    assume(one != other)
    assert not any(is_correct(frame.format(way), str(other)) for way in written(one))


@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=9, unique=True),
    st.sampled_from([" ", ", ", "\n", " or ", " and ", "-", " + "]),
)
def test_a_row_of_numbers_is_none_of_them(row, between):
    assume(between != "\n" or len(row) > 1)
    text = between.join(map(str, row))
    assert not [number for number in row if is_correct(text, str(number))]


@given(st.text() | st.text(alphabet="0123456789 .,-+*/=#$%{}()\\boxedfracanswr:\n", max_size=200))
def test_any_text_can_be_judged_and_is_its_own_reference_or_refused(text):
    assert isinstance(is_correct(text, "7"), bool)
    try:
        part = reference_part(text)
    except ValueError:
        return
    assert is_correct(text, text)
    assert is_correct(f"#### {part}", text) or "\n" in part or "<think>" in part or "#" in part or "\\" in part


@pytest.mark.parametrize(
    "piece",
    ["9", "3 ", "#### ", r"\boxed{", "1,", "1,111", "{", "answer is ", "(", " ", r"\frac{", "- ", "1/", "<think>", "<<",
     "1 000 ", "1.000.", "a ", "$", r"\text{", "2^{", "\n", "or 3 "],
)  # fmt: skip
def test_work_grows_with_an_answers_length_and_not_faster(piece, monkeypatch):
    """Only a bounded part is read for a value, whatever an answer repeats; the rest is searched for marks."""
    read = []
    monkeypatch.setattr("crawl2chat.evals.values.plain", lambda text: read.append(len(text)) or plain(text))
    for text in (piece * 100_000, piece * 100_000 + "3", "#### " + piece * 100_000):
        is_correct(text, "12")
        final_value(text)
    assert max(read, default=0) <= 1000
    assert len(read) < 1000


@pytest.mark.skipif("CRAWL2CHAT_SHARED" not in os.environ, reason="CRAWL2CHAT_SHARED names no folder with GSM8K")
@pytest.mark.parametrize(("name", "count"), [("train", 7473), ("test", 1319)])
def test_each_real_reference_grades_itself_as_right_and_its_questions_numbers_as_wrong(name, count):
    file = Path(os.environ["CRAWL2CHAT_SHARED"]) / "data" / "gsm8k" / f"{name}.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(rows) == count
    for row in rows:
        value = reference_part(row["answer"])
        steps = row["answer"].rpartition("####")[0]
        for answer in (row["answer"], value, f"{steps}\nThe answer is {value}.", f"{steps} \\boxed{{{value}}}"):
            assert is_correct(answer, row["answer"]), answer
        listed = [*re.findall(r"[0-9][0-9,.]*", row["question"]), "1234567", value]
        for between in (" ", ", ", "\n", " or "):
            assert not is_correct(between.join(listed), row["answer"]), listed


@pytest.mark.parametrize(
    "form", ["The answer is: {}", "The answer is: ${}$", "So **the answer is:** {}.", "Answer: {}"]
)
@pytest.mark.parametrize("reference", ["Oslo", r"x^2 - 4", r"2\sqrt{5}", "E04", "(B)"])
def test_a_colon_behind_the_phrase_is_not_part_of_the_answer(form, reference):
    assert is_correct(form.format(reference), reference)


@pytest.mark.parametrize("part", [
    r"\begin{pmatrix} 3 & 1 \\ 4 & 2 \end{pmatrix}", "turn the valve until the light is green",
])  # fmt: skip
def test_what_a_reader_takes_for_a_reference_can_be_answered_however_long_it_is(part):
    read = reference_part(f"First this, then that.\n#### {part}")
    assert is_correct(f"#### {part}", read)
    assert not is_correct("#### 4", read)


@pytest.mark.parametrize("formula", [
    r"\pi/4", "π/4", "x < 4", r"x \le 4", r"n \geq 4", r"x \ne 4", r"\log_2 4", "ln 4", r"\sin 4",
    r"\pm 4", r"4.\overline{27}", r"e^{i\pi/4}", "sqrt 4",
])  # fmt: skip
def test_the_last_number_of_a_formula_is_not_its_value(formula):
    assert not is_correct(rf"\boxed{{{formula}}}", "4")
    assert not is_correct(f"#### {formula}", "4")
    assert is_correct(rf"\boxed{{{formula}}}", formula)


def test_arrows_and_tags_before_a_number_make_no_formula_of_it():
    for answer in ("<b>4</b>", "x => 4", "x -> 4", r"2x = 8 \Rightarrow 4", "<p> 4 </p>", r"x \approx 4"):
        assert is_correct(answer, "4"), answer


@pytest.mark.parametrize("unit", [r"12 \text{ cm}", r"12 \mbox{ cm}", r"12\ \text{ cm}", r"12~\mathrm{cm}"])
def test_spaces_around_a_unit_in_latex_do_not_hide_it(unit):
    assert is_correct(rf"\boxed{{{unit}}}", "12 cm")
    assert not is_correct(rf"\boxed{{{unit}}}", "12 inches")
