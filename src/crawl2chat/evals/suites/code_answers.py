"""The program in a chat model's answer: which of its code counts, however it is fenced, and without what it tries out.

Models write ```python3, ~~~, fences in lists, no fence, half a fence, the whole function or its body alone, with words
around. All of that says nothing of whether the function is right, so none of it may decide.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from crawl2chat.evals.judging import without_thinking

MAX_CHARACTERS = 100_000  # of code that is looked into; more than any answer that is right
MAX_CUTS = 50
_FENCE = re.compile(r"(?P<before>.*?)(?<![`~])(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`]{0,200})$")
_MARKER = re.compile(r"\s*(?:(?:[-*+>]|\d+[.)])\s+)*$")  # what a fence may be indented by: spaces, and a list's bullet
_QUOTED_FENCE = re.compile(r"^[ ]{0,3}> ?(?:```|~~~)", re.MULTILINE)
_LABEL = re.compile(r"\s*[\w+#.-]*\s*$")
_TRIES_OUT = re.compile(r"(?:main|tests?|check|run_tests?)(?:_|$)")
_CODE_BEGINS = re.compile(r"^(?:(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\s|@\w)", re.MULTILINE)


@dataclass(frozen=True)
class _Part:
    """A stretch of an answer between two fences, or between one and the answer's end."""

    text: str
    label: str | None  # after the fence that opens it, in lower case; None outside of fences


def program_of(prompt: str, name: str, test: str, answer: str) -> str:
    """The program that a HumanEval problem's tests are run in.

    The last part of the answer that defines the function counts, after what comes before the function in the prompt
    and after other blocks that hold only imports and other functions: those before it, and those after it that define
    something that it uses, not tests. If no part defines the function, a body goes after the prompt.
    """
    answer = without_thinking(answer).replace("\r\n", "\n").replace("\r", "\n")
    if _QUOTED_FENCE.search(answer):
        answer = re.sub(r"^[ ]{0,3}> ?", "", answer, flags=re.MULTILINE)
    parts = [part for part in _parts(answer) if part.text.strip()]
    fenced = [part for part in parts if part.label is not None]
    outside = [part for part in parts if part.label is None]
    code = next((code for part in reversed(outside) if _defines(code := _code_in(part.text), name)), None)
    for i, part in enumerate(fenced):
        if _defines(found := _code_in(part.text), name):
            ahead = [part.text for part in fenced[:i] if _only_helps(part.text, name)]
            after = [p.text for p in fenced[i + 1 :] if _only_helps(p.text, name) and _defines_used(p.text, found)]
            code = "\n".join([*ahead, *after, found])  # what is in its own block wins
    if code is not None:
        before = re.split(rf"^(?:async\s+)?def\s+{re.escape(name)}\b", prompt, maxsplit=1, flags=re.MULTILINE)[0]
        code = before + code
    else:
        bodies = [part.text for part in (*reversed(fenced), *outside) if _may_be_python(part)]
        # a word in a block must not pass for a body before the lines that are indented as one
        continued = (
            _up_to_words(prompt + body) for ways in zip(*map(_as_bodies, bodies), strict=True) for body in ways
        )
        code = next((code for code in continued if _defines(code, name)), prompt + (bodies[0] if bodies else ""))
    return f"{_futures_first(_without_trials(code, name))}\n\n{test}\n\ncheck({name})\n"


def code_in(answer: str) -> str:
    """The Python in an answer: that of its fenced blocks, one after the other, or of its text, without words."""
    parts = list(_parts(without_thinking(answer).replace("\r\n", "\n")))
    fenced = [part.text for part in parts if part.label is not None and _may_be_python(part)]
    return "\n\n".join(fenced or (_code_in(part.text) for part in parts))


def _parts(text: str) -> Iterator[_Part]:
    """Cut an answer at its fences, as CommonMark (section 4.5) reads them, but also where one of a pair is missing.

    What is indented more than the opening fence by four or shorter than it belongs to the code: it is in a docstring.
    """
    lines: list[str] = []
    fence, indent, label = "", 0, None
    for line in text.split("\n"):
        found = _FENCE.match(line)
        marker = found is not None and _MARKER.match(found["before"]) is not None
        if found and not fence and (marker or (found["fence"][0] == "`" and _LABEL.match(found["info"]))):
            yield _Part("\n".join([*lines, "" if marker else found["before"]]), None)
            fence, indent, label = found["fence"], len(found["before"]) if marker else 0, found["info"].strip().lower()
            lines = []
        elif (
            found and fence and found["fence"].startswith(fence) and (not marker or len(found["before"]) <= indent + 3)
        ):
            if found["info"].strip() and not marker:
                lines.append(line)
                continue
            yield _Part("\n".join([*lines, "" if marker else found["before"]]), label)
            lines = []
            label = found["info"].strip().lower() or None  # with a label it opens another block
            fence = fence if label else ""
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip())) :] if fence else line)
    yield _Part("\n".join(lines), label)


