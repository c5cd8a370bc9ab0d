"""What models of others are made of: chat templates of the families, and kinds of tokenizers."""

import json

import pytest
from models import PROSE

from crawl2chat.tokenizer import Tokenizer

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% else %}{{ raise_exception('only user and assistant') }}{% endif %}"
    "{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN_3 = (  # thinking is left out of earlier turns, and an empty one is put before the last answer
    "{% for message in messages %}{% set content = message['content'] %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' + content.lstrip('\\n') }}"
    "{% else %}{{ content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROLS = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def sentencepiece(normalizer, pre_tokenizer, decoder):
    model = models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    theirs = tokenizers.Tokenizer(model)
    theirs.normalizer, theirs.pre_tokenizer, theirs.decoder = normalizer, pre_tokenizer, decoder
    theirs.train_from_iterator(
        PROSE, trainers.BpeTrainer(vocab_size=700, special_tokens=[*CONTROLS, *BYTES], show_progress=False)
    )
    content = json.loads(theirs.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in CONTROLS]
    return content


def byte_level(pre_tokenizer):
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer, theirs.decoder = pre_tokenizer, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        PROSE,
        trainers.BpeTrainer(vocab_size=600, special_tokens=CONTROLS, initial_alphabet=alphabet, show_progress=False),
    )
    return json.loads(theirs.to_str())


STRIPPING = decoders.Sequence([
    decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
])  # fmt: skip
DIGITS = pre_tokenizers.Digits(individual_digits=True)
KINDS = {
    "llama 2": lambda: sentencepiece(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, STRIPPING
    ),
    "mistral": lambda: sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), STRIPPING),
    "smollm2": lambda: byte_level(pre_tokenizers.Sequence([DIGITS, pre_tokenizers.ByteLevel(add_prefix_space=False)])),
    "roberta": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True)),
}


MORE = ["<s>", "</s>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "[TOOL_CALLS]"]


def with_template(tokenizer: Tokenizer, template: str, folder) -> Tokenizer:
    content = tokenizer.to_huggingface()
    flags = {k: v for k, v in content["added_tokens"][0].items() if k not in ("id", "content")}
    for name in MORE:
        content["added_tokens"].append({"id": 1 + content["added_tokens"][-1]["id"], "content": name, **flags})
    eos = next(end for end in ("<|im_end|>", "<|eot_id|>", "</s>") if end in template or end == "</s>")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": eos, "chat_template": template,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.load(folder)
