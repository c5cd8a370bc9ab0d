r"""The values that short answers state: numbers in the ways that people and LaTeX write them, lists, ranges, times.

What is read: integers and decimals, thousands separated by commas (1,200; 1,00,000), spaces (1 200) or, where nothing
else can be meant, points (1.200,50); fractions (1/2, \frac{1}{2}, ½) and mixed numbers (2 1/2); signs; powers of ten
(1e3, 1×10^3); currencies and units on either side; lists (3, 4), ranges (10-20), times and ratios (10:15).
Numbers are exact: 1/2 is 0.5, but 1/3 is not 0.333. Units are not converted: 100 cm is not 1 m, and 50 % is not 0.5.

Nothing is guessed: 3,5 is a list of two, and a sum that is not worked out is not a number.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARACTERS = 1000  # of a text that is read for a value
MAX_DIGITS = 100  # longer numbers and larger exponents are compared as text, so that no answer can ask for much work


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, which is empty if there is none or it is only a noun (12 apples)."""

    number: Fraction
    unit: str = ""

    def matches(self, other: "Quantity") -> bool:
        """Whether both are the same number; a missing unit goes with any."""
        return self.number == other.number and (not self.unit or not other.unit or self.unit == other.unit)


@dataclass(frozen=True)
class Value:
    """One quantity, or several and how they are joined.

    joined: "" for one, "," for a list, "-" for a range, ":" for a time or ratio; "?" for numbers that come to no
    value, such as a sum that is not worked out.
    """

    quantities: tuple[Quantity, ...]
    joined: str = ""

    def matches(self, other: "Value") -> bool:
        """Whether both state the same: number by number, and times of day on the 12-hour and the 24-hour clock."""
        if self._matches(other):
            return True
        clocks = self._on_24_hours(), other._on_24_hours()
        return clocks != (self, other) and clocks[0]._matches(clocks[1])

    def _matches(self, other: "Value") -> bool:
        return (
            self.joined == other.joined != "?"
            and len(self.quantities) == len(other.quantities)
            and all(a.matches(b) for a, b in zip(self.quantities, other.quantities, strict=True))
        )

    def _on_24_hours(self) -> "Value":
        """10:15 pm as 22:15, 3 pm as 15:00; anything without am or pm as it is."""
        half = self.quantities[-1].unit if self.quantities else ""
        if half not in ("am", "pm") or self.joined not in ("", ":"):
            return self
        hour, *rest = (quantity.number for quantity in self.quantities)
        numbers = [hour % 12 + 12 * (half == "pm"), *(rest or [Fraction(0)])]
        return Value(tuple(Quantity(number) for number in numbers), ":")


def whole_value(text: str) -> Value | None:
    """The value that all of the text states, with nothing else in it but a unit or noun; None if there is none."""
    if len(text) > MAX_CHARACTERS:
        return None
    text = _stripped(plain(text))
    runs = _runs(text)
    if len(runs) != 1 or runs[0].start or re.search(r"[\[\]{}]", text):
        return None
    if not _NOUNS_ONLY.fullmatch(text, runs[0].end) or _goes_on(text, runs[0].end):
        return None
    return None if runs[0].value.joined == "?" else runs[0].value


def leading_value(text: str) -> Value | None:
    """The value that a text begins with: of `10 − 3 = 7` it is 7; None if it does not begin with a number.

    A text that offers another one ("3 or 4") or goes on as a formula (3x, 3 + y) states no value.
    """
    text = _stripped(plain(text[:MAX_CHARACTERS].split("\n")[0]))
    runs = iter(_runs(text))
    run = next(runs, None)
    if run is None or run.start:
        return None
    while equals := _EQUALS.match(text, run.end):
        following = next(runs, None)
        if following is None or text[equals.end() : following.start].strip(" $(*"):
            return _NO_VALUE
        run = following
    sentence = re.split(r"[.!?](?:\s|$)", text[run.end :], maxsplit=1)[0]
    if _goes_on(text, run.end) or _ALTERNATIVE.search(sentence):
        return _NO_VALUE
    return run.value


def trailing_value(text: str) -> Value | None:
    """The value of the last number or numbers in a text, None if there are none.

    A row of bare numbers (`16 3 4 2`, also on several lines) is a list of them. A text that ends with a question mark
    asks and states nothing: the problem itself, repeated.
    """
    text = plain(text[-MAX_CHARACTERS:])
    runs = _runs(text)
    if not runs or text.rstrip().endswith("?"):
        return None
    last = runs[-1]
    row = [last]
    for run in reversed(runs[:-1]):
        if not _BARE.fullmatch(text, run.end, row[-1].start):
            break
        row.append(run)
    distinct = len({run.value for run in row})
    listed = distinct > 2 or any(run.several for run in row[1:]) or (distinct > 1 and not re.search(r"[^\W\d]", text))
    if listed or _OPERAND.search(text, 0, last.start) or _goes_on(text, last.end):
        return _NO_VALUE
    return last.value


