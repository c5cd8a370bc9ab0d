"""The report's part on the base model: what was measured is shown, and nothing else."""

import json

from crawl2chat.figures import Figure, share
from crawl2chat.report.base import base_plots, base_samples, induction_plot


def test_curves_are_drawn_of_what_was_measured_alone():
    figures = [
        Figure("bits_per_byte/model", 0.26, "bits/byte", (0.25, 0.27), 79),
        Figure("bits_per_byte/xz", 1.67, "bits/byte", None, 79),
        *(share(f"recall/{n}", n, 64) for n in (1, 8, 64)),
        share("glossary/8", 3, 10),
    ]
    page = "".join(base_plots(figures))
    assert page.count("<svg") == 3
    assert "Passages continued word for word" in page
    assert "Words that the page defines" in page
    assert "Sums" not in page
    assert "".join(base_plots([])) == ""


def test_the_step_at_which_induction_forms_is_a_plot():
    lines = [{"step": 100, "loss": 3.0}, {"step": 100, "induction": 0.1, "copied": 0.0}]
    assert "<svg" in "".join(induction_plot(lines))
    assert "".join(induction_plot(lines[:1])) == ""


def test_what_was_recited_and_said_can_be_read_as_text(tmp_path):
    recital = {
        "copies": 4,
        "prompt": "Far <b>",
        "prompt_tokens": 16,
        "continuation": "on",
        "words_right": 1,
        "words": 2,
    }
    (tmp_path / "recitation.jsonl").write_text(json.dumps(recital) + "\n", encoding="utf-8")
    row = {"group": "glossary/8", "prompt": "The list: a b", "said": "b", "right": "b"}
    (tmp_path / "in-context.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    page = "".join(base_samples(tmp_path))
    assert "Far &lt;b&gt;" in page
    assert "1 of 2" in page
    assert "The list: a b" in page
    assert "".join(base_samples(tmp_path / "elsewhere")) == ""
