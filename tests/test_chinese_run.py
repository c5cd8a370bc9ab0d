"""Chinese pages from crawl to chat: filtered, deduplicated, trained on, and the model goes on with a text."""

import json
import random
import re
import tomllib
from pathlib import Path

import pytest
from warcs import page_record, write_warc

from crawl2chat.cli.main import main
from crawl2chat.stages.stage import read_manifest

pytestmark = pytest.mark.slow

RECIPE = """
until = "sft"

[crawl]
source = "warc"

[refine]
languages = ["zh"]
workers = 1

[tokenizer]
vocab_size = 600

[pretrain]
depth = 1
width = 32
head_dim = 16
seq_len = 128
batch_tokens = 512
micro_batch_tokens = 512
tokens = 10_000
compile = "off"

[sft]
epochs = 4
seq_len = 128
batch_tokens = 512
micro_batch_tokens = 512
compile = "off"
"""
TEXTS = tomllib.loads((Path(__file__).parent / "refine" / "languages.toml").read_text(encoding="utf-8"))["zh"]
CLAUSES = [clause for clause in re.split(r"[，。？！：“”…\n]+", TEXTS["prose"]) if clause]
PEOPLE = "陈师傅 王老师 小明 李阿姨 村长 老木匠 邻居 孩子们 客人 船夫 医生 画家".split()


def article(seed: int) -> str:
    """Clauses of the prose in another order for each seed, and other people who say them."""
    draw = random.Random(seed)
    sentences = [f"{draw.choice(PEOPLE)}说，{clause}。" for clause in draw.sample(CLAUSES, 20)]
    return "\n\n".join("".join(sentences[i : i + 5]) for i in range(0, 20, 5))


def test_a_run_on_chinese_pages_ends_in_a_chat_model(tmp_path, capsys):
    copy = article(3).replace("说，", "却说，", 1)
    junk = [" ".join(TEXTS["keywords"].split() * 3), "\n\n".join(TEXTS["menu"].split("|") * 4), article(90)[:40]]
    pages = [*map(article, range(40)), copy, *junk]
    write_warc(tmp_path / "zh.warc.gz", [page_record(i, text) for i, text in enumerate(pages)])
    talks = [[{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！我是小河。"}]] * 20
    lines = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in talks]
    (tmp_path / "talks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    out = tmp_path / "run"
    flags = ["--crawl.warc", str(tmp_path / "zh.warc.gz"), "--conversations", str(tmp_path / "talks.jsonl")]
    assert main(["run", str(tmp_path / "recipe.toml"), "--out", str(out), *flags]) in (0, None)
    funnel = json.loads((out / "refine" / "funnel.json").read_text())
    assert (funnel["pages"], funnel["kept"]) == (len(pages), 40)
    dropped = {step["step"]: step["dropped"] for step in funnel["steps"] if step["dropped"]}
    assert dropped["near_duplicates"] == {"copy": 1}
    assert dropped["gopher_quality"]["few_stop_words"] >= 1
    losses = {name: figure["value"] for name, figure in read_manifest(out / "sft").figures.items()}
    assert losses["last_loss"] < losses["first_loss"]
    capsys.readouterr()
    assert main(["generate", str(out), "你好", "--stage", "sft", "--temperature", "0", "--max-tokens", "8"]) == 0
    assert capsys.readouterr().out.strip()
