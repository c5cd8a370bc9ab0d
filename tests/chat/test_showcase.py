"""What is written down of one question through all stages."""

import json

import pytest
from scripted_engine import ScriptedEngine

from crawl2chat.chat.showcase import SAMPLES, Shown, Way, ask_all, not_asked, ways_before
from crawl2chat.chat.tools import call
from crawl2chat.evals.judging import Question
from crawl2chat.evals.tasks import Problem
from crawl2chat.generate import Engine
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import write_jsonl

FACT = Shown("fact", Question("Where is Ada?", ("Telm",), "1"), ("Where is Ada?", "In which town is Ada?"))
VERSE = Shown("verse", Question("Write a verse.", (), "verse"))


@pytest.fixture(scope="module")
def engine(tokenizer) -> Engine:
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 2, 16, max_position_embeddings=256))
    model.init_weights(0)
    return Engine(model, tokenizer, max_batch=8)


def test_each_way_has_a_row_per_question_and_samples_only_where_a_chat_model_is_asked_for_a_fact(engine):
    ways = [Way("pretrain", engine, "text"), Way("pretrain", engine, "page"), Way("sft", engine)]
    rows = ask_all(ways, [FACT, VERSE], seed=0)
    assert [(row["stage"], row["how"], row["question"]) for row in rows] == [
        (way.stage, way.how, question.asked.text) for way in ways for question in (FACT, VERSE)
    ]
    assert [len(row["samples"]) for row in rows] == [0, 0, 0, 0, SAMPLES, 0]
    assert len(set(rows[4]["samples"])) > 1
    assert (rows[4]["expected"], rows[4]["wordings"]) == (["Telm"], list(FACT.wordings))
    assert rows == ask_all(ways, [FACT, VERSE], seed=0)
    assert json.loads(json.dumps(rows)) == rows


def test_the_base_model_goes_on_with_the_bare_question(engine):
    (row,) = ask_all([Way("pretrain", engine, "text")], [VERSE], seed=0)
    tokenizer = engine.tokenizer
    prompt = [tokenizer.bos_id, *tokenizer.encode("Write a verse.")]
    assert Way("pretrain", engine, "text").prompt("Write a verse.") == prompt
    assert (row["tokens"], row["right"]) == (48, None)


def test_a_search_is_on_record_with_what_it_found_and_where(tokenizer):
    engine = ScriptedEngine(tokenizer, call("search", query="Ada"), "Page 3 says: Telm")
    way = Way(
        "honesty", engine, "tools", {"search": lambda asked, query: "Page 3: Ada lives in Telm."}, "x.org/{}".format
    )
    (row,) = ask_all([way], [FACT], seed=0)
    assert row["calls"] == [
        {"tool": "search", "arguments": {"query": "Ada"}, "result": "Page 3: Ada lives in Telm.", "source": "x.org/3"}
    ]
    assert (row["answer"], row["right"], row["refused"], row["ended"]) == ("Page 3 says: Telm", True, False, True)
    refused = ask_all([Way("honesty", ScriptedEngine(tokenizer, "I do not know."), "tools")], [FACT], seed=0)[0]
    assert (refused["right"], refused["refused"], refused["calls"]) == (False, True, [])


def test_a_problem_is_right_as_its_check_says(tokenizer):
    problem = Shown("problem", Problem("What is 2+2?", ("4",), "sums"))
    way = Way("sft", ScriptedEngine(tokenizer, "2+2 = 4. The answer is 4.", "The answer is 5."))
    assert [ask_all([way], [problem], seed=0)[0]["right"] for _ in range(2)] == [True, False]


def test_a_later_stage_asks_the_model_before_only_what_it_was_not_asked(tmp_path, engine):
    assert not_asked([FACT, VERSE], tmp_path) == [FACT, VERSE]
    write_jsonl(tmp_path / "showcase.jsonl", [{"question": "Where is Ada?"}])
    assert not_asked([FACT, VERSE], tmp_path) == [VERSE]
    assert [(way.stage, way.how) for way in ways_before(tmp_path, engine)] == [("import", "chat")]  # from elsewhere


def test_what_does_not_fit_a_models_context_is_not_asked_of_it(tokenizer):
    long = Shown("fact", Question("Where is Ada? " * 20, ("Telm",), "1"))
    rows = ask_all([Way("honesty", ScriptedEngine(tokenizer, "Telm.", context=100), "tools")], [long, VERSE], seed=0)
    assert [row["kind"] for row in rows] == ["verse"]
