"""The tokenizer of a model: an encoding, the chat format, and Hugging Face's `tokenizer.json` as the file of record.

Text never becomes a control token. Content is always encoded as ordinary text; the ids of control tokens
are put in by code, so `<|im_end|>` typed by a user is a handful of harmless byte tokens.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from crawl2chat.stages.files import AnyPath, StageError, atomic_write, write_json
from crawl2chat.stages.text_files import NotText, decode, what_is_wrong
from crawl2chat.tokenizer.encoding import Encoding

# Qwen2's split: contractions, words with a leading space, single digits, punctuation, line ends, space.
# One of the few patterns that llama.cpp knows by name.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # of ByteLevel by default
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TOOL_CALL, TOOL_RESPONSE = ("<tool_call>", "</tool_call>"), ("<tool_response>", "</tool_response>")
CONTROL_TOKENS = (
    END_OF_TEXT, IM_START, IM_END, *TOOL_CALL, *TOOL_RESPONSE, "<think>", "</think>",
)  # fmt: skip
ROLES = ("system", "user", "assistant", "tool")
TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
FILES = (TOKENIZER, CONFIG, TEMPLATE, "special_tokens_map.json")  # those that transformers keeps a tokenizer in
# What fine-tuning leaves in tokenizer.json: how its batches were cut and padded. Without it, ids are those of the text.
NO_LENGTHS = {"truncation": None, "padding": None}
# ChatML with Hermes-style tool calls, as Qwen's models write them: a tool's answer comes in the user's turn.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'tool' -%}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message['content'] + '\\n</tool_response><|im_end|>\\n' -}}"
    "{%- else -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] -}}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{{- '<tool_call>\\n' + call['function'] | tojson + '\\n</tool_call>' -}}"
    "{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


class Function(TypedDict):
    """The name of a tool and what it is given."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict):
    """A call of a tool in the form of OpenAI's API, but with its arguments as an object, not as JSON text."""

    type: Literal["function"]
    function: Function


class Message(TypedDict):
    """One turn of a conversation, as OpenAI's API writes it; role `tool` brings back what a called tool said.

    `weight`, as in OpenAI's fine-tuning files: 0 for an assistant's message that is read but not learned.
    `tools`, only in a first system message: the functions that are offered there (`chat.tools.offer_functions`).
    """

    role: str
    content: str
    tool_calls: NotRequired[list[ToolCall]]
    weight: NotRequired[int]
    tools: NotRequired[list[dict[str, Any]]]


