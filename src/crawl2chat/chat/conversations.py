"""Conversations on disk and as rows for training."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crawl2chat.chat.formats import EXPECTED, PLAIN, is_row, read_row, unpack
from crawl2chat.stages.files import AnyPath, StageError, write_jsonl
from crawl2chat.stages.json_rows import BadRows, JsonRows, NotJson, RowError
from crawl2chat.tokenizer import Message, Tokenizer

Conversation = list[Message]
CONVERSATION = "conversation"


def read_conversations(file: AnyPath, say: Callable[[str], object] = lambda text: None) -> list[Conversation]:
    """Read JSON lines of `{"messages": [{"role": …, "content": …}, …]}`, or what others call a conversation.

    The forms are in `formats`, the kinds of files in `json_rows`. `say` is given one line each on: forms other than
    `messages`, fields that were not used, conversations of which nothing is to be learned and which are left out.
    Raises StageError that names what is wrong with which lines, rather than training on half a file in silence.
    """
    file = Path(file)
    conversations: list[Conversation] = []
    forms: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    remarks: Counter[str] = Counter()
    problems = BadRows(file)
    n_rows = n_unlearned = 0
    rows = JsonRows(file, is_row)
    for number, value in rows:
        n_rows += 1
        try:
            if isinstance(value, NotJson):
                problem = f"is not JSON ({value.problem}): it begins with {value.begin!r}; {EXPECTED}"
                raise RowError(problem, "not JSON")
            row = read_row(unpack(value) if rows.unit == "row" else value)
        except RowError as error:
            problems.add(number, error)
            continue
        forms[row.form] += 1
        unused.update(row.unused)
        remarks.update(row.remarks)
        if any(message["role"] == "assistant" and message.get("weight") != 0 for message in row.messages):
            conversations.append(row.messages)
        else:
            n_unlearned += 1
    problems.raise_any(n_rows, rows.unit)
    if set(forms) - {PLAIN}:
        say(f"{file}: read as {', '.join(f'{form}: {_counted(n, CONVERSATION)}' for form, n in forms.most_common())}")
    if unused:
        say(
            f"{file}: not used: {', '.join(f'{name} ({_counted(n, rows.unit)})' for name, n in sorted(unused.items()))}"
        )
    for remark, n in remarks.most_common():
        say(f"{file}: {_counted(n, rows.unit)} with {remark}")
    if n_unlearned:
        say(f"{file}: left out, as every answer has weight 0: {_counted(n_unlearned, CONVERSATION)}")
    if not conversations:
        why = "every answer in it has weight 0" if n_unlearned else EXPECTED
        raise StageError(f"{file}: holds no conversation to learn from; {why}")
    return conversations


def _counted(n: int, unit: str) -> str:
    return f"{n:,} {unit}{'s' * (n != 1)}"


def write_conversations(conversations: Iterable[Conversation], file: AnyPath) -> None:
    """Write one line of JSON each; tools that a first system message offers go next to the messages, as in OpenAI's."""
    write_jsonl(Path(file), map(_row_of, conversations))


def _row_of(messages: Conversation) -> dict[str, object]:
    if not messages or "tools" not in messages[0]:
        return {"messages": messages}
    first = Message(role="system", content=messages[0]["content"])
    return {"messages": [*([first] if first["content"] else []), *messages[1:]], "tools": messages[0]["tools"]}


def pack(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, seq_len: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Rows of whole conversations: ids and loss weights, both (rows, seq_len + 1), and how many did not fit.

    Conversations are shuffled and each goes to the fullest row that still has room (best fit). Weights are 1 on
    what the assistant writes, unless its message has weight 0, and 0 elsewhere, padding included. Attention is not
    cut between conversations.
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
    ids = np.full((len(rows), room), tokenizer.pad_id, dtype=np.int64)
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