def plain(text: str) -> str:
    """The text with what LaTeX, Markdown and Unicode write in their own ways as ASCII: 1/2, -3, 10^3, 12 cm."""
    if not text.isascii():
        text = re.sub(rf"(?<=[0-9])(?=[{_VULGAR}])", " ", text)  # 2½ is 2 1/2, not 21/2
        text = re.sub(rf"[{_VULGAR}]", lambda found: unicodedata.normalize("NFKC", found[0]), text)
        text = re.sub(rf"[{_RAISED}]+", lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text)
        text = re.sub(r"√\s*(\w+)", r"sqrt(\1)", text)
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text).translate(_ASCII)
    if "\\" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
        for _ in range(8):  # from the innermost fraction outwards
            before = text
            for pattern, replacement in _LATEX_NESTED:
                text = pattern.sub(replacement, text)
            if text == before:
                break
        text = re.sub(r" {2,}", " ", text)  # 12 \text{ cm} is 12 cm
    text = re.sub(r"([\^_])\{(-?\w+)\}", r"\1\2", text.replace("{,}", ","))
    text = re.sub(r"(?<![\w.,])10\^(?=-?[0-9])", "1e", text)
    text = re.sub(r"\*\*|__|`|<<[^<>]*>>", "", text)  # emphasis, code, and GSM8K's notes for a calculator
    return re.sub(r"(?<!\$)\$([^$\n]+)\$(?!\$)", r"\1", text.replace("$$", ""))


@dataclass(frozen=True)
class _Run:
    """Numbers with nothing but joiners between them, and where they are in the text."""

    start: int
    end: int
    several: bool
    value: Value


def _runs(text: str) -> list[_Run]:
    groups: list[list[re.Match[str]]] = []
    joins: list[list[str]] = []
    for found in _NUMBER.finditer(text):
        if groups and (joined := _join(groups[-1][-1], found)):
            groups[-1].append(found)
            joins[-1].append(joined)
        else:
            groups.append([found])
            joins.append([])
    return [
        _Run(group[0].start(), group[-1].end(), len(group) > 1, _value_of(group, of))
        for group, of in zip(groups, joins, strict=True)
    ]


def _value_of(numbers: list[re.Match[str]], joins: list[str]) -> Value:
    kinds = set(joins)
    around = numbers[0].string[max(0, numbers[0].start() - 1) : numbers[-1].end() + 1]
    if len(kinds) > 1 or (kinds and (around[0] in "[{" or around[-1] in "]}")):  # [3, 4) is an interval
        return _NO_VALUE
    try:
        quantities = tuple(_quantity(number) for number in numbers)
    except (ValueError, ZeroDivisionError):
        return _NO_VALUE
    return Value(quantities, kinds.pop() if kinds else "")


def _quantity(found: re.Match[str]) -> Quantity:
    """Raises ValueError for a number of more than MAX_DIGITS, ZeroDivisionError for 1/0."""
    number = _number(found["digits"])
    if found["power"]:
        exponent = int(re.split("[eE]", found["power"])[1])
        if abs(exponent) > MAX_DIGITS:
            raise ValueError(f"10^{exponent}: too large")
        number *= Fraction(10) ** exponent
    if found["under"]:
        number /= _number(found["under"])
    if found["over_mixed"]:
        number += _number(found["over_mixed"]) / _number(found["under_mixed"])
    if "-" in (found["sign"], found["inner_sign"]):
        number = -number
    if found["magnitude"]:
        number *= _MAGNITUDES[found["magnitude"].casefold()]
    unit = found["unit"] or found["currency"] or ""
    return Quantity(number, _UNITS.get(re.sub(r"[\s.]", "", unit.casefold()), ""))


def _number(digits: str) -> Fraction:
    """Of digits with separators: a point and comma are the decimal's if it is the last of both, or the only point."""
    if len(digits) > MAX_DIGITS:
        raise ValueError("too long")
    digits = re.sub(r"[\s']", "", digits)
    if re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+|[0-9]{1,3}(?:\.[0-9]{3}){2,}", digits):
        digits = digits.replace(".", "").replace(",", ".")
    return Fraction(digits.replace(",", ""))


