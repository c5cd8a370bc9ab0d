"""A `tokenizer.json` from what older tokenizers come in: vocab.json with merges.txt, or SentencePiece's model."""

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crawl2chat.release.gguf_reading import CONTROL, USER_DEFINED, tokenizer_content
from crawl2chat.stages.files import StageError, read_json_object, read_model_text, write_json
from crawl2chat.stages.text_files import what_is_wrong
from crawl2chat.tokenizer.huggingface import CONFIG, MAX_BYTES, TOKENIZER

VOCAB, MERGES, SENTENCEPIECE, ADDED = "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json"
VOCABULARIES = (VOCAB, MERGES, SENTENCEPIECE, ADDED)
SPLITS = {"Qwen2Tokenizer": "qwen2", "GPT2Tokenizer": "gpt-2"}  # how classes of transformers cut text, in GGUF's words
HOW = "make one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
UNKNOWN, BPE = 2, 2  # SentencePiece's kind of a piece, and of a model
Pieces = list[tuple[str, float, int]]  # text, score, kind


def make_tokenizer(folder: Path, out: Path) -> None:
    """Write `tokenizer.json`, and `tokenizer_config.json` if it says more, for a folder without one into `out`.

    Raises StageError where there is nothing to make it from, and for kinds of tokenizers that are not known.
    """
    described = read_json_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    named: dict[str, Any] = {}
    try:
        if (folder / VOCAB).is_file() and (folder / MERGES).is_file():
            content = _byte_level(folder, described)
        elif (folder / SENTENCEPIECE).is_file():
            content, named = _sentencepiece(folder / SENTENCEPIECE, _added(folder, described))
        else:
            raise StageError(f"{folder}: no {TOKENIZER} in it; {HOW}")
    except (LookupError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise StageError(f"{folder}: its tokenizer is damaged: {error!r}; download it again") from error
    write_json(out / TOKENIZER, content)
    write_json(out / CONFIG, {**named, **described})


def _byte_level(folder: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(described.get("tokenizer_class")).removesuffix("Fast")
    if kind not in SPLITS or described.get("add_prefix_space"):
        raise StageError(
            f"{folder}: has {VOCAB} and {MERGES}, but tokenizer_class = {kind[:40]!r} does not say how to split text "
            f"(known are {', '.join(SPLITS)}, without add_prefix_space); {HOW}"
        )
    ids = read_json_object(folder / VOCAB)
    added = _added(folder, described)
    tokens = _in_order(folder, ids | {token: id for token, (id, _) in added.items()})
    lines = read_model_text(folder / MERGES, MAX_BYTES).splitlines()
    fields = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": SPLITS[kind],
        "tokenizer.ggml.merges": [line for line in lines if line and not line.startswith("#version")],
        "tokenizer.ggml.token_type": [added[token][1] if token in added else 1 for token in tokens],
    }  # fmt: skip
    return tokenizer_content(fields, tokens, folder / VOCAB)


def _sentencepiece(file: Path, added: Mapping[str, tuple[int, int]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content, and names of the first and last token of a text."""
    if file.stat().st_size > MAX_BYTES:
        raise StageError(f"{file}: has {file.stat().st_size:,} bytes; expected at most {MAX_BYTES:,}")
    raw = file.read_bytes()
    if re.match(rb"[A-Za-z0-9+/]+=* \d+\n", raw):
        raise StageError(f"{file}: is in tiktoken's form, which does not say how to split text; {HOW}")
    if found := what_is_wrong(file):
        raise StageError(f"{file}: {found}")
    pieces, trainer, normalizer = _read_sentencepiece(raw)
    if not pieces:
        raise StageError(f"{file}: is not a model of SentencePiece; download it again")
    wrong = {
        "is not BPE": trainer.get(3, 1) != BPE,
        "has no byte fallback": not trainer.get(35, 0),
        "normalises text": bool(normalizer.get(2)),
        "removes spaces": bool(normalizer.get(4, 1)),
    }
    if any(wrong.values()):
        raise StageError(f"{file}: {' and '.join(what for what, so in wrong.items() if so)}, not supported here; {HOW}")
    ids = {piece: id for id, (piece, _, _) in enumerate(pieces)} | {token: id for token, (id, _) in added.items()}
    tokens = _in_order(file, ids)
    kinds = [CONTROL if kind == UNKNOWN else kind for _, _, kind in pieces] + [CONTROL] * (len(tokens) - len(pieces))
    for id, kind in added.values():
        kinds[id] = kind
    ends = {name: trainer.get(number, default) for name, number, default in (("bos", 41, 1), ("eos", 42, 2))}
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": [score for _, score, _ in pieces] + [0.0] * (len(tokens) - len(pieces)),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.unknown_token_id": next(i for i, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN),
        "tokenizer.ggml.add_space_prefix": bool(normalizer.get(3, 1)),
        "tokenizer.ggml.bos_token_id": ends["bos"],
    }
    named = {f"{name}_token": tokens[id] for name, id in ends.items() if 0 <= id < len(tokens)}
    return tokenizer_content(fields, tokens, file), named


def _added(folder: Path, described: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Id and kind of tokens that tokenizer_config.json, or in older folders added_tokens.json, adds."""
    listed = described.get("added_tokens_decoder") or {}
    added = {e["content"]: (int(id), CONTROL if e.get("special") else USER_DEFINED) for id, e in listed.items()}
    if not added and (folder / ADDED).is_file():
        added = {token: (int(id), CONTROL) for token, id in read_json_object(folder / ADDED).items()}
    return added


def _in_order(file: Path, ids: Mapping[str, int]) -> list[str]:
    tokens = sorted(ids, key=lambda token: ids[token])
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise StageError(f"{file}: its tokens do not have the ids from 0 to {len(tokens) - 1:,}; {HOW}")
    return tokens


def _read_sentencepiece(raw: bytes) -> tuple[Pieces, dict[int, Any], dict[int, Any]]:
    """Pieces, and the settings of trainer and normaliser by their numbers (sentencepiece_model.proto)."""
    pieces: Pieces = []
    settings: dict[int, dict[int, Any]] = {2: {}, 3: {}}
    for number, value in _read_message(raw):
        if number == 1:
            fields = dict(_read_message(value))
            pieces.append((fields[1].decode(), struct.unpack("<f", fields.get(2, bytes(4)))[0], fields.get(3, 1)))
        elif number in settings:
            settings[number] = dict(_read_message(value))
    return pieces, settings[2], settings[3]


def _read_message(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Fields of a protocol buffer: numbers as int, all else as bytes (protobuf.dev/programming-guides/encoding)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    while at < len(raw):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            yield number, varint()
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"a field of the unknown type {wire}")
        size = varint() if wire == 2 else 8 if wire == 1 else 4
        if at + size > len(raw):
            raise ValueError("cut short")
        yield number, raw[at : at + size]
        at += size
