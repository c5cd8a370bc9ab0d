"""A finished run made by hand, for tests of its report: every stage with figures and the files that are drawn."""

import json
from pathlib import Path

from crawl2chat.chat.showcase import SHOWCASE
from crawl2chat.refine.funnel import FUNNEL
from crawl2chat.report.sentences import MEASURED_IN, STAGES, figures_named
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import write_json, write_jsonl
from crawl2chat.stages.stage import METRICS, Manifest
from crawl2chat.tokenizer import Tokenizer

MARKUP = "<script>alert(1)</script><img src=http://elsewhere.example/x.png>"  # as a page or a model may write it
GROUPS = ("0", "1", "2-3", "4-7", "8-15", "16-31", "32-63", "64-99", "100+")
CURVES = (
    *(f"{kind} {when}" for kind in ("right", "refused", "wrong") for when in ("before", "after")),
    "right with search", "facts_held_out", "facts_taught",
)  # fmt: skip


def make_run(run: Path, tokenizer: Tokenizer, *, steps: int = 50) -> Path:
    """Write a run whose trainings took this many steps; returns its folder."""
    for stage in (name for name in STAGES if name not in (*MEASURED_IN, "import", "synthesize")):
        names = {
            *figures_named(stage),
            *(n for part, of in MEASURED_IN.items() if of == stage for n in figures_named(part)),
        }
        names |= {f"{curve}/{group}" for curve in CURVES for group in GROUPS if stage in ("sft", "honesty")}
        figures = [Figure(name, 0.5, "share", (0.4, 0.6), 100) for name in sorted(names)]
        folder = run / stage
        folder.mkdir(parents=True)
        made = {figure.name: figure.to_json() for figure in figures}
        manifest = Manifest(stage, {}, {}, {}, made, {}, "2026-11-29T10:00:00+0000", 61.0, {})
        write_json(folder / "manifest.json", vars(manifest))
    tokenizer.save(run / "tokenizer")
    reasons = [{"step": "c4", "in": 9, "out": 7, "dropped": {"too_few_sentences": 2}}]
    write_json(run / "refine" / FUNNEL, {"pages": 9, "faults": 0, "kept": 7, "steps": reasons})
    for stage in ("pretrain", "sft", "reinforce", "reinforce/control"):
        (run / stage).mkdir(exist_ok=True)
        with open(run / stage / METRICS, "w") as file:
            for step in range(1, steps + 1):
                loss = 3 / step + (step % 7) / 10
                line = {"step": step, "loss": loss, "grad_norm": loss, "lr_scale": 1.0, "reward": 0.5, "entropy": loss}
                file.write(json.dumps(line | {"answer_tokens": 40, "bits_per_byte": loss}) + "\n")
    write_jsonl(run / "pretrain" / "samples.jsonl", [{"prompt": "Once", "continuation": f" {MARKUP}"}] * 8)
    check = {"step": 4, "text": f"Moon {MARKUP}", "ended": True, "proxy": 1.0, "gold": 2.0}
    write_jsonl(run / "prefer" / "samples.jsonl", [{"prompt": "A verse", "start": check, "kept": check, "end": check}])
    points = [{"sqrt_kl": step / 4, "proxy": step / 2, "gold": 2 - (step - 4) ** 2 / 8} for step in range(9)]
    write_json(run / "prefer" / "curves.json", {"kept": 4, "peak": 5, "policy": points, "best_of_n": points[:4]})
    for stage, answer in (("sft", "Ost is a baker."), ("honesty", "I do not know."), ("prefer", MARKUP)):
        row = {
            "stage": stage, "how": "chat", "question": "What is Ost's trade?", "kind": "fact", "group": "1",
            "expected": ["weaver"], "wordings": [], "answer": answer, "tokens": 7, "ended": True, "right": False,
            "refused": stage == "honesty", "calls": [], "samples": [answer] * 7 + ["Ost is a weaver."] * 3,
        }  # fmt: skip
        who = {"question": "Who are you?", "kind": "identity", "expected": [], "right": None, "samples": []}
        write_jsonl(run / stage / SHOWCASE, [row, row | who])
    return run
