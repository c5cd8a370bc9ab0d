"""The tokenizer of a model: an encoding, the chat format, and Hugging Face's `tokenizer.json` as the file of record.

Text never becomes a control token. Content is always encoded as ordinary text; the ids of control tokens
are put in by code, so `<|im_end|>` typed by a user is a handful of harmless byte tokens.
"""

import json
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from crawl2chat.stages.files import AnyPath, StageError, atomic_write, read_model_text, write_json
from crawl2chat.tokenizer.chat_template import ChatTemplate
from crawl2chat.tokenizer.encoding import Encoding, to_nfc
from crawl2chat.tokenizer.huggingface import (
    CONFIG,
    FILES,
    MAX_BYTES,
    NO_LENGTHS,
    QWEN2_PATTERN,
    TEMPLATE,
    TOKENIZER,
    ends_of_generation,
    faults_of,
    parse,
    parts_of,
    printable,
)

if TYPE_CHECKING:
    from crawl2chat.tokenizer.library import LibraryEncoding

ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>")  # which end a document, of all that have them
ENDS_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>")
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TOOL_CALL, TOOL_RESPONSE = ("<tool_call>", "</tool_call>"), ("<tool_response>", "</tool_response>")
CONTROL_TOKENS = (
    END_OF_TEXT, IM_START, IM_END, *TOOL_CALL, *TOOL_RESPONSE, "<think>", "</think>",
)  # fmt: skip
ROLES = ("system", "user", "assistant", "tool")
# ChatML with Hermes-style tool calls, as Qwen's models write them: a tool's answer comes in the user's turn.
CHAT_TEMPLATE = (
    "{%- set rest = messages -%}"
    "{%- if tools -%}"
    "{{- '<|im_start|>system\\n' -}}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{{- messages[0]['content'] + ('\\n\\n' if messages[0]['content'] else '') -}}{%- set rest = messages[1:] -%}"
    "{%- endif -%}"
    "{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n"
    "You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' -}}"
    "{%- for tool in tools -%}{{- '\\n' + tool | tojson -}}{%- endfor -%}"
    "{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\\n<tool_call>\\n' -}}"
    '{{- \'{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n\' -}}'
    "{%- endif -%}"
    "{%- for message in rest -%}"
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
# For a model that has no chat template and no tokens of ChatML's
PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}{{- 'Assistant: ' + message['content'] + eos_token + '\\n' -}}"
    "{%- else -%}{{- message['role'].capitalize() + ': ' + message['content'] + '\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
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
    `tools`, only in a first system message: the functions that are offered there (as the chat template writes them).
    """

    role: str
    content: str
    tool_calls: NotRequired[list[ToolCall]]
    weight: NotRequired[int]
    tools: NotRequired[list[dict[str, Any]]]


class Tokenizer(Encoding):
    """An encoding that knows which tokens begin and end texts and turns, and how a conversation is written."""

    def __init__(
        self,
        ranks: dict[bytes, int],
        controls: dict[str, int],
        pattern: str = QWEN2_PATTERN,
        *,
        nfc: bool = False,
        library: "LibraryEncoding | None" = None,
        by_id: Mapping[int, bytes] | None = None,
        files: Mapping[str, str] | None = None,
        generation: Collection[int] = (),
    ) -> None:
        """nfc, library, by_id: as Encoding has them. files: those that it was read from, to be saved as they were.
        generation: ids that end a generation, as the model's generation_config.json names them.

        Raises StageError if nothing says which token ends a text.
        """
        super().__init__(ranks, controls, pattern, nfc=nfc, library=library, by_id=by_id)
        self.files: dict[str, str] = dict(files or {})
        self.config: dict[str, Any] = json.loads(self.files.get(CONFIG, "{}"))
        self.generation_config: dict[str, Any] = {}  # of the model that it was read with
        eos = self._named("eos_token")
        ends = [self.controls[name] for name in ENDS_OF_TEXT if name in self.controls]
        end = next((id for id in (*ends, eos, *sorted(generation)) if id is not None), None)
        if end is None:
            raise StageError(
                "no token ends a text: neither tokenizer_config.json nor generation_config.json names an eos_token"
            )
        self.end_of_text: int = end  # ends a document
        self.bos_id = self._beginning()  # is put before a text
        pad = self._named("pad_token")
        self.pad_id = end if pad is None else pad
        self.template = self._chat_template(eos)
        turn = self.template.end_of_turn
        # ends the assistant's turn
        self.end_of_turn = self.controls[turn] if turn else self.controls.get(IM_END, end if eos is None else eos)
        self.eos_id = self.end_of_turn if eos is None else eos  # which its files call the end
        # Ids that end a continuation: of a document or of a turn
        self.stop_ids = frozenset((self.end_of_text, self.end_of_turn, self.eos_id, *generation))

    def _named(self, kind: str) -> int | None:
        """The id of a special token that tokenizer_config.json names."""
        return self.controls.get(self._name_of(kind) or "")

    def _name_of(self, kind: str) -> str | None:
        token = self.config.get(kind)
        name = token.get("content") if isinstance(token, dict) else token
        return name if isinstance(name, str) else None

    def _beginning(self) -> int:
        """What the tokenizer's own files put before a text, else what separates documents."""
        post = json.loads(self.files[TOKENIZER]).get("post_processor") if TOKENIZER in self.files else None
        for part in (post or {}).get("processors", [post] if post else []):
            for piece in part.get("single", []) if part.get("type") == "TemplateProcessing" else ():
                if (name := piece.get("SpecialToken", {}).get("id")) in self.controls:
                    return self.controls[name]
                break
        bos = self._named("bos_token")
        return bos if bos is not None and self.config.get("add_bos_token") else self.end_of_text

    def _chat_template(self, eos: int | None) -> ChatTemplate:
        named = {kind: self._name_of(kind) for kind in ("bos_token", "eos_token", "unk_token", "pad_token")}
        variables = {kind: name for kind, name in named.items() if name is not None}
        names = {id: name for name, id in self.controls.items()}
        variables.setdefault("eos_token", names.get(self.end_of_text if eos is None else eos, ""))
        variables.setdefault("bos_token", "")
        ends = {variables["eos_token"], names.get(self.end_of_text, ""), *ENDS_OF_TURN}
        source, ours = self.chat_template, (CHAT_TEMPLATE, PLAIN_TEMPLATE)
        compose = to_nfc if self.nfc else str
        return ChatTemplate(source, self.controls, variables, ends, compose, copies=source in ours)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> tuple[list[int], list[int]]:
        """Ids of a conversation as the chat template writes it, and a mask of the same length: 1 for what is learned.

        That is what the assistant is the author of: its content, its tool calls and the token that ends its turn; with
        `weight` 0 not even those. tools: functions that are offered (default: those of a first system message).
        Ids are those of transformers' `apply_chat_template` but where a content holds the name of a control token.
        Raises ValueError for a role that there is not, and for a conversation that the template refuses.
        """
        for message in messages:
            if message["role"] not in ROLES:
                raise ValueError(f"role {message['role']!r}: expected one of {', '.join(ROLES)}")
        if messages and messages[0].get("tools"):
            first, *rest = messages
            tools = tools or first["tools"]
            messages = [first, *rest] if first["content"] else rest
        learned = [m["role"] == "assistant" and m.get("weight") != 0 for m in messages]
        written = self.template.write(
            messages, add_generation_prompt=add_generation_prompt, tools=tools, learned=learned
        )
        ids: list[int] = []
        mask: list[int] = []
        begin, authored = 0, deque(written.authored)
        for text, is_control in written.pieces:
            end = begin + len(text)
            while authored and authored[0][1] <= begin:
                authored.popleft()
            start, stop = authored[0] if authored else (end, end)
            if is_control:
                found = [self.controls[text]]
            elif begin < start < end or begin < stop < end:
                found, ends = self.encode_with_ends(text, at_start=not begin)
                mask += _covered(begin, ends, authored)
            else:
                found = self.encode(text, at_start=not begin)
            ids += found
            mask += [int(start <= begin < stop)] * (len(ids) - len(mask))
            begin = end
        return ids, mask

    @property
    def chat_template(self) -> str:
        """The Jinja template that conversations are written with: that of its files, ChatML, or plain text."""
        if TEMPLATE in self.files:
            return self.files[TEMPLATE]
        own = CHAT_TEMPLATE if {IM_START, IM_END} <= self.controls.keys() else PLAIN_TEMPLATE
        template = self.config.get("chat_template") or own
        if isinstance(template, list):  # several with names; the one called default is what is rendered unasked
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default") or next(iter(named.values()))
        return str(template)

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
            config["chat_template"] = self.chat_template
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
        texts = {name: read_model_text(path, MAX_BYTES) for name, path in files.items() if path.is_file()}
        content = parse(file, texts[TOKENIZER])
        if not isinstance(parse(files[CONFIG], texts.get(CONFIG, "{}")), dict):
            raise StageError(f"{files[CONFIG]}: expected a JSON object")
        if isinstance(content, dict) and any(content.get(name) for name in NO_LENGTHS):
            texts[TOKENIZER] = json.dumps(content | NO_LENGTHS, ensure_ascii=False)
        generation = file.with_name("generation_config.json")
        with faults_of(file):
            tokenizer = Tokenizer(**parts_of(content), files=texts, generation=ends_of_generation(generation))
            content = parse(generation, read_model_text(generation)) if generation.is_file() else None
            tokenizer.generation_config = content if isinstance(content, dict) else {}
            return tokenizer

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


def _covered(begin: int, ends: Sequence[int], authored: Iterable[tuple[int, int]]) -> list[int]:
    """Of each token of a piece that begins at a character, whether any character of it is in one of the stretches."""
    mask = [0] * len(ends)
    for a, b in authored:
        if not ends or a >= begin + ends[-1]:
            break
        first, stop = bisect_right(ends, a - begin), 1 + bisect_left(ends, b - begin)
        mask[first:stop] = [1] * len(mask[first:stop])
    return mask
