"""Hugging Face's `tokenizer.json`, and the files next to it, as what an encoding is made of."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from crawl2chat.stages.files import StageError, read_model_text
from crawl2chat.stages.text_files import what_is_wrong
from crawl2chat.tokenizer.encoding import Encoding

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
FILES = (TOKENIZER, CONFIG, TEMPLATE, "special_tokens_map.json")  # those that transformers keeps a tokenizer in
MOST_IDS = 10_000_000  # the largest vocabularies have a quarter of a million
MAX_BYTES = 200_000_000  # of such a file; those of the largest vocabularies have 35 million
# What fine-tuning leaves in tokenizer.json: how its batches were cut and padded. Without it, ids are those of the text.
NO_LENGTHS = {"truncation": None, "padding": None}
# Qwen2's split: contractions, words with a leading space, single digits, punctuation, line ends, space.
# One of the few patterns that llama.cpp knows by name.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_PATTERN = (  # numbers in groups of three digits
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # of ByteLevel by default
# Added tokens that are not special and look like tags are control tokens as well: text never becomes one
TAG = re.compile(r"[<\[|{].{1,60}[>\]|}]")


def _character_of_byte() -> dict[int, str]:
    """GPT-2's map of bytes to printable characters: the printable ones stay, the others move up from 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


CHARACTER_OF_BYTE = _character_of_byte()
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


def printable(token: bytes) -> str:
    """A token as `tokenizer.json` and GGUF write it: one character per byte."""
    return "".join(CHARACTER_OF_BYTE[byte] for byte in token)


@contextmanager
def faults_of(file: Path) -> Iterator[None]:
    """Raise StageError, with the file's name, for what is wrong with its content."""
    try:
        yield
    except StageError as error:
        raise StageError(f"{file}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StageError(f"{file}: not a tokenizer.json that can be used: {error!r}") from error


def read_encoding(file: Path) -> Encoding:
    """The encoding of a `tokenizer.json`, whether or not it has the control tokens of a chat format.

    Raises StageError when it can't be read, and for a kind that is not supported.
    """
    content = read_content(file)
    with faults_of(file):
        return Encoding(**parts_of(content))


def read_content(file: Path) -> dict[str, Any]:
    """The content of a `tokenizer.json`. Raises StageError if it is not a JSON object."""
    content = parse(file, read_model_text(file, MAX_BYTES))
    if not isinstance(content, dict):
        raise StageError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return content


def parts_of(content: dict[str, Any]) -> dict[str, Any]:
    """What Encoding is made of, for tiktoken if it can express the tokenizer exactly. Raises StageError."""
    model, added = content["model"], content["added_tokens"]
    for name, id in [*model["vocab"].items(), *((token["content"], token["id"]) for token in added)]:
        if type(id) is not int or not 0 <= id < MOST_IDS:
            raise StageError(f"{name[:40]!r} has the id {repr(id)[:40]}; expected one from 0 to {MOST_IDS - 1:,}")
    if any(not token["content"] for token in added):
        raise StageError("one of its added tokens is empty")
    if len(set(model["vocab"].values())) != len(model["vocab"]):
        raise StageError("several tokens of its vocabulary have one id")
    controls = {token["content"]: token["id"] for token in added if token["special"] or TAG.fullmatch(token["content"])}
    pattern = split_pattern(content["pre_tokenizer"])
    normalizer = (content.get("normalizer") or {}).get("type")
    if (
        model["type"] == "BPE"
        and pattern is not None
        and normalizer in (None, "NFC")
        and len(controls) == len(added)
        and _merges_in_order(model)
        and BYTE_OF_CHARACTER.keys() <= model["vocab"].keys()  # or tiktoken panics at a byte without a token
    ):
        ranks = {
            bytes(BYTE_OF_CHARACTER[character] for character in token): id
            for token, id in model["vocab"].items()
            if token not in controls
        }
        return {"ranks": ranks, "controls": controls, "pattern": pattern, "nfc": normalizer == "NFC"}
    from crawl2chat.tokenizer.library import LibraryEncoding

    library = LibraryEncoding(content, controls)
    by_id = {id: library.bytes_of(token, BYTE_OF_CHARACTER) for token, id in library.tokens.items()}
    ranks = {}
    for id in sorted(by_id):
        ranks.setdefault(by_id[id], id)
    return {"ranks": ranks, "controls": controls, "pattern": "", "library": library, "by_id": by_id}


def _merges_in_order(model: dict[str, Any]) -> bool:
    """Whether the pair that tiktoken would merge first, that of the lowest id, is the one that comes first here."""
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    made = [model["vocab"][left + right] for left, right in pairs]
    return bool(model.get("ignore_merges")) or all(a < b for a, b in pairwise(made))


def ends_of_generation(file: Path) -> list[int]:
    """The ids that a model's generation_config.json, or else its config.json, names as ends."""
    for place in (file, file.with_name("config.json")):
        content = parse(place, read_model_text(place)) if place.is_file() else None
        ends = content.get("eos_token_id") if isinstance(content, dict) else None
        if ends is not None:
            return [id for id in (ends if isinstance(ends, list) else [ends]) if type(id) is int and id >= 0]
    return []


def split_pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
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


def parse(file: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        wrong = what_is_wrong(file) or f"not a {file.name} that can be used: {error!r}"
        raise StageError(f"{file}: {wrong}") from error
