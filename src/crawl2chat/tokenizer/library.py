"""Tokenizers that tiktoken can't express, on the library `tokenizers`: SentencePiece-style BPE with byte fallback,
Metaspace, digits apart, and whatever else a `tokenizer.json` of the kind BPE describes.

Names of control tokens are taken out of what the library knows, so that text never becomes one.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from crawl2chat.stages.files import StageError

FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")  # a byte that no other token has
SPACE = "\u2581"  # SentencePiece's sign for a space


class LibraryEncoding:
    """A `tokenizer.json` without its control tokens, in the words of tiktoken's Encoding as far as we use it."""

    def __init__(self, content: Mapping[str, Any], controls: Mapping[str, int]) -> None:
        """Raises StageError for a kind of tokenizer that is not supported, or that the library can't read."""
        model = content["model"]
        if model["type"] != "BPE":
            raise StageError(f"a tokenizer of the kind {model['type']} is not supported, only BPE")
        self.byte_level = '"ByteLevel"' in json.dumps(content.get("decoder")) + json.dumps(content.get("pre_tokenizer"))
        merged = {part for merge in model["merges"] for part in (merge.split(" ") if isinstance(merge, str) else merge)}
        unknown = None if model.get("byte_fallback") else model.get("unk_token")
        kept = {
            token: id
            for token, id in model["vocab"].items()
            if token not in controls or token in merged or token == unknown
        }
        plain = {
            **content,
            "model": {**model, "vocab": kept, "unk_token": unknown},
            "added_tokens": [token for token in content["added_tokens"] if token["content"] not in controls],
            "post_processor": None,
            "truncation": None,
            "padding": None,
        }
        self.at_start = _library(plain)
        inside = json.loads(json.dumps(plain).replace('"prepend_scheme": "first"', '"prepend_scheme": "never"'))
        self.inside = self.at_start if inside == plain else _library(inside)
        self.tokens = kept | {token["content"]: token["id"] for token in plain["added_tokens"]}
        self.added = {token["content"] for token in plain["added_tokens"]}

    def encode_ordinary(self, text: str, *, at_start: bool = True) -> list[int]:
        """Ids of text. at_start: whether it begins a text, before which some tokenizers put a space."""
        ids: list[int] = (self.at_start if at_start else self.inside).encode(text, add_special_tokens=False).ids
        return ids

    def encode_ordinary_batch(self, texts: Sequence[str], num_threads: int = 2) -> list[list[int]]:
        return [found.ids for found in self.at_start.encode_batch_fast(list(texts), add_special_tokens=False)]

    def ends(self, text: str, *, at_start: bool) -> tuple[list[int], list[int]]:
        """Ids, and for each the character of the text after it."""
        found = (self.at_start if at_start else self.inside).encode(text, add_special_tokens=False)
        return found.ids, [end for _, end in found.offsets]

    def bytes_of(self, token: str, of_byte: Mapping[str, int]) -> bytes:
        """What a token stands for. of_byte: the byte of each character, in a byte-level vocabulary."""
        if token in self.added:
            return token.encode()
        if self.byte_level:
            if all(character in of_byte for character in token):
                return bytes(of_byte[character] for character in token)
            return token.encode()
        if match := FALLBACK.fullmatch(token):
            return bytes([int(match[1], 16)])
        return token.replace(SPACE, " ").encode()


def _library(content: Mapping[str, Any]) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises nothing narrower
        raise StageError(f"the tokenizers library can't read it: {error}") from error
