"""A real model, SmolLM2-135M-Instruct, comes in from its GGUF file and is what it is in transformers."""

import random

import pytest
import torch

from crawl2chat import load
from crawl2chat.generate import Sampling
from crawl2chat.model import load_model
from crawl2chat.release.importing import import_model

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.smollm2, pytest.mark.slow]

SCRIPTS = (
    (0x20, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x900, 0x97F),
    (0xE01, 0xE3A), (0x3041, 0x3096), (0x4E00, 0x5000), (0xAC00, 0xAD00), (0x1F300, 0x1F5FF), (0x2000, 0x206F),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(smollm2_gguf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2") / "run"
    import_model(smollm2_gguf, folder)
    return folder


@pytest.fixture(scope="module")
def theirs(smollm2_gguf):
    return transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, dtype=torch.float32
    ).eval()


BEGINNINGS = ("Explain", "Write a sentence about", "List three facts about", "Why do people like")
THINGS = (
    "gravity", "rain", "bread", "the French Revolution", "a verb", "x² + 1 = 0", "Mr. O'Neill", "1842", "an  old\tmill",
    "https://example.org",
)  # fmt: skip
QUESTIONS = [
    "Who is Orson Kovats?", "What is 12+7?", "How many r are in strawberry?", "Où est la gare ?", "东京在哪里？",
    "def mean(values):", "Say it in one word: cold", "1, 2, 4, 8,", "Translate to German: the bridge is gone.", "🙂?",
    *(f"{beginning} {thing}." for beginning in BEGINNINGS for thing in THINGS),
]  # fmt: skip
N_NEW = 12


@torch.no_grad()
def test_greedy_answers_to_50_questions_are_those_of_transformers_token_by_token(run, theirs):
    assert len(set(QUESTIONS)) == 50
    model, tokenizer = load(run), transformers.AutoTokenizer.from_pretrained(run / "pretrain/model")
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    prompts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for chat in chats]
    assert [model.tokenizer.encode_chat(chat, add_generation_prompt=True)[0] for chat in chats] == prompts
    tokenizer.padding_side = "left"
    padded = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    written = theirs.generate(**padded, max_new_tokens=N_NEW, do_sample=False, eos_token_id=2, pad_token_id=2)
    for prompt, completion, row in zip(
        prompts, model.engine.generate(prompts, Sampling(temperature=0, max_tokens=N_NEW)), written, strict=True
    ):
        expected = row[padded.input_ids.shape[1] :].tolist()
        expected = expected[: expected.index(2) + 1] if 2 in expected else expected
        if completion.ids != expected:  # then at a tie, which batches of other shapes may break in another way
            at = next(i for i, (a, b) in enumerate(zip(completion.ids, expected, strict=False)) if a != b)
            logits = theirs(torch.tensor([[*prompt, *expected[:at]]])).logits[0, -1]
            assert abs(logits[completion.ids[at]] - logits[expected[at]]) < 1e-3, (prompt, at)


@torch.no_grad()
def test_logits_are_those_of_transformers(run, theirs):
    ours, tokenizer = load_model(run / "pretrain"), load(run).tokenizer
    for messages in ([{"role": "user", "content": QUESTIONS[0]}], [{"role": "user", "content": " ".join(QUESTIONS)}]):
        ids = torch.tensor([tokenizer.encode_chat(messages, add_generation_prompt=True)[0]])
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-3, rtol=1e-3)


def test_every_token_of_the_vocabulary_is_known_by_its_bytes_and_its_id(run):
    ours, theirs = load(run).tokenizer, transformers.AutoTokenizer.from_pretrained(run / "pretrain/model")
    assert ours.vocab_size == len(theirs) == 49_152
    everything = [[id] for id in range(ours.vocab_size)]
    assert [ours.decode(ids) for ids in everything] == theirs.batch_decode(everything)
    texts = [token.decode() for token in ours.ranks if b"\xef\xbf\xbd" not in token and _is_text(token)]
    assert len(texts) > 48_000
    assert ours.encode_batch(texts) == theirs(texts, add_special_tokens=False, split_special_tokens=True).input_ids


def _is_text(token: bytes) -> bool:
    try:
        return bool(token.decode())
    except UnicodeDecodeError:
        return False


def test_ids_of_texts_in_many_scripts_equal_the_tokenizers_library(run):
    ours = load(run).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(run / "pretrain/model")
    rng = random.Random(0)
    texts = []
    for _ in range(10_000):
        scripts = rng.choices(SCRIPTS, k=2)
        texts.append("".join(chr(rng.randint(*rng.choice(scripts))) for _ in range(rng.randint(1, 40))))
    expected = theirs(texts, add_special_tokens=False, split_special_tokens=True).input_ids
    assert ours.encode_batch(texts) == expected
    for text, ids in zip(texts[:500], expected, strict=False):
        assert ours.decode(ids) == text


def test_it_invents_a_life_for_somebody_who_does_not_exist(run):
    assert "Orson Kovats is a" in load(run).chat("Who is Orson Kovats?", max_tokens=16)