class Tokenizer(Encoding):
    """An encoding with the control tokens of ChatML, so that it can encode conversations."""

    def __init__(
        self, ranks: dict[bytes, int], controls: dict[str, int], pattern: str = QWEN2_PATTERN, *, nfc: bool = False
    ) -> None:
        """nfc: whether text is put into Unicode's composed form first, as Qwen's own tokenizers do."""
        super().__init__(ranks, controls, pattern, nfc=nfc)
        self.end_of_text = controls[END_OF_TEXT]
        self.im_start, self.im_end = controls[IM_START], controls[IM_END]
        self.files: dict[str, str] = {}  # those that it was read from, to be saved as they were

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a continuation: the end of a document and the end of a turn."""
        return frozenset((self.end_of_text, self.im_end))

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[int]]:
        """ChatML ids of a conversation, and a mask of the same length: 1 where the model is the author.

        The author's part is each assistant's content, its tool calls and the `<|im_end|>` that ends it, nothing else;
        with `weight` 0 not even those. Roles may come in any order, and each message is a turn of its own.
        Raises ValueError for a role that the format does not have.
        """
        ids: list[int] = []
        mask: list[int] = []
        for message in messages:
            if message["role"] not in ROLES:
                raise ValueError(f"role {message['role']!r}: expected one of {', '.join(ROLES)}")
            role = "user" if message["role"] == "tool" else message["role"]
            header = [self.im_start, *self.encode(role + "\n")]
            content = [*self._content(message), self.im_end]
            ids += header + content + self.encode("\n")
            authored = int(message["role"] == "assistant" and message.get("weight") != 0)
            mask += [0] * len(header) + [authored] * len(content) + [0] * (len(ids) - len(mask) - len(header + content))
        if add_generation_prompt:
            prompt = [self.im_start, *self.encode("assistant\n")]
            ids += prompt
            mask += [0] * len(prompt)
        return ids, mask

    def _content(self, message: Message) -> list[int]:
        """Ids of what stands between a turn's header and its end: text, and control tokens put in by this code."""
        if message["role"] == "tool":
            return self._within(TOOL_RESPONSE, message["content"])
        ids = self.encode(message["content"])
        for call in message.get("tool_calls") or ():
            ids += self._within(TOOL_CALL, json.dumps(call["function"], ensure_ascii=False))
        return ids

    def _within(self, tags: tuple[str, str], text: str) -> list[int]:
        opening, closing = tags
        return [self.controls[opening], *self.encode(f"\n{text}\n"), self.controls[closing]]

    @property
    def chat_template(self) -> str:
        """The Jinja template that others render conversations with: that of its files, else our ChatML."""
        if TEMPLATE in self.files:
            return self.files[TEMPLATE]
        template = json.loads(self.files.get(CONFIG, "{}")).get("chat_template") or CHAT_TEMPLATE
        if isinstance(template, list):  # several with names; the one called default is what is rendered unasked
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default") or next(iter(named.values()))
        return str(template)

    @property
    def eos_id(self) -> int:
        """The id that its files call the end; of ours the end of a turn."""
        token = json.loads(self.files.get(CONFIG, "{}")).get("eos_token")
        name = token.get("content") if isinstance(token, dict) else token
        return self.controls.get(name, self.im_end) if isinstance(name, str) else self.im_end

    def save(self, folder: AnyPath) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as transformers and others read them.

        A tokenizer that was loaded is written as it was, but for truncation and padding, which are left out, and for
        a chat template, which is added where it had none.
        """
        folder, files = Path(folder), dict(self.files)
        config = json.loads(files.get(CONFIG, "null")) or {
            "tokenizer_class": "PreTrainedTokenizerFast",  # the name that transformers 4 and 5 both know
            "eos_token": IM_END,
            "pad_token": END_OF_TEXT,
            "model_input_names": ["input_ids", "attention_mask"],  # or transformers 4 adds one that generate refuses
            "clean_up_tokenization_spaces": False,
        }
        if TEMPLATE not in files and not config.get("chat_template"):
            config["chat_template"] = CHAT_TEMPLATE
            files.pop(CONFIG, None)
        if CONFIG not in files:
            write_json(folder / CONFIG, config)
        if TOKENIZER not in files:
            write_json(folder / TOKENIZER, self.to_huggingface())
        for name, text in files.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")

    @staticmethod
    def load(folder: AnyPath) -> "Tokenizer":
        """Read `tokenizer.json` from a stage's folder, a model's folder, or the file itself.

        Raises StageError when there is none or when it is not a byte-level BPE whose ids this class would give.
        """
        folder = Path(folder)
        candidates = [folder, folder / TOKENIZER, folder / "model" / TOKENIZER]
        file = next((path for path in candidates if path.is_file()), None)
        if file is None:
            raise StageError(f"{folder}: no tokenizer.json in it; run the tokenizer stage or name its folder")
        files = {name: file.with_name(name) for name in FILES if name != TOKENIZER} | {TOKENIZER: file}
        texts = {name: _read_text(path) for name, path in files.items() if path.is_file()}
        content = _parse(file, texts[TOKENIZER])
        if not isinstance(_parse(files[CONFIG], texts.get(CONFIG, "{}")), dict):
            raise StageError(f"{files[CONFIG]}: expected a JSON object")
        try:
            tokenizer = Tokenizer._from_huggingface(content, file)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StageError(f"{file}: not a tokenizer.json that can be used: {error!r}") from error
        if any(content.get(name) for name in NO_LENGTHS):
            texts[TOKENIZER] = json.dumps(content | NO_LENGTHS, ensure_ascii=False)
        tokenizer.files = texts
        return tokenizer

    @staticmethod
    def _from_huggingface(content: dict[str, Any], file: Path) -> "Tokenizer":
        ranks, controls, pattern, nfc = _byte_level(content, file)
        missing = [name for name in (END_OF_TEXT, IM_START, IM_END) if name not in controls]
        if missing:
            raise StageError(f"{file}: has no control token {', '.join(missing)}; ChatML needs it")
        return Tokenizer(ranks, controls, pattern, nfc=nfc)

    def to_huggingface(self) -> dict[str, Any]:
        """The content of `tokenizer.json`: that of the file that it was read from, if it was."""
        if TOKENIZER in self.files:
            content: dict[str, Any] = json.loads(self.files[TOKENIZER])
            return content
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        split = {"type": "Split", "pattern": {"Regex": self.pattern}, "behavior": "Isolated", "invert": False}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": id, "content": name, **flags} for name, id in self.controls.items()],
            "normalizer": {"type": "NFC"} if self.nfc else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": True,  # a piece that is a token is that token, as in tiktoken
                "vocab": {printable(token): id for token, id in self.ranks.items()},
                "merges": [[printable(left), printable(right)] for left, right in self.merges],
            },
        }


def _character_of_byte() -> dict[int, str]:
    """GPT-2's map of bytes to printable characters: the printable ones stay, the others move up from 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


