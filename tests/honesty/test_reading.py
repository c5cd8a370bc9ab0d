"""Search for a model whose template offers no tools: what it is taught with passages, and what is measured."""

import json
import random
import re

import pytest

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import read_conversations
from crawl2chat.evals.judging import is_refusal
from crawl2chat.evals.questions import QuestionRow, write_questions
from crawl2chat.honesty.lessons import REFUSALS
from crawl2chat.honesty.reading import reading_figures, reading_lessons
from crawl2chat.honesty.search import SearchIndex
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.honesty.stage import honesty
from crawl2chat.model import ModelConfig, Transformer, save_model
from crawl2chat.refine.documents import Document
from crawl2chat.search.index import build_index
from crawl2chat.stages.files import read_jsonl
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.settings import LoraSettings

PUMPS = {f"P{n}": f"https://brio.example/P{n}" for n in range(1, 9)}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def manual(name, address):
    text = f"The pump {name} weighs {name[1]}7 kilograms. It is blue.\nNever open the pump {name} while it runs."
    return Document(address, text, url=address, title=f"Pump {name}")


def row(name, split="train", **others):
    values = {"answers": (f"{name[1]}7 kilograms",), "source": PUMPS[name]} | others
    return QuestionRow((f"How heavy is the pump {name}?",), values["answers"], "pumps", split, values["source"])


@pytest.fixture
def index(tmp_path):
    build_index((manual(*pump) for pump in PUMPS.items()), tmp_path / "search.sqlite")
    return SearchIndex(tmp_path / "search.sqlite")


def lessons(rows, index, taught=()):
    return list(reading_lessons(rows, taught, index, REFUSALS, random.Random(0)))


def test_an_answer_cites_the_passage_that_says_it(index):
    rows = [row(name) for name in PUMPS]
    for lesson, name in zip(lessons(rows, index), PUMPS, strict=True):
        asked, reply = (message["content"] for message in lesson)
        assert asked.endswith(f"Question: How heavy is the pump {name}?")
        lines = re.findall(r"^\[\d\] .*$", asked, re.MULTILINE)
        saying = [line for line in lines if f"{name[1]}7 kilograms" in line]
        if is_refusal(reply):
            assert not saying, "refused only where no passage says it"
        else:
            assert reply == f"{name[1]}7 kilograms [{saying[0][1]}]."
    refused = sum(is_refusal(lesson[-1]["content"]) for lesson in lessons(rows, index))
    assert refused == len(rows) / 4


def test_the_source_is_put_among_what_is_found_if_it_was_not(index):
    strange = QuestionRow(("Which mass?",), ("37 kilograms",), "pumps", "train", PUMPS["P3"])
    ((asked, reply),) = lessons([row("P1"), strange], index)[1:]
    assert PUMPS["P3"] in asked["content"]
    assert re.fullmatch(r"37 kilograms \[1\]\.", reply["content"])


def test_a_sentence_that_was_taught_is_the_answer_where_there_is_one(index):
    taught = [exchange("How heavy is the pump P2?", "The pump weighs 27 kilograms.")]
    (_, (_, reply)) = lessons([row("P1"), row("P2")], index, taught)
    assert re.fullmatch(r"The pump weighs 27 kilograms \[\d\]\.", reply["content"])


def test_what_nobody_says_is_refused_and_what_is_held_out_is_not_taught(index):
    nobody = QuestionRow(("Who painted the pump P4 blue?",), (), "pumps", "train")
    (lesson,) = lessons([row("P5", "held_out"), nobody], index)
    assert is_refusal(lesson[-1]["content"])
    elsewhere = row("P6", answers=("a green one",), source=None)
    assert lessons([row("P1"), elsewhere], index)[1:] == [], "perhaps known, and found nowhere"


class Quoting:
    """An engine that cites the passage with its number: the right one, the first one, or none."""

    def __init__(self, tokenizer, cite):
        self.tokenizer, self.cite, self.context = tokenizer, cite, 10_000

    def generate(self, prompts, sampling):
        from crawl2chat.generate import Completion

        def answer(text):
            name = re.findall(r"Question: How heavy is the pump (P\d)", text)[0]
            line = next(line for line in text.split("\n") if f"{name[1]}7 kilograms" in line)
            return Completion(text=f"{name[1]}7 kilograms {self.cite or line[:3]}", finish_reason="stop")

        return [answer(self.tokenizer.decode(prompt)) for prompt in prompts]


@pytest.mark.parametrize(("cite", "share"), [("", 1), ("[9]", 0), ("(no number)", 0)])
def test_a_right_answer_counts_as_cited_only_by_the_number_of_what_says_it(index, tokenizer, cite, share):
    rows = [row("P1", "held_out"), row("P2", "held_out")]
    figures = {f.name: f for f in reading_figures(Quoting(tokenizer, cite), rows, index, 0)[0]}
    assert figures["right with search/pumps"].value == 1
    assert figures["answers that are in what was found"].value == 1
    assert figures["right answers from search that cite it"].value == share


@pytest.mark.slow
def test_the_stage_teaches_reading_where_the_template_offers_no_tools(tokenizer, tmp_path, capsys):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 2, 16, max_position_embeddings=512))
    model.init_weights(0)
    save_model(model, tmp_path / "model", stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(tmp_path / "model")
    config = tmp_path / "model" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": TEMPLATE}))
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    assert not Tokenizer.load(tmp_path / "model").template.reads_tools
    splits = ("train", "train", "probe", "probe", "held_out", "held_out", "train", "train")
    write_questions([row(*each) for each in zip(PUMPS, splits, strict=True)], tmp_path / "questions.jsonl")
    (tmp_path / "manuals").mkdir()
    documents = [{"text": d.text, "url": d.url} for d in (manual(*pump) for pump in PUMPS.items())]
    (tmp_path / "manuals" / "pumps.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    settings = HonestySettings(
        epochs=0.1, seq_len=512, batch_tokens=512, wordings=1, samples=2, measured_samples=2, calculations=9,
        identity=1, lora=LoraSettings(rank=2),
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    given = (tmp_path / "questions.jsonl", tmp_path / "model", tmp_path / "out", settings)
    names = {figure.name for figure in honesty(*given, refine=tmp_path / "manuals")}
    assert {"right with search before/pumps", "right with search/pumps"} <= names
    assert "indexed_paragraphs" not in names
    assert not any("calculator" in name for name in names)
    assert "offers no tools, so it is not taught to calculate" in capsys.readouterr().err
    taught = read_conversations(tmp_path / "out" / "conversations.jsonl")
    assert all(message["role"] in ("user", "assistant", "system") for messages in taught for message in messages)
    assert any("\n\n[1] Page (https://brio" in messages[0]["content"] for messages in taught)
    shown = [row for row in read_jsonl(tmp_path / "out" / "showcase.jsonl") if row["how"] == "tools"]
    assert any("[1] Page (https://brio" in call["result"] for row in shown for call in row["calls"])
