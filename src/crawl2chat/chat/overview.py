"""What is in files of conversations, in the terminal: turns, tokens, and what of each is learned."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crawl2chat.chat.conversations import Conversation, read_conversations
from crawl2chat.refine.text.extract import NOT_TEXT
from crawl2chat.tokenizer import Tokenizer

LEARNED = "bold green"
BEGIN, END = "⟦", "⟧"  # around what is learned, where there is no colour


def print_overview(console: Console, files: Sequence[Path], tokenizer: Tokenizer | None = None) -> None:
    """A column per file: conversations, turns and, with a tokenizer, tokens.

    Remarks of the reader, such as on fields that are not used, come first. Raises StageError for unusable lines.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    columns = []
    for file in files:
        conversations = read_conversations(file, lambda text: console.print(Text(text), soft_wrap=True))
        table.add_column(file.name, justify="right")
        columns.append(dict(_counts(conversations)) | dict(_token_counts(conversations, tokenizer)))
    for name in columns[0]:
        if any(column[name] != "0" for column in columns):
            table.add_row(name, *(column[name] for column in columns))
    console.print(table)


def _counts(conversations: Sequence[Conversation]) -> Iterator[tuple[str, str]]:
    roles = Counter(message["role"] for messages in conversations for message in messages)
    turns = [sum(message["role"] == "assistant" for message in messages) for messages in conversations]
    answers = [m for messages in conversations for m in messages if m["role"] == "assistant"]
    yield "conversations", f"{len(conversations):,}"
    yield "different", f"{len({repr(messages) for messages in conversations}):,}"
    yield "with several answers", f"{sum(turn > 1 for turn in turns):,}"
    yield "most answers in one", f"{max(turns):,}"
    for role in ("system", "user", "assistant", "tool"):
        yield f"{role} messages", f"{roles[role]:,}"
    yield "calls of tools", f"{sum(len(m.get('tool_calls', [])) for m in answers):,}"
    yield "answers not learned", f"{sum(m.get('weight') == 0 for m in answers):,}"
    yield "characters", f"{sum(len(m['content']) for messages in conversations for m in messages):,}"
    yield "characters per answer", f"{sum(len(m['content']) for m in answers) / len(answers):,.0f}"


def _token_counts(conversations: Sequence[Conversation], tokenizer: Tokenizer | None) -> Iterator[tuple[str, str]]:
    if tokenizer is None:
        return
    masks = [tokenizer.encode_chat(messages)[1] for messages in conversations]
    lengths = sorted(map(len, masks))
    yield "tokens", f"{sum(lengths):,}"
    yield "learned tokens", f"{sum(map(sum, masks)):,}"
    yield "median of tokens", f"{lengths[len(lengths) // 2]:,}"
    yield "most tokens", f"{lengths[-1]:,}"


def print_masks(console: Console, conversations: Sequence[Conversation], tokenizer: Tokenizer) -> None:
    """Each conversation as the model reads it, control tokens included, with what is learned in colour.

    Where the output is piped, ⟦ and ⟧ are around it.
    """
    for number, messages in enumerate(conversations, 1):
        ids, mask = tokenizer.encode_chat(messages)
        console.print(Text(f"conversation {number}: {len(ids):,} tokens, {sum(mask):,} learned", "bold"))
        shown = Text()
        for learned, run in groupby(zip(ids, mask, strict=True), key=itemgetter(1)):
            text = NOT_TEXT.sub("\ufffd", tokenizer.decode(id for id, _ in run))
            if learned and not console.is_terminal:
                text = f"{BEGIN}{text}{END}"
            shown.append(text, LEARNED if learned else "dim")
        console.print(shown, soft_wrap=True)
        console.print()
