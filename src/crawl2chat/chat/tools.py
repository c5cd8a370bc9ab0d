"""Tools in a conversation: the model calls, the call is carried out, its result goes into the context, it goes on.

ChatML with Hermes-style calls: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`. What counts as a call is
decided by the ids of the control tokens, so text of a page or a person that only looks like one never runs anything;
an answer of the model that is nothing but `{"name": …, "arguments": …}` counts, too, so that it is not printed. Other
models call in the words of their template (`_parse_words`).
"""

import inspect
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from crawl2chat.chat.citing import renumbered
from crawl2chat.chat.quoting import Quoting
from crawl2chat.chat.toolbox import Tool, tool_of
from crawl2chat.generate import Engine, Sampling
from crawl2chat.tokenizer import Message, Tokenizer, ToolCall
from crawl2chat.tokenizer.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, TOOL_CALL

AnyTool = Tool | Callable[..., str]  # a function gets what a Tool's does
OfferForm = Literal["names", "functions"]  # how a model is told which tools it has
MAX_ROUNDS = 3  # of calls in one answer
BROKEN_CALL = "not_json"
THINKING = ("<think>", "</think>")
PRONOUN = re.compile(r"\b(?:he|she|it|they|him|her|them|his|hers|its|their)\b", re.IGNORECASE)
MISTRAL_CALLS = "[TOOL_CALLS]"
CALL_IN_WORDS = re.compile(r'\s*\{\s*"name":\s*"[^"]*",\s*"arguments":')  # a call whose tags were forgotten


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


def opening(tools: Mapping[str, AnyTool], form: OfferForm | None, system: str | None) -> list[Message]:
    """Return a conversation's first messages: the tools that are offered, and the system message if there is one.

    form: "names" for models that were taught by us, "functions" for the template's own; None offers none.
    """
    said = [Message(role="system", content=system)] if system else []
    if not tools or form is None:
        return said
    if form == "names":
        return [offer(tuple(tools)), *said]
    return [
        Message(role="system", content=system or "", tools=[tool_of(name, f).definition for name, f in tools.items()])
    ]


def offer_form(stage: str | None, taught: OfferForm | None, tokenizer: Tokenizer) -> OfferForm | None:
    """Return how a model reads which tools it has: as it was taught, else as its template writes them, else None.

    stage: that made it. taught: of the conversations that it was fine-tuned on (`taught_offer`).
    """
    if taught:
        return taught
    if tokenizer.chat_template == CHAT_TEMPLATE and stage != "import":  # long descriptions would fill its context
        return "names"
    return "functions" if tokenizer.template.reads_tools else None


def call(name: str, **arguments: str) -> Message:
    """The assistant's message that calls one tool."""
    return Message(
        role="assistant",
        content="",
        tool_calls=[ToolCall(type="function", function={"name": name, "arguments": dict(arguments)})],
    )


def answer_with_tools(
    engine: Engine, conversations: Sequence[Sequence[Message]], tools: Mapping[str, AnyTool], sampling: Sampling
) -> list[list[Message]]:
    """What the model adds to each conversation, the tools' messages among it; all run as one batch per round.

    After MAX_ROUNDS of calls, or when the context is full, what there is ends with a call or a tool's result.
    """
    added: list[list[Message]] = [[] for _ in conversations]
    sampling = sayable(engine.tokenizer, sampling, calls=True)
    going = list(range(len(conversations)))
    for n_rounds in range(1 + MAX_ROUNDS):
        prompts = {
            i: engine.tokenizer.encode_chat([*conversations[i], *added[i]], add_generation_prompt=True)[0]
            for i in going
        }
        going = [i for i in going if len(prompts[i]) < engine.context]
        if not going:
            break
        rules = [quoting(engine.tokenizer, [*conversations[i], *added[i]]) for i in going]
        completions = engine.generate([prompts[i] for i in going], sampling, seeds=going, rules=rules)
        for i, completion in zip(going, completions, strict=True):
            added[i].append(parse_reply(engine.tokenizer, completion.ids))
        going = [i for i in going if added[i][-1].get("tool_calls")]
        if n_rounds == MAX_ROUNDS:
            break
        for i in going:
            added[i] += carry_out_all(added[i], tools, question_of(conversations[i]))
    return added


def question_of(messages: Sequence[Message]) -> str:
    """Return what was asked last; if it names nobody and says only she or it, after the last question that does."""
    questions = [message["content"] for message in messages if message["role"] == "user"]
    if not questions:
        return ""
    last = questions[-1]
    if _names(last) or not PRONOUN.search(last):
        return last
    named = next((question for question in reversed(questions) if _names(question)), None)
    return f"{named} {last}" if named else last


def _names(question: str) -> list[str]:
    """Capitalised words that do not begin a sentence, but for I."""
    return [word for word in re.findall(r"(?<=[^.!?:\s] )\w{2,}", question) if word[0].isupper()]


