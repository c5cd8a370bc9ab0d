"""Tools in a conversation: the model calls, the call is carried out, its result goes into the context, it goes on.

ChatML with Hermes-style calls: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`. What counts as a call is
decided by the ids of the control tokens, so text that only looks like one never runs anything.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from crawl2chat.chat.quoting import Quoting
from crawl2chat.generate import Engine, Sampling
from crawl2chat.tokenizer import Message, Tokenizer, ToolCall
from crawl2chat.tokenizer.tokenizer import TOOL_CALL

# What the user asked and the call's arguments by name in, text out; a ValueError's message goes to the model.
Tool = Callable[..., str]
MAX_ROUNDS = 3  # of calls in one answer
BROKEN_CALL = "not_json"


def offer(tools: Sequence[str]) -> Message:
    """The system message that tells a model which tools it has; short, since small models have short contexts."""
    return Message(role="system", content=f"Tools: {', '.join(sorted(tools))}.")


def offer_by_name(messages: list[Message]) -> list[Message]:
    """The conversation with the tools of its first message offered as models that were made here read it."""
    if not messages or not messages[0].get("tools"):
        return messages
    system = Message(role="system", content=messages[0]["content"])
    names = [str(tool["function"]["name"]) for tool in messages[0]["tools"]]
    return [offer(names), *([system] if system["content"] else []), *messages[1:]]


def call(name: str, **arguments: str) -> Message:
    """The assistant's message that calls one tool."""
    return Message(
        role="assistant",
        content="",
        tool_calls=[ToolCall(type="function", function={"name": name, "arguments": dict(arguments)})],
    )


def answer_with_tools(
    engine: Engine, conversations: Sequence[Sequence[Message]], tools: Mapping[str, Tool], sampling: Sampling
) -> list[list[Message]]:
    """What the model adds to each conversation, the tools' messages among it; all run as one batch a round.

    After MAX_ROUNDS of calls, or when the context is full, what there is ends with a call or a tool's result.
    """
    added: list[list[Message]] = [[] for _ in conversations]
    going = list(range(len(conversations)))
    for n_rounds in range(1 + MAX_ROUNDS):
        prompts = {
            i: engine.tokenizer.encode_chat([*conversations[i], *added[i]], add_generation_prompt=True)[0]
            for i in going
        }
        going = [i for i in going if len(prompts[i]) < engine.context]
        if not going:
            break
        rules = [quoting(engine.tokenizer, added[i]) for i in going]
        completions = engine.generate([prompts[i] for i in going], sampling, seeds=going, rules=rules)
        for i, completion in zip(going, completions, strict=True):
            added[i].append(parse_reply(engine.tokenizer, completion.ids))
        going = [i for i in going if added[i][-1].get("tool_calls")]
        if n_rounds == MAX_ROUNDS:
            break
        for i in going:
            asked = next((m["content"] for m in reversed(conversations[i]) if m["role"] == "user"), "")
            added[i] += [
                Message(role="tool", content=carry_out(called, tools, asked))
                for called in added[i][-1].get("tool_calls", ())
            ]
    return added


def final_text(added: Sequence[Message]) -> str:
    """The answer that came after all calls; empty if it never came."""
    return added[-1]["content"] if added and added[-1]["role"] == "assistant" else ""


def written_tokens(tokenizer: Tokenizer, added: Sequence[Message]) -> int:
    """Tokens that the model wrote itself: its calls and its answer, not the tools' results."""
    return sum(sum(tokenizer.encode_chat([message])[1]) for message in added)


def quoting(tokenizer: Tokenizer, added: Sequence[Message]) -> Quoting | None:
    """The rule for an answer after a tool's result that is a page: what follows its colon is quoted."""
    results = [message["content"] for message in added if message["role"] == "tool"]
    return Quoting(tokenizer, results[-1]) if results and results[-1].startswith("Page ") else None


def parse_reply(tokenizer: Tokenizer, ids: Sequence[int]) -> Message:
    """An assistant's message from the ids that it wrote; what stands between call tokens becomes calls."""
    opening, closing = (tokenizer.controls.get(name, -1) for name in TOOL_CALL)
    text: list[int] = []
    calls: list[ToolCall] = []
    inside = False
    for is_tag, run in groupby(ids, lambda id: id in (opening, closing)):
        content = list(run)
        if is_tag:
            inside = content[-1] == opening
        elif inside:
            calls.append(_parse_call(tokenizer.decode(id for id in content if id not in tokenizer.stop_ids)))
        else:
            text += [id for id in content if id not in tokenizer.stop_ids]
    message = Message(role="assistant", content=tokenizer.decode(text).strip())
    if calls:
        message["tool_calls"] = calls
    return message


def carry_out(called: ToolCall, tools: Mapping[str, Tool], asked: str) -> str:
    """The tool's text, or in words what is wrong with the call: the model is to read it."""
    name, arguments = called["function"]["name"], called["function"]["arguments"]
    if name == BROKEN_CALL:
        return "That call is not valid JSON."
    if name not in tools:
        return f"There is no tool {name}."
    try:
        inspect.signature(tools[name]).bind(asked, **arguments)
    except TypeError:
        return f"The tool {name} does not take {', '.join(arguments) or 'nothing'}."
    try:
        return tools[name](asked, **arguments)
    except ValueError as error:
        return str(error)


def _parse_call(text: str) -> ToolCall:
    try:
        function = json.loads(text)
        name, arguments = function["name"], function["arguments"]
        if isinstance(name, str) and isinstance(arguments, dict):
            return ToolCall(type="function", function={"name": name, "arguments": arguments})
    except (ValueError, KeyError, TypeError, RecursionError):  # also numbers and nesting beyond Python's limits
        pass
    return ToolCall(type="function", function={"name": BROKEN_CALL, "arguments": {"text": text}})
