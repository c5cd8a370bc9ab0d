import gzip
import json
import runpy
import sys
from pathlib import Path

from crawl2chat.evals.questions import read_questions

EXAMPLE = Path(__file__).parents[2] / "examples" / "trivia_questions.py"
ROWS = [
    *({"context": f"The capital of Land {i} is", "continuation": f"Town {i}"} for i in range(40)),
    {"context": "The flower of Rosetown is", "continuation": "Rosetown"},
    {"context": "An unknown form of sentence", "continuation": "x"},
    {"context": "WORLD HISTORY: It burned in 64 AD", "continuation": "(the) Rome"},
]


def test_questions_are_split_by_their_text_and_none_gives_its_answer_away(tmp_path, monkeypatch):
    file = tmp_path / "facts.jsonl.gz"
    with gzip.open(file, "wt") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in ROWS)

    def made(*arguments):
        out = tmp_path / "questions.jsonl"
        monkeypatch.setattr(sys, "argv", ["trivia", str(file), *arguments, "--out", str(out)])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        return {row.wordings[0]: row for row in read_questions(out)}

    everything = made("--probe", "100", "--held-out", "100")
    assert len(everything) == 41
    some = made("--probe", "5", "--held-out", "5")
    assert [row.split for row in some.values()].count("held_out") == 5
    assert all(everything[text] == row for text, row in some.items()), "how many are asked for moves none"
    assert everything["What is the capital of Land 3?"].answers == ("Town 3",)
    (clue,) = (row for row in everything.values() if "64 AD" in row.wordings[0])
    assert "the Rome" in clue.answers
    assert all("It burned in 64 AD" in text and "World history" in text for text in clue.wordings)
