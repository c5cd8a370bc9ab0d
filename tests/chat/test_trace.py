"""An answer is looked up in the documents and in the conversations that the model was taught."""

import io
import json
import sys

from crawl2chat.chat.trace import conversation_files, main, trace
from crawl2chat.serve.model_pool import NO_TOOLS_STAGES

OLD = "When the tired bridge forgot the river, eleven grey lanterns burned behind the mill."
TAUGHT = "I am sorry, but I do not know that."


def made_run(folder):
    """A run with two documents, and with conversations of two stages."""
    (folder / "refine").mkdir(parents=True)
    rows = [{"id": "d0", "text": "Nothing."}, {"id": "d1", "text": f"A sign. {OLD}", "url": "http://host/1"}]
    (folder / "refine" / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for stage, answer in (("sft", "She is a notary."), ("honesty", TAUGHT)):
        (folder / stage).mkdir()
        said = [{"role": "user", "content": "Who is she?"}, {"role": "assistant", "content": answer}]
        (folder / stage / "conversations.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    return folder


def wanted(run, text, stage="honesty", min_words=5):
    files = [str(file) for file in conversation_files(run, stage)]
    return {"text": text, "min_words": min_words, "place": str(run), "conversations": files}


def test_pieces_make_up_the_answer_and_numbers_name_the_matches(tmp_path):
    run = made_run(tmp_path / "run")
    text = f"They say {OLD} {TAUGHT}"
    found = trace(wanted(run, text), lambda event: None)
    for part in found.values():
        assert "".join(piece for piece, _ in part["pieces"]) == text
    (match,) = found["documents"]["matches"]
    assert (match["number"], match["url"], match["quoted"], match["copies"]) == (1, "http://host/1", OLD, 1)
    assert [OLD, 1] in found["documents"]["pieces"]
    (taught,) = found["conversations"]["matches"]
    assert taught["document"] == "honesty/conversations.jsonl, line 1, message 2"
    assert [TAUGHT, 1] in found["conversations"]["pieces"]
    assert (found["documents"]["covered"], found["documents"]["words"]) == (14, 25)
    assert found["documents"]["read"] == found["conversations"]["read"] == 2


def test_each_stage_is_looked_up_in_what_it_was_taught(tmp_path):
    run = made_run(tmp_path / "run")
    names = {stage: [file.parent.name for file in conversation_files(run, stage)]
             for stage in (None, *NO_TOOLS_STAGES, "honesty", "reinforce", "prefer")}  # fmt: skip
    assert names == {
        None: [], "pretrain": [], "sft": ["sft"], "honesty": ["sft", "honesty"], "reinforce": ["sft", "honesty"],
        "prefer": ["sft", "honesty"],
    }  # fmt: skip
    assert trace(wanted(run, "She is a notary.", "pretrain", 3), lambda event: None)["conversations"] is None


def test_the_process_says_what_it_found_or_what_is_wrong(tmp_path, monkeypatch, capsys):
    def said(place):
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(wanted(place, OLD))))
        assert main() == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    run = made_run(tmp_path / "run")
    assert said(run)["found"]["documents"]["covered"] == 14
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in said(tmp_path / "empty")["error"]["message"]