def _may_be_python(part: _Part) -> bool:
    return not part.label or re.match(r"[{.\s]*(?:py|i?python)", part.label) is not None


def _code_in(text: str) -> str:
    """The part of a text that is Python: all of it, or from its first definition or import to before the words."""
    text = _without_backticks(textwrap.dedent(text))
    if _parsed(text) is not None:
        return text
    begins = _CODE_BEGINS.search(text)
    return _up_to_words(text[begins.start() :]) if begins else ""


def _up_to_words(code: str) -> str:
    """The lines before the first that is not Python; empty if that is the first, or if it can't be parsed at all."""
    lines = code.split("\n")
    for _ in range(MAX_CUTS):  # one or two are enough for words after code
        try:
            _parse("\n".join(lines))
            return "\n".join(lines)
        except SyntaxError as error:
            lines = lines[: min(len(lines), max(1, error.lineno or 1)) - 1]
        except (ValueError, RecursionError, MemoryError):
            break
    return ""


def _only_helps(text: str, name: str) -> bool:
    """Whether a block holds nothing but imports, functions and classes, and not the function that is asked for."""
    tree = _parsed(text)
    return tree is not None and all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
        and getattr(node, "name", None) != name
        for node in tree.body
    )


def _defines_used(text: str, code: str) -> bool:
    """Whether a block defines a function or class whose name is in this code."""
    helps, uses = _parsed(text), _parsed(code)
    if helps is None or uses is None:
        return False
    used = {node.id for node in ast.walk(uses) if isinstance(node, ast.Name)}
    return any(getattr(node, "name", None) in used for node in helps.body)


def _as_bodies(text: str) -> list[str]:
    """A text as a function's body: as it is, with spaces for tabs, and with lost indentation of a line or all added."""
    text = _without_backticks(text)
    spaced = text.expandtabs(4)
    return [text, spaced, "    " + spaced.lstrip(), textwrap.indent(textwrap.dedent(spaced), "    ")]


def _without_backticks(text: str) -> str:
    """Without the pair of an inline code that is all of a text."""
    found = re.fullmatch(r"\s*`([^`]+)`\s*", text)
    return found[1] if found else text.strip("\n")


def _defines(code: str, name: str) -> bool:
    """Whether code defines this function at its top, with more in it than a docstring."""
    tree = _parsed(code)
    return tree is not None and any(_is_definition(node, name) for node in tree.body)


def _is_definition(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name == name and (len(node.body) > 1 or not _is_constant(node.body[0]))
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    return False


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _without_trials(code: str, name: str) -> str:
    """The code without what a model adds to try it out: asserts, prints, calls of the function or tests, a main part.

    They say nothing of the function, but may fail, read input or end the program. So may names alone on a line, such
    as a fence's label on the next line. Other calls may fill a table that the function needs, so they stay.
    """
    tree = _parsed(code)
    if tree is None:
        return code
    lines = code.split("\n")
    for i, node in reversed(list(enumerate(tree.body))):
        end = node.end_lineno or node.lineno
        alone = all(not node.lineno <= other.lineno <= end for other in tree.body[i + 1 : i + 2])
        if alone and node.col_offset == 0 and _is_trial(node, name):
            lines[node.lineno - 1 : end] = []
    return "\n".join(lines)


def _is_trial(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Name | ast.List):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        if isinstance(called, ast.Attribute):
            return isinstance(called.value, ast.Name) and called.value.id in ("doctest", "unittest")
        return isinstance(called, ast.Name) and (
            called.id in ("print", name) or _TRIES_OUT.match(called.id) is not None
        )
    is_main = isinstance(node, ast.If) and any(
        isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test)
    )
    return is_main or isinstance(node, ast.Assert)


def _futures_first(code: str) -> str:
    """The code with its `from __future__` lines moved to its beginning, the only place where Python takes them."""
    futures = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
    return "".join(f"{line.rstrip()}\n" for line in futures.findall(code)) + futures.sub("", code)


def _parsed(code: str) -> ast.Module | None:
    try:
        return _parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _parse(code: str) -> ast.Module:
    """Parse, but don't run. Raises what `ast.parse` does, and ValueError for too long a text."""
    if len(code) > MAX_CHARACTERS:
        raise ValueError(f"{len(code):,} characters")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes such as "\d", which are the model's
        return ast.parse(code)
