"""Tools that a conversation offers with a description and parameters each, as Qwen3's chat template writes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from crawl2chat.tokenizer import Message, Tokenizer
from crawl2chat.tokenizer.tokenizer import TOOL_CALL


def offer_functions(tokenizer: Tokenizer, system: str, tools: Sequence[Mapping[str, Any]]) -> list[int]:
    """Ids of the system turn in which Qwen3's own chat template offers tools, each `{"type", "function"}`.

    The tags that the model is to write are control tokens here, too; what the caller brings stays text.
    Raises KeyError for a tokenizer without these tags.
    """
    opening, closing = (tokenizer.controls[tag] for tag in TOOL_CALL)
    before = (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        + "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    )
    example = '\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    return [
        tokenizer.im_start,
        *tokenizer.encode("system\n" + (system + "\n\n" if system else "") + before),
        opening, closing, *tokenizer.encode(" XML tags:\n"),
        opening, *tokenizer.encode(example), closing,
        tokenizer.im_end, *tokenizer.encode("\n"),
    ]  # fmt: skip


def encode_conversation(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """`Tokenizer.encode_chat` of a conversation to learn from, with the tools that its first message may offer."""
    if not messages or not messages[0].get("tools"):
        return tokenizer.encode_chat(messages)
    offered = offer_functions(tokenizer, messages[0]["content"], messages[0]["tools"])
    ids, mask = tokenizer.encode_chat(messages[1:])
    return offered + ids, [0] * len(offered) + mask


def taught_offer(conversations: Path) -> Literal["names", "functions"] | None:
    """How tools are offered in the conversations that a model was fine-tuned on; None where no tool is called."""
    taught: Literal["names"] | None = None
    if conversations.is_file():
        with conversations.open("rb") as lines:
            for line in lines:
                if b'"tool_calls"' in line:  # not in a text, where its quotes would be escaped
                    taught = "names"
                    if json.loads(line).get("tools"):
                        return "functions"
    return taught