def _join(before: re.Match[str], after: re.Match[str]) -> str | None:
    """How two numbers are joined by the text between them; None where something else begins."""
    gap = after.string[before.end() : after.start()]
    if "," in gap and before["unit"] and before["unit"] != after["unit"]:
        return None  # "After 5 days, 20 apples are left."
    return next((joined for joined, pattern in _JOINS if pattern.fullmatch(gap)), None)


def _goes_on(text: str, end: int) -> bool:
    return _FORMULA.match(text, end) is not None


def _stripped(text: str) -> str:
    """Without what comes before a value (an equals sign, `x =`, emphasis) and after it (a full stop)."""
    text = _BEFORE.sub("", text.strip())
    text = re.sub(r"^([-+])\s+(?=[0-9.$])", r"\1", text)
    return text.rstrip(" \t*_\"'$.!:;,")


def _units() -> Iterator[tuple[str, str]]:
    for line in _UNIT_NAMES.strip().splitlines():
        unit, *names = line.split()
        yield from ((name, unit) for name in (unit, *names))


# The first name of a line is the unit. Only what is named here can contradict a reference; "apples" can't.
# Pounds are money or weight, so they are left out.
_UNIT_NAMES = """
$ us$ usd dollar dollars
€ eur euro euros
£ gbp
¥ yen
₹ rs inr rupee rupees
¢ cent cents
% percent pct
° degree degrees
°c celsius degreescelsius
°f fahrenheit degreesfahrenheit
mm millimeter millimeters millimetre millimetres
cm centimeter centimeters centimetre centimetres
m meter meters metre metres
km kilometer kilometers kilometre kilometres
inch inches
ft foot feet
yd yard yards
mi mile miles
s sec secs second seconds
min mins minute minutes
h hr hrs hour hours
day days
week weeks
month months
year years
mg milligram milligrams
g gram grams
kg kilogram kilograms kilo kilos
lb lbs
oz ounce ounces
ml milliliter milliliters millilitre millilitres
l liter liters litre litres
km/h kmh kph kilometersperhour kilometresperhour
mph mi/h milesperhour
m/s meterspersecond metrespersecond
cm^2 squarecm squarecentimeters squarecentimetres
m^2 squaremeters squaremetres
cm^3 cubiccm cubiccentimeters cubiccentimetres
m^3 cubicmeters cubicmetres
am
pm
"""
_UNITS = dict(_units())
_MAGNITUDES = {"hundred": 10**2, "thousand": 10**3, "k": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7,
               "billion": 10**9, "trillion": 10**12}  # fmt: skip

_LETTER = r"[0-9A-Za-z\u00c0-\u02af\u0370-\u058f]"  # or digit; scripts without spaces write 18元, which is 18
_WORD = r"(?:[^\W\d_]{2,}|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uac00-\ud7af])"
_CURRENCY = r"(?:US)?\$|[€£¥₹]|(?:Rs|USD|EUR|GBP|INR)\b\.?"
_PHRASES = r"per\s?cent|[ap]\.m\.?|(?:square|cubic)\s\w+|degrees\s(?:celsius|fahrenheit)|(?:\w+)\sper\s(?:hour|second)"
_UNIT = "|".join([_PHRASES, *(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True))])
_DIGITS = r"""(?>
    [0-9]{1,3} (?:,[0-9]{3})+ (?![0-9]) (?:\.[0-9]+)?              # 1,200,000.5
  | [0-9]{1,2} (?:,[0-9]{2})+ ,[0-9]{3} (?![0-9]) (?:\.[0-9]+)?    # 1,00,000, as in India
  | [0-9]{1,3} (?:\.[0-9]{3})+ ,[0-9]+ (?!\.?[0-9])                # 1.200,50
  | [0-9]{1,3} (?:\.[0-9]{3}){2,} (?![0-9])                        # 1.200.000
  | [0-9]{1,3} (?:[ '][0-9]{3})+ (?![0-9/]) (?:\.[0-9]+)?           # 1 200, and 1'200 as in Switzerland
  | [0-9]+ (?:\.[0-9]+)?
  | \.[0-9]+
)"""
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w)\]%])[-+])?
    (?:(?<!{_LETTER})(?P<currency>{_CURRENCY})[ ]?)?
    (?P<inner_sign>(?<=[$€£¥₹])[-+])?
    (?<!{_LETTER}) (?<!\w_) (?<!\^)
    (?P<digits>{_DIGITS})
    (?P<power>(?:[ ]?[*x][ ]?1)?[eE][-+]?[0-9]{{1,9}}(?![0-9]))?
    (?:[ ]?/[ ]?(?P<under>{_DIGITS})(?![ ]?/[ ]?[0-9]))?+
    (?:[ ](?P<over_mixed>[0-9]{{1,9}})/(?P<under_mixed>[0-9]{{1,9}})(?![0-9/]))?+
    (?:st|nd|rd|th)?+
    (?:[ ]?(?P<magnitude>{"|".join(sorted(_MAGNITUDES, key=len, reverse=True))})(?![^\W_]))?+
    (?:[ ]?(?P<unit>{_UNIT})(?![^\W_]))?+
    (?!{_LETTER}|_\w)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NO_VALUE = Value((), "?")

