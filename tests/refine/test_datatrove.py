import importlib.util
import runpy
from pathlib import Path

import pytest

if importlib.util.find_spec("datatrove") is None:
    pytest.skip("datatrove is not installed (the extra `bench`)", allow_module_level=True)

BENCH = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "filters.py"), run_name="bench_filters")


@pytest.mark.parametrize("name", ["Gopher repetition", "Gopher quality", "C4", "FineWeb"])
def test_verdicts_are_datatroves_on_the_same_words(name):
    rules = next(rules for rules in BENCH["rule_sets"]() if rules.name == name)
    with BENCH["same_pieces"]():
        pairs = BENCH["compare"](rules, BENCH["generated_texts"](400), same=True)
    assert {pair: n for pair, n in pairs.items() if pair[0] != pair[1]} == {}
    assert len(pairs) > 3  # several reasons occur
