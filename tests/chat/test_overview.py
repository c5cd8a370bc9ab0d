import json
from io import StringIO

import pytest
from rich.console import Console

from crawl2chat.chat.overview import print_masks, print_overview
from crawl2chat.stages.files import StageError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where?"},
    {"role": "assistant", "content": "Not here.", "weight": 0},
    {"role": "user", "content": "Where then?"},
    {"role": "assistant", "content": "There."},
]


def printed(function, *arguments, colours=False):
    out = StringIO()
    function(Console(file=out, force_terminal=colours, width=200, highlight=False), *arguments)
    return out.getvalue()


def test_what_is_in_a_file_is_counted(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": CHAT}) + "\n")
    (tmp_path / "b.csv").write_text(
        "question,answer,style\nWhere?,There.,curt\nWho?,A miller.,curt\nWho?,A miller.,curt\n"
    )
    shown = printed(print_overview, [tmp_path / "a.jsonl", tmp_path / "b.csv"], tokenizer)
    rows = {line.rsplit(None, 2)[0].strip(): line.split()[-2:] for line in shown.splitlines()}
    assert "read as pairs (question, answer): 3 conversations" in shown
    assert "not used: style (3 rows)" in shown
    assert rows["conversations"] == ["1", "3"]
    assert rows["different"] == ["1", "2"]
    assert rows["with several answers"] == ["1", "0"]
    assert rows["answers not learned"] == ["1", "0"]
    assert rows["characters per answer"] == ["8", "8"]
    ids, mask = tokenizer.encode_chat(CHAT)
    assert (rows["tokens"][0], rows["learned tokens"][0]) == (str(len(ids)), str(sum(mask)))


def test_what_is_learned_is_marked_and_in_colour_on_a_screen(tokenizer):
    piped = printed(print_masks, [CHAT], tokenizer)
    assert "<|im_start|>assistant\nNot here.<|im_end|>\n" in piped
    assert "<|im_start|>assistant\n⟦There.<|im_end|>⟧\n" in piped
    assert piped.count("⟦") == 1
    coloured = printed(print_masks, [CHAT], tokenizer, colours=True)
    assert "\x1b[1;32mThere.<|im_end|>\x1b[0m" in coloured
    assert "⟦" not in coloured


def test_lines_that_can_not_be_used_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": CHAT}) + '\n{"messages": []}\n')
    with pytest.raises(StageError, match="line 2: messages must be a list that is not empty"):
        printed(print_overview, [tmp_path / "a.jsonl"])
