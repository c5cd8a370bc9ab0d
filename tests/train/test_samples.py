import pytest
import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.tokenizer.shards import write_tokens
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.pretrain import add_samples

TEXTS = ["The miller's daughter went down to the river.", "In 1842 they counted 17 mills.", "naïve", "and more"]


def model(tokenizer, seed: int) -> Transformer:
    transformer = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 1, 16, max_position_embeddings=32)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.normal_(generator=generator)
    return transformer


@pytest.fixture
def held_out(tokenizer, tmp_path):
    return write_tokens(TEXTS, tokenizer, tmp_path / "held_out")


def test_the_same_beginnings_are_continued_at_every_step(tokenizer, held_out, tmp_path):
    file = tmp_path / "samples-during.jsonl"
    for step in (10, 20):
        add_samples(model(tokenizer, step), tokenizer, held_out, file, step)
    rows = read_metrics(file)
    assert [row["step"] for row in rows] == [10] * 3 + [20] * 3
    assert [row["prompt"] for row in rows[:3]] == [row["prompt"] for row in rows[3:]]
    assert TEXTS[0].startswith(rows[0]["prompt"])
    assert [row["continuation"] for row in rows[:3]] != [row["continuation"] for row in rows[3:]]


def test_a_resumed_run_leaves_the_file_that_an_unbroken_one_leaves(tokenizer, held_out, tmp_path):
    def write(name, steps):
        for step in steps:
            add_samples(model(tokenizer, step), tokenizer, held_out, tmp_path / name, step)
        return (tmp_path / name).read_bytes()

    assert write("killed.jsonl", [10, 20, 30, 20, 30, 40]) == write("whole.jsonl", [10, 20, 30, 40])


def test_without_held_out_text_documents_are_begun_from_nothing(tokenizer, tmp_path):
    nothing = write_tokens([], tokenizer, tmp_path / "held_out")
    add_samples(model(tokenizer, 0), tokenizer, nothing, tmp_path / "samples.jsonl", 5)
    (row,) = read_metrics(tmp_path / "samples.jsonl")
    assert (row["step"], row["prompt"]) == (5, "")
