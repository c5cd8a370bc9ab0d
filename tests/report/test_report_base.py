"""The report's part on the base model: what was measured is shown, and nothing else."""

import json
import re

from crawl2chat.evals.base.stage import MEASURES
from crawl2chat.report.captions import NOTES, by_part
from crawl2chat.report.pretraining import base_parts, base_samples, induction_plot
from crawl2chat.stages.figures import Figure, share


def test_each_part_has_its_plots_and_all_its_figures():
    figures = [
        Figure("bits_per_byte/model", 0.26, "bits/byte", (0.25, 0.27), 79),
        Figure("bits_per_byte/xz", 1.67, "bits/byte", None, 79),
        Figure("seconds/compression", 9.0, "s"),
        share("glossary/8", 3, 10),
        Figure("seconds/in_context", 2.0, "s"),
        Figure("seconds/sums", 0.1, "s"),
        *(share(f"distinct_3/{name}", 30, 64) for name in ("held_out", "temperature_0.5", "top_p_0.95")),
        Figure("seconds/continuation", 2.0, "s"),
        *(share(f"recall/{n}", n, 64) for n in (1, 8, 64)),
        Figure("seconds/recitation", 2.0, "s"),
    ]
    page = "".join(base_parts(figures))
    assert re.findall("<h3>(.*?)</h3>", page) == [
        "Compression", "Learning from the prompt", "Continuation and diversity", "Recitation",
    ]  # fmt: skip
    assert re.findall("<figcaption>(.*?)</figcaption>", page) == [
        "Bits per byte of held-out text", "Invented words that the page defines", "Texts by temperature",
        "Texts by top-p", "Passages continued word for word",
    ]  # fmt: skip
    assert page.count("<svg") == 5
    assert page.count("held-out text</text>") == 2  # beside both kinds of settings
    assert page.count("<tr><td>") == 9
    assert "".join(base_parts([])) == ""


def test_every_part_of_the_suite_is_explained():
    assert list(NOTES) == list(MEASURES)


def test_figures_behind_the_last_part_are_not_lost():
    assert [(part.title, len(found)) for part, found in by_part([share("a/1", 1, 2)])] == [("Others", 1)]


def test_the_step_at_which_induction_forms_is_a_plot():
    lines = [{"step": 100, "loss": 3.0}, {"step": 100, "induction": 0.1, "copied": 0.0}]
    assert "<svg" in "".join(induction_plot(lines))
    assert "".join(induction_plot(lines[:1])) == ""


def test_what_was_recited_and_said_can_be_read_as_text(tmp_path):
    recital = {
        "copies": 4,
        "passage": "Far <b> on the hill",
        "prompt": "Far <b>",
        "prompt_tokens": 16,
        "continuation": "on",
        "words_right": 1,
        "words": 2,
    }
    from_its_middle = recital | {"prompt": "the hill"}
    lines = (json.dumps(row) + "\n" for row in (recital, from_its_middle))
    (tmp_path / "recitation.jsonl").write_text("".join(lines), encoding="utf-8")
    row = {"group": "glossary/8", "prompt": "The list: a b", "said": "b", "right": "b"}
    (tmp_path / "in-context.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    page = "".join(base_samples(tmp_path))
    assert "Far &lt;b&gt;" in page
    assert "1 of 2" in page
    assert "the hill" not in page  # was prompted for another figure
    assert "The list: a b" in page
    assert "".join(base_samples(tmp_path / "elsewhere")) == ""
