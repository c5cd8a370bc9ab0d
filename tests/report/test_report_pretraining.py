import json
import re

from crawl2chat.report.pretraining import pretrain_plots, pretrain_samples
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import METRICS, SAMPLES_DURING


def write_lines(file, lines):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def step(n, **values):
    return {"step": n, "loss": 3 - n / 10, "grad_norm": 0.5, "lr_scale": 1.0, **values}


def test_the_report_shows_how_training_went_and_the_steps_that_were_skipped(tmp_path):
    lines = [step(1), step(2, skipped="the loss of 9 is a spike, above 4"), {"step": 3, "skipped": "the loss is <nan>"}]
    write_lines(tmp_path / METRICS, [*lines, step(4), {"step": 4, "bits_per_byte": 1.5}])
    page = "".join([*pretrain_plots(tmp_path, [Figure("unigram_bits_per_byte", 2.0)]), *pretrain_samples(tmp_path)])
    assert page.count("<svg") == 2
    for words in ("held-out bits per byte", "gradient norm", "learning rate, share", ">skipped<", "Skipped steps: 2"):
        assert words in page
    assert '<td class="n">3<td>the loss is &lt;nan&gt;' in page


def test_metrics_of_an_earlier_version_are_shown_as_far_as_they_go(tmp_path):
    write_lines(tmp_path / METRICS, [{"step": 1, "loss": 3.0, "grad_norm": 0.5}, {"step": 2, "loss": 2.0}])
    page = "".join([*pretrain_plots(tmp_path, []), *pretrain_samples(tmp_path)])
    assert page.count("<svg") == 1
    assert "Skipped" not in page


def test_the_report_shows_each_beginning_with_what_followed_at_first_and_at_last(tmp_path):
    write_lines(tmp_path / "samples.jsonl", [{"prompt": "The <b>mill", "continuation": " stood still"}])
    rows = [
        {"step": n, "prompt": p, "continuation": f"{p}{n}"} for n in range(100, 2100, 100) for p in ("anna", "bert")
    ]
    write_lines(tmp_path / SAMPLES_DURING, rows)
    page = "".join(pretrain_samples(tmp_path))
    assert "The &lt;b&gt;mill</b> stood still" in page
    shown = re.findall(r'<td class="n">([\d,]+)<td>(anna|bert)(\d+)', page)
    assert [(s.replace(",", ""), p) for s, p, _ in shown] == [(n, p) for _, p, n in shown]
    steps = [n for _, p, n in shown if p == "anna"]
    assert (steps[0], steps[-1]) == ("100", "2000")
    assert len(steps) == len([n for _, p, n in shown if p == "bert"]) == 6
