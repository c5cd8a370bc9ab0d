"""The journeys of docs/architecture.md lead through functions that exist, say where they turn back, and end in time."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
JOURNEYS = {
    name: (int(limit), re.findall(r"^(\d+)\. `(crawl2chat[\w.]+)`( ↩)?: ", steps, re.MULTILINE), steps)
    for name, limit, steps in re.findall(
        r"<!-- journey: ([^,\n]*), at most (\d+) -->\n(.*?)<!-- end -->", TEXT, flags=re.DOTALL
    )
}
FUNCTIONS = sorted({function for _, steps, _ in JOURNEYS.values() for _, function, _ in steps})


def find(function: str) -> tuple[str, object]:
    """Return the module and the object that a dotted name leads to."""
    parts = function.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and module.startswith(error.name):
                continue
            raise
        for name in parts[length:]:
            found = getattr(found, name)
        return module, found
    raise ModuleNotFoundError(function)


def test_both_journeys_are_there():
    assert list(JOURNEYS) == ["byte to loss", "prompt to checkpoint"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_exists_in_the_file_that_its_name_says(function):
    module, found = find(function)
    assert callable(found)
    assert inspect.unwrap(found).__module__ == module


@pytest.mark.parametrize("journey", JOURNEYS)
def test_steps_are_numbered_and_within_the_limit(journey):
    limit, steps, text = JOURNEYS[journey]
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) == len(text.strip().splitlines()), "every line names a function"
    assert len(steps) <= limit


@pytest.mark.parametrize("journey", JOURNEYS)
def test_a_file_is_entered_again_only_where_the_line_says_so(journey):
    left: set[str] = set()
    current = ""
    for number, function, goes_back in JOURNEYS[journey][1]:
        module = find(function)[0]
        if module != current:
            left.add(current)
            assert (module in left) == bool(goes_back), f"{number}. {function}"
        current = module
