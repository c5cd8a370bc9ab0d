"""Conversations on disk and as rows for training."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crawl2chat.run import StageError, replacing
from crawl2chat.tokens import Message, Tokenizer
from crawl2chat.tokens.tokenizer import ROLES

Conversation = list[Message]


def read_conversations(file: Path) -> list[Conversation]:
    """Read JSON lines of `{"messages": [{"role": …, "content": …}, …]}`.

    Raises StageError naming every bad line (the first ten), rather than training on half a file in silence.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{file}: can't be read as conversations: {error}") from error
    conversations: list[Conversation] = []
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            messages = json.loads(line)["messages"]
            problem = _problem(messages)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            problem = f'expected {{"messages": […]}}, found {type(error).__name__}: {error}'
        if problem:
            problems.append(f"  line {number}: {problem}")
        else:
            conversations.append(messages)
    if problems:
        more = [f"  and {len(problems) - 10} more"] if len(problems) > 10 else []
        raise StageError("\n".join([f"{file}: {len(problems)} bad lines", *problems[:10], *more]))
    return conversations


def write_conversations(conversations: Iterable[Conversation], file: Path) -> None:
    with replacing(file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for messages in conversations:
            handle.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def pack(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, seq_len: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Rows of whole conversations: ids and loss weights, both (rows, seq_len + 1), and how many did not fit.

    Conversations are shuffled and each goes to the fullest row that still has room (best fit). Weights are 1 on
    what the assistant writes and 0 elsewhere, padding included. Attention is not cut between conversations.
    """
    room = seq_len + 1
    encoded = [tokenizer.encode_chat(messages) for messages in conversations]
    fitting = [pair for pair in encoded if len(pair[0]) <= room]
    rows: list[list[int]] = []  # of conversations
    with_room: list[list[int]] = [[] for _ in range(room + 1)]  # rows by the room that they have left
    for i in np.random.default_rng(seed).permutation(len(fitting)).tolist():
        needed = len(fitting[i][0])
        left = next((left for left in range(needed, room + 1) if with_room[left]), room)
        if with_room[left]:
            row = with_room[left].pop()
        else:
            row = len(rows)
            rows.append([])
        rows[row].append(i)
        with_room[left - needed].append(row)
    ids = np.full((len(rows), room), tokenizer.end_of_text, dtype=np.int64)
    weights = np.zeros((len(rows), room), dtype=np.float32)
    for row, members in enumerate(rows):
        at = 0
        for tokens, mask in (fitting[i] for i in members):
            ids[row, at : at + len(tokens)], weights[row, at : at + len(tokens)] = tokens, mask
            at += len(tokens)
    return ids, weights, len(encoded) - len(fitting)


class Documents(Protocol):
    """Documents as ids, each beginning with the end-of-text token."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Sequence[int] | NDArray[np.unsignedinteger]: ...


def document_rows(
    documents: Documents, rows: int, seq_len: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of running text as in pretraining, from documents drawn without return: ids and weights (all 1).

    Fewer than `rows` where the documents don't fill them.
    """
    room = seq_len + 1
    parts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    n_ids = 0
    for i in np.random.default_rng(seed).permutation(len(documents)).tolist():
        if n_ids >= rows * room:
            break
        parts.append(np.asarray(documents[i], dtype=np.int64))
        n_ids += len(parts[-1])
    filled = min(rows, n_ids // room)
    ids_nt = np.concatenate(parts)[: filled * room].reshape(filled, room)
    return ids_nt, np.ones(ids_nt.shape, dtype=np.float32)


def _problem(messages: object) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages must be a list that is not empty"
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return "each message needs a role and a text as its content"
        if message["content"].encode("utf-8", "replace").decode() != message["content"]:
            return "a content holds half of a surrogate pair, which is no text"
        if not _well_formed_calls(message.get("tool_calls")):
            return 'tool_calls must be a list of {"function": {"name": "…", "arguments": {…}}}'
        if message.get("role") not in ROLES:
            return f"role {message.get('role')!r}: expected one of {', '.join(ROLES)}"
    if all(message["role"] != "assistant" for message in messages):
        return "no assistant message to learn from"
    return None


def _well_formed_calls(calls: object) -> bool:
    if calls is None:
        return True
    functions = [c.get("function") if isinstance(c, dict) else None for c in calls] if isinstance(calls, list) else [0]
    return all(
        isinstance(f, dict) and isinstance(f.get("name"), str) and isinstance(f.get("arguments"), dict)
        for f in functions
    )