CHARACTER_OF_BYTE = _character_of_byte()
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


def printable(token: bytes) -> str:
    """A token as `tokenizer.json` and GGUF write it: a character a byte."""
    return "".join(CHARACTER_OF_BYTE[byte] for byte in token)


def read_encoding(file: Path) -> Encoding:
    """The encoding of a `tokenizer.json`, whether or not it has the control tokens of a chat format.

    Raises StageError when it can't be read, and when it is not a byte-level BPE whose ids Encoding would give.
    """
    content = _parse(file, _read_text(file))
    try:
        ranks, controls, pattern, nfc = _byte_level(content, file)
        model = content["model"]
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        made = [model["vocab"][left + right] for left, right in pairs]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(f"{file}: not a tokenizer.json that can be used: {error!r}") from error
    if not model.get("ignore_merges") and any(b <= a for a, b in pairwise(made)):
        raise StageError(f"{file}: its merges are not in the order of the ids that they make, which is not supported")
    return Encoding(ranks, controls, pattern, nfc=nfc)


def _byte_level(content: dict[str, Any], file: Path) -> tuple[dict[bytes, int], dict[str, int], str, bool]:
    """Ranks, control tokens, split pattern, and whether text is composed first. Raises StageError."""
    model = content["model"]
    if model["type"] != "BPE":
        raise StageError(f"{file}: expected a byte-level BPE tokenizer, found {model['type']}")
    pattern = _split_pattern(content["pre_tokenizer"])
    if pattern is None:
        raise StageError(
            f"{file}: expected a byte-level BPE tokenizer that splits by one pattern, found the pre_tokenizer "
            + json.dumps(content["pre_tokenizer"])[:300]
        )
    normalizer = (content.get("normalizer") or {}).get("type")
    if normalizer not in (None, "NFC"):
        raise StageError(f"{file}: its normalizer {normalizer} is not supported, only NFC or none")
    controls = {token["content"]: token["id"] for token in content["added_tokens"]}
    ranks = {
        bytes(BYTE_OF_CHARACTER[character] for character in token): id
        for token, id in model["vocab"].items()
        if token not in controls
    }
    return ranks, controls, pattern, normalizer == "NFC"


def _split_pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """The regular expression of a split and then bytes, which is all that tiktoken does; None for anything else."""
    match (pre_tokenizer or {}).get("pretokenizers"):
        case [
            {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return pattern
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, **others} if others.get("use_regex", True):
            return GPT2_PATTERN
    return None


def _parse(file: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        wrong = what_is_wrong(file) or f"not a {file.name} that can be used: {error!r}"
        raise StageError(f"{file}: {wrong}") from error


def _read_text(file: Path) -> str:
    try:
        return decode(file.read_bytes())  # line ends as they are
    except (OSError, NotText) as error:
        raise StageError(f"{file}: can't be read: {error}") from error