_SPACES = r"[ \t,;|&()\[\]$*'\"]*"
_JOINS = (
    (":", re.compile(r" ?: ?")),
    ("-", re.compile(r" ?(?:-|to) ?")),
    (",", re.compile(rf"{_SPACES}(?:\b(?:and|or|nor)\b)?{_SPACES}", re.IGNORECASE)),
    (",", re.compile(rf"(?: ?{_WORD}){{1,3}}[ ,(]*\band\b {_SPACES}", re.IGNORECASE)),
    (",", re.compile(r"[^.!?=]{0,40}\bor\b[^.!?=]{0,40}", re.IGNORECASE)),
    ("?", re.compile(rf"(?: ?{_WORD}){{0,2}}[ )\]]*(?:[-+*/^]|\bx\b)[ (\[$]*")),
)
_BARE = re.compile(r"[^\w=+*/^]*")  # between runs
_EQUALS = re.compile(rf"(?: ?/? ?{_WORD}){{0,4}}[ )\]]*=")
_FORMULA = re.compile(
    r"\(|\.\\(?:overline|bar|dot)\b"
    r"| ?(?:[+*^]|/ ?(?:\w\b|\()|_|\\|(?:pi|sqrt|sin|cos|tan|log|ln|[b-hj-z])(?![^\W_])|[=<>] ?[a-z\d])"
)
_OPERAND = re.compile(  # x + 3, f(3), x/3, pi/3, x < 3, \le 3, log 3; but not <b>3
    r"(?:[A-Za-z](?=\()|[\w)\]}] ?[+*^] ?|(?:\b[A-Za-z]|[0-9][A-Za-z]|[)\]}]|pi) ?[-/] ?"
    r"|(?<![</\w])[A-Za-z] ?[<>≤≥≠] ?|\\(?:[lgn]eq?|[lg]t|pm|mp) ?|\b(?:sqrt|sin|cos|tan|log|ln)(?:_\w+)? ?)\(*\Z"
)
_ALTERNATIVE = re.compile(r"\b(?:or|maybe|perhaps|possibly|alternatively)\b.*[0-9]", re.IGNORECASE)
_NOUNS_ONLY = re.compile(rf"[ )]*(?: ?{_WORD}){{0,4}}[ )]*")
_BEFORE = re.compile(r"^[\s:*(\"'_~]*(?:[A-Za-z]\w{0,2}\s*)?=\s*|^[\s:*(\"'_~]+")

_VULGAR, _RAISED = "\u00bc-\u00be\u2150-\u215e", "\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b"
_ASCII = str.maketrans(
    dict.fromkeys("−–‐‑﹣－", "-")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f\u200a\u2002\u2003", " ")
    | dict.fromkeys("×·⋅∗", "*")
    | dict.fromkeys("÷⁄∕", "/")
    | dict.fromkeys("≈≃", "=")
    | {"π": "pi", "√": "sqrt", "’": "'", "％": "%", "＝": "=", "．": ".", "，": ",", "：": ":"}
)
_LATEX = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\\\s*", ";"),  # the end of a matrix's row
        (r"\\(?:left|right|displaystyle|limits|[bB]igg?[lr]?)(?![a-zA-Z])|\\!", ""),
        (r"\\[,;: ]|\\q?quad(?![a-zA-Z])|~", " "),
        (r"\\([$%#&{}_])", r"\1"),
        (r"\\[()\[\]]", ""),
        (r"\s*\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![a-zA-Z])", "°"),
        (r"\s*\\(?:times|cdot|ast)(?![a-zA-Z])\s*", " * "),
        (r"\s*\\div(?![a-zA-Z])\s*", " / "),
        (r"\\approx(?![a-zA-Z])", "="),
        (r"\\pi(?![a-zA-Z])", "pi"),
        (r"\\[dtc]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\[dtc]?frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\[dtc]?frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
    )
]
_LATEX_NESTED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|boxed|fbox)\s*\{([^{}]*)\}", r"\1"),
        (r"(?<=\d)\s*(?=\\[dtc]?frac\s*\{\d+\}\s*\{\d+\})", " "),
        (r"\\[dtc]?frac\s*\{\s*(-?[\w.]+)\s*\}\s*\{\s*([\w.]+)\s*\}", r"\1/\2"),
        (r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)"),
    )
]
