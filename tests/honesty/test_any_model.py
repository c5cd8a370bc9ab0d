"""The stage honesty on a model from elsewhere, which no documents and no ledger come with."""

import json
import random

import pytest

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import pack, read_conversations
from crawl2chat.evals.judging import Question, is_refusal
from crawl2chat.evals.questions import QuestionRow, write_questions
from crawl2chat.generate import Completion, Engine
from crawl2chat.honesty.identity import LIMITS, Card, identity_questions
from crawl2chat.honesty.lessons import REFUSALS, Boundary, teach_the_probed, with_more_answers
from crawl2chat.honesty.probe import Probe
from crawl2chat.honesty.retention import own_answers, own_texts, read_prompts
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.honesty.stage import honesty
from crawl2chat.model import ModelConfig, Transformer, save_model
from crawl2chat.stages.files import StageError
from crawl2chat.train.settings import LoraSettings


class Scripted:
    def __init__(self, tokenizer, completions):
        self.tokenizer, self.completions = tokenizer, completions

    def generate(self, prompts, sampling):
        return self.completions


@pytest.fixture(scope="module")
def done(tokenizer, tmp_path_factory):
    """Figures and folder of the stage, on a small model with random weights."""
    folder = tmp_path_factory.mktemp("any")
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 2, 16, max_position_embeddings=256))
    model.init_weights(0)
    save_model(model, folder / "model", stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(folder / "model")
    rows = [
        QuestionRow((f"Where is town {i}?", f"Town {i} is where?"), ("e",), "towns", split)
        for i, split in enumerate(("probe", "probe", "held_out", "held_out"))
    ]
    write_questions(rows, folder / "questions.jsonl")
    (folder / "prompts.txt").write_text("Hello!\n\nWhat is bread?\n")
    settings = HonestySettings(
        epochs=0.1, seq_len=128, batch_tokens=512, wordings=2, samples=2, measured_samples=2, calculations=0,
        identity=1, invented=8, invented_measured=8, retention=str(folder / "prompts.txt"), lora=LoraSettings(rank=2),
        documents=1, own_texts=4,
    )  # fmt: skip
    (folder / "out").mkdir()
    figures = honesty(folder / "questions.jsonl", folder / "model", folder / "out", settings)
    return {figure.name: figure for figure in figures}, folder / "out"


@pytest.mark.slow
def test_without_documents_no_tool_is_taught_and_all_else_is_measured(done):
    figures, out = done
    conversations = read_conversations(out / "conversations.jsonl")
    assert not any(message["role"] in ("tool", "system") for messages in conversations for message in messages)
    for when in ("before", "after"):
        assert figures[f"claims about what nobody can know {when}"].count == 8
        assert figures[f"all right {when}"].count == 2
        assert figures[f"wrong {when}/towns"].count == 2
        assert figures[f"identity {when}"].count == 50
    assert "indexed_paragraphs" not in figures
    assert set(json.loads((out / "coverage.json").read_text())) == {"before", "after"}


@pytest.mark.slow
def test_answers_of_before_and_after_are_next_to_each_other(done):
    _, out = done
    rows = [json.loads(line) for line in (out / "before_and_after.jsonl").read_text().splitlines()]
    asked = {row["question"]: row for row in rows}
    assert asked["Who is Orson Kovats?"].keys() >= {"before", "after", "right", "refused"}
    assert len(rows) == 2 + 8 + 50
    invented = [m[0]["content"] for m in read_conversations(out / "conversations.jsonl") if is_refusal(m[1]["content"])]
    assert not set(invented) & set(asked), "nothing that is measured was taught"


def test_of_an_answer_that_was_cut_off_only_whole_sentences_are_taught():
    question = Question("Where?", ("Telm",), "a")
    said = ("She was born in Telm. Later she moved to the", "In Telm, which is a town that was")
    probed = Probe((question, question), said, 1.0, 1.0, said[0])
    found = [Boundary(QuestionRow(("Where?",), ("Telm",), "a", "probe"), probed, "known")]
    taught = [messages[1]["content"] for messages in teach_the_probed(found, None, REFUSALS, random.Random(0))]
    assert taught == ["She was born in Telm.", said[1]]


def test_answers_are_repeated_until_they_are_the_wanted_share():
    answer, refusal = exchange("Where?", "In Telm."), exchange("Who?", "I do not know.")
    lessons = [answer, *[refusal] * 6]
    assert with_more_answers(lessons, 0.0) == lessons
    assert with_more_answers(lessons, 0.5).count(answer) == 6
    assert with_more_answers(lessons, 0.4).count(answer) == 4
    assert with_more_answers([refusal], 0.5) == [refusal]


def test_only_answers_that_ended_are_retained(tokenizer):
    completions = [Completion(text=" Bread is food. "), Completion(text="It is"), Completion(text="")]
    for completion, reason in zip(completions, ("stop", "length", "stop"), strict=True):
        completion.finish_reason = reason
    kept = own_answers(Scripted(tokenizer, completions), ["a", "b", "c"])
    assert [[message["content"] for message in messages] for messages in kept] == [["a", "Bread is food."]]


@pytest.mark.slow
def test_texts_of_its_own_are_learned_where_no_documents_came_with_the_model(done, tokenizer):
    figures, out = done
    _, weights, _ = pack(read_conversations(out / "conversations.jsonl"), tokenizer, 128, 0)
    from_texts = figures["learned_tokens_per_epoch"].value - weights.sum()
    assert from_texts >= 129, "a row of text"
    assert from_texts % 129 == 0, "each token of a row is learned"


def test_each_text_begins_as_a_document_does_and_is_another(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 2, 16, max_position_embeddings=256))
    model.init_weights(0)
    texts = own_texts(Engine(model, tokenizer), 3, seed=0)
    assert {ids[0] for ids in texts} == {tokenizer.bos_id}
    assert len(set(map(tuple, texts))) == 3
    assert texts == own_texts(Engine(model, tokenizer), 3, seed=0)


def test_a_file_of_prompts_that_is_missing_or_empty_is_refused(tmp_path):
    assert len(set(read_prompts("everyday"))) > 100
    with pytest.raises(StageError, match="expected everyday or a file"):
        read_prompts("nowhere.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(StageError, match="one per line"):
        read_prompts(str(tmp_path / "empty.txt"))


def test_limits_are_part_of_a_card_that_has_some():
    card = Card(limits="look at pictures")
    assert "You cannot look at pictures." in card.system_message()["content"]
    assert sum(question.group == "limits" for question in identity_questions(card)) == len(LIMITS) // 2
    assert len(identity_questions(Card())) == 50