def sayable(tokenizer: Tokenizer, sampling: Sampling, *, calls: bool) -> Sampling:
    """The same sampling without the control tokens that no answer may hold, whatever the model makes of them.

    What opens and closes a call is left only where tools are on offer (calls), and what marks thinking always.
    """
    allowed = {*THINKING, *((*TOOL_CALL, MISTRAL_CALLS) if calls else ())}
    never = {
        id: -math.inf
        for name, id in tokenizer.controls.items()
        if name in (*CONTROL_TOKENS, MISTRAL_CALLS) and name not in allowed and id not in tokenizer.stop_ids
    }
    return replace(sampling, logit_bias={**sampling.logit_bias, **never})


def carry_out_all(added: Sequence[Message], tools: Mapping[str, AnyTool], asked: str) -> list[Message]:
    """Return the results of the calls in the last message; `added` is what the answer consists of so far."""
    results: list[Message] = []
    for called in added[-1].get("tool_calls", ()):
        text = renumbered(carry_out(called, tools, asked), [*added, *results])
        results.append(Message(role="tool", content=text))
    return results


@dataclass
class Episode:
    """Ids that a model read and wrote, one after the other, to be learned from.

    `is_model` is 1 where the model wrote the id; `logprobs` are those it was drawn with, 0 elsewhere.
    """

    ids: list[int] = field(default_factory=list)
    is_model: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def extend(self, ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Add what the model wrote with these log-probabilities, or without any what it read."""
        self.ids += ids
        self.is_model += [int(logprobs is not None)] * len(ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(ids)


@dataclass
class Rollout:
    """One answer with tools: the messages that were added, and what was read and written for them.

    One episode as long as each prompt begins with all that came before it, which is so unless the template or the
    tokenizer writes the model's own words otherwise when they are read again; from there on another one.
    """

    added: list[Message] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    ended: bool = False  # by the model, with an answer


def rollout_with_tools(
    engine: Engine,
    conversations: Sequence[Sequence[Message]],
    tools: Mapping[str, AnyTool],
    sampling: Sampling,
    seeds: Sequence[int],
    max_rounds: int = MAX_ROUNDS,
) -> list[Rollout]:
    """Return an answer to each conversation with all that a policy gradient needs: tools' results are only read.

    seeds: one per conversation, which all its rounds share. max_rounds: of calls.
    """
    rollouts = [Rollout() for _ in conversations]
    going = list(range(len(conversations)))
    for n_rounds in range(1 + max_rounds):
        prompts = {
            i: engine.tokenizer.encode_chat([*conversations[i], *rollouts[i].added], add_generation_prompt=True)[0]
            for i in going
        }
        going = [i for i in going if len(prompts[i]) < engine.context]
        if not going:
            break
        completions = engine.generate([prompts[i] for i in going], sampling, [seeds[i] for i in going])
        calling = []
        for i, completion in zip(going, completions, strict=True):
            rollout, prompt = rollouts[i], prompts[i]
            before = rollout.episodes[-1].ids if rollout.episodes else []
            if not rollout.episodes or prompt[: len(before)] != before:
                rollout.episodes.append(Episode())
                before = []
            rollout.episodes[-1].extend(prompt[len(before) :])
            rollout.episodes[-1].extend(completion.ids, completion.logprobs)
            rollout.added.append(parse_reply(engine.tokenizer, completion.ids))
            calls, stopped = rollout.added[-1].get("tool_calls"), completion.finish_reason == "stop"
            rollout.ended = stopped and not calls
            if calls and stopped and n_rounds < max_rounds:
                rollout.added += carry_out_all(rollout.added, tools, question_of(conversations[i]))
                calling.append(i)
        going = calling
    return rollouts


def final_text(added: Sequence[Message]) -> str:
    """The answer that came after all calls; empty if it never came."""
    return added[-1]["content"] if added and added[-1]["role"] == "assistant" else ""


def written_tokens(tokenizer: Tokenizer, added: Sequence[Message]) -> int:
    """Tokens that the model wrote itself: its calls and its answer, not the tools' results."""
    return sum(sum(tokenizer.encode_chat([message])[1]) for message in added)


def quoting(tokenizer: Tokenizer, messages: Sequence[Message]) -> Quoting | None:
    """The rule for an answer in a conversation in which a page was found: what it says of the page is quoted.

    Right after the result that is all that follows a colon; later, what follows "Page 12 says:".
    """
    results = [i for i, message in enumerate(messages) if message["role"] == "tool"]
    if not results or not (found := messages[results[-1]]["content"]).startswith("Page "):
        return None
    return Quoting(tokenizer, found, only_pages=results[-1] != len(messages) - 1)


def parse_reply(tokenizer: Tokenizer, ids: Sequence[int]) -> Message:
    """An assistant's message from the ids that it wrote; what is between call tokens becomes calls.

    So does an answer that is nothing but a call whose tokens were forgotten; tags in words stay text.
    A model without these tokens calls in the words that its chat template teaches.
    """
    if not set(TOOL_CALL) <= tokenizer.controls.keys():
        return _parse_words(tokenizer, ids)
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
    said = tokenizer.decode(text).strip()
    if not calls and CALL_IN_WORDS.match(said):
        said, calls = "", [_parse_call(said)]
    message = Message(role="assistant", content=said)
    if calls:
        message["tool_calls"] = calls
    return message


def _parse_words(tokenizer: Tokenizer, ids: Sequence[int]) -> Message:
    """Calls in Mistral's form ([TOOL_CALLS] and a list), as tags that are text (SmolLM2), or as bare JSON (Llama 3).

    Only what the model itself wrote is looked at, and only for the form that its template names.
    """
    form, written = tokenizer.template.source, [id for id in ids if id not in tokenizer.stop_ids]
    mark = tokenizer.controls.get(MISTRAL_CALLS, -1)
    text, calls = tokenizer.decode(written).strip(), []
    if mark in written:
        at = written.index(mark)
        text, listed = tokenizer.decode(written[:at]).strip(), tokenizer.decode(written[at + 1 :])
        calls = _parse_calls(listed)
    elif TOOL_CALL[0] in form and TOOL_CALL[0] in text:
        text, *parts = text.split(TOOL_CALL[0])
        calls = [called for part in parts for called in _parse_calls(part.partition(TOOL_CALL[1])[0])]
    elif '"parameters"' in form and text.startswith("{"):
        calls = [_parse_call(text)]
        if calls[0]["function"]["name"] == BROKEN_CALL:  # then it is an answer that begins with a brace
            calls = []
        text = "" if calls else text
    message = Message(role="assistant", content=text.strip())
    if calls:
        message["tool_calls"] = calls
    return message


def begins_call(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> bool:
    """Return whether an answer, cut or not, holds the beginning of a call, or in words that of its template's."""
    if set(TOOL_CALL) <= tokenizer.controls.keys():
        tagged = not {tokenizer.controls[name] for name in TOOL_CALL}.isdisjoint(ids)
        return tagged or CALL_IN_WORDS.match(text) is not None
    tagged = TOOL_CALL[0] in tokenizer.template.source and TOOL_CALL[0] in text
    return tagged or tokenizer.controls.get(MISTRAL_CALLS, -1) in ids


def spoken(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> str:
    """Return the part of an unfinished answer that is surely not a call of a tool; it only ever grows.

    text: of the ids, as far as it is known.
    """
    if set(TOOL_CALL) <= tokenizer.controls.keys():
        tags = {tokenizer.controls[name] for name in TOOL_CALL}
        first = next((i for i, id in enumerate(ids) if id in tags), None)
        before = text if first is None else tokenizer.decode(ids[:first])
        return "" if before.lstrip().startswith("{") else before
    mark = tokenizer.controls.get(MISTRAL_CALLS, -1)
    if mark in ids:
        return tokenizer.decode(ids[: ids.index(mark)])
    form = tokenizer.template.source
    if TOOL_CALL[0] in form:
        before, tag, _ = text.partition(TOOL_CALL[0])
        held = 0 if tag else next((n for n in range(len(TOOL_CALL[0]), 0, -1) if text.endswith(TOOL_CALL[0][:n])), 0)
        return before[: len(before) - held]
    return "" if '"parameters"' in form and text.lstrip()[:1] in ("{", "") else text


def carry_out(called: ToolCall, tools: Mapping[str, AnyTool], asked: str) -> str:
    """The tool's text, or in words what is wrong with the call: the model is to read it."""
    name, arguments = called["function"]["name"], called["function"]["arguments"]
    if name == BROKEN_CALL:
        return "That call is not valid JSON."
    if name not in tools:
        return f"There is no tool {name}."
    try:
        inspect.signature(tool_of(name, tools[name]).function).bind(asked, **arguments)
    except TypeError:
        return f"The tool {name} does not take {', '.join(arguments) or 'nothing'}."
    try:
        return tools[name](asked, **arguments)
    except ValueError as error:
        return str(error)


def _parse_calls(text: str) -> list[ToolCall]:
    """One call, or a list of them as Mistral and SmolLM2 write it."""
    try:
        listed = json.loads(text)
        if isinstance(listed, list):
            return [_parse_call(json.dumps(called)) for called in listed]
    except (ValueError, RecursionError):
        pass
    return [_parse_call(text)]


def _parse_call(text: str) -> ToolCall:
    try:
        function = json.loads(text)
        name, arguments = function["name"], function.get("arguments", function.get("parameters"))
        if isinstance(name, str) and isinstance(arguments, dict):
            return ToolCall(type="function", function={"name": name, "arguments": arguments})
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # also numbers and nesting beyond Python's limits
        pass
    return ToolCall(type="function", function={"name": BROKEN_CALL, "arguments": {"text": text}})


def taught_offer(conversations: Path) -> OfferForm | None:
    """How tools are offered in the conversations that a model was fine-tuned on; None where no tool is called."""
    taught: OfferForm | None = None
    if conversations.is_file():
        with conversations.open("rb") as lines:
            for line in lines:
                if b'"tool_calls"' in line:  # not in a text, where its quotes would be escaped
                    taught = "names"
                    if json.loads(line).get("tools"):
                        return "functions"
    return taught
