import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from models import random_model

from crawl2chat.model import save_model
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.pretrain import save_stage_model

# as Qwen's: ChatML, but with a default system message
THEIR_TEMPLATE = (
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{% generation %}{{- message.content + '<|im_end|>\\n' }}{% endgeneration %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@pytest.fixture(scope="session", params=["tied", "untied"])
def stage_folder(request, tokenizer, tmp_path_factory) -> Path:
    """A folder as a stage leaves it, without a manifest."""
    out = tmp_path_factory.mktemp(request.param)
    save_stage_model(random_model(request.param, tokenizer.vocab_size), tokenizer, out)
    return out


@pytest.fixture
def checkpoint(tokenizer, tmp_path) -> Path:
    """A checkpoint from elsewhere: bf16 shards of transformers, a tokenizer like Qwen's, a padded vocabulary."""
    transformers = pytest.importorskip("transformers")
    model = random_model("untied", tokenizer.vocab_size + 3)
    save_model(model, tmp_path / "plain", stop_ids=[1], pad_id=0)
    folder = tmp_path / "Their-Model-0.1B"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.bfloat16)
    theirs.save_pretrained(folder, max_shard_size="40KB")
    content = tokenizer.to_huggingface()
    for token in content["added_tokens"]:
        token["special"] = token["content"].startswith("<|")  # tags of tools and thoughts are text to be shown
    content["normalizer"] = {"type": "NFC"}
    content["model"] |= {"ignore_merges": False, "merges": one_merge_a_token(tokenizer)}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(THEIR_TEMPLATE)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlicense_link: https://example.org/l\n---\n# Theirs\n")
    (folder / "LICENSE").write_text("Do as you like.\n")
    return folder


def one_merge_a_token(tokenizer: Tokenizer) -> list[str]:
    """Merges as published tokenizers list them: for each token the pair that byte-pair encoding itself ends with."""
    lines = []
    for token, rank in tokenizer.ranks.items():
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [(tokenizer.ranks.get(a + b, rank), i) for i, (a, b) in enumerate(pairwise(parts))]
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            lines.append(" ".join(map(_printable, parts)))
    return lines


def _printable(token: bytes) -> str:
    from crawl2chat.tokenizer.huggingface import printable

    return printable(token)
