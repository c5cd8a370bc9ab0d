"""From a request to token ids and sampling: texts, conversations, and the tools that they offer."""

import secrets
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import offer, quoting, sayable
from crawl2chat.generate import Sampling
from crawl2chat.generate.request import Rule
from crawl2chat.generate.settings import NUMBERS
from crawl2chat.serve.api.requests import ChatRequest, CompletionRequest, GenerationFields, TokenizeRequest
from crawl2chat.serve.errors import ApiError, bad_request
from crawl2chat.serve.model_pool import ServedModel
from crawl2chat.tokenizer import Message


def completion_prompts(model: ServedModel, request: CompletionRequest) -> list[list[int]]:
    """The ids of each prompt. A text begins a document, as in training, unless the request says no."""
    start = [model.tokenizer.bos_id] if request.add_special_tokens else []
    for text in request.prompt:
        if isinstance(text, str):
            _check_bytes(model, text, "prompt")
    prompts = [[*start, *model.tokenizer.encode(p)] if isinstance(p, str) else p for p in request.prompt]
    for prompt in prompts:
        check_prompt(model, prompt, "prompt")
    return prompts


def chat_prompt(
    model: ServedModel, request: ChatRequest, *, runs_here: bool = False
) -> tuple[list[int], Sampling, Rule | None]:
    """The ids of the conversation, how to sample, and the rule that an answer from a found page follows.

    runs_here: the server runs the tools, so calls need not come in a form that can be sent to clients.
    """
    messages: list[Message] = request.messages
    if not runs_here:
        _check_tools(model, request)
    # a chat's answer goes on to its own end, or to that of the context
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    top = (request.top_logprobs or 0) if request.logprobs else 0
    sampling = read_sampling(model, request, limit, model.engine.context, top)
    talk = Talk(model.engine, sampling, base=model.base)
    if model.base:
        sampling = replace(sampling, stop=(*sampling.stop, "\n"))  # to the end of the helper's line
    rule = None
    _check_bytes(model, "".join(message["content"] for message in messages), "messages")
    begun = messages[-1]["content"] if request.continues else ""
    if request.continues:
        messages = messages[:-1]
    prompt = chat_ids(model, talk, messages, request.offered, begun)
    check_prompt(model, prompt, "messages")
    if request.offered and model.reads_names:
        rule = _continue_rule(model.tokenizer.encode(begun), quoting(model.tokenizer, messages))
    if not model.base:
        sampling = sayable(model.tokenizer, sampling, calls=bool(request.offered))
    return prompt, sampling, rule


def chat_ids(
    model: ServedModel, talk: Talk, messages: list[Message], offered: Sequence[dict[str, Any]], begun: str = ""
) -> list[int]:
    """Return the ids that a model reads before it answers: the tools that are offered, what was said, and `begun`.

    begun: the beginning of the answer, if it is to go on with one.
    """
    if not offered:
        return talk.prompt(messages, begun)
    if model.reads_names:
        return talk.prompt([offer([tool["function"]["name"] for tool in offered]), *messages], begun)
    begins = bool(messages) and messages[0]["role"] == "system"
    system, rest = (messages[0]["content"], messages[1:]) if begins else ("", messages)
    return talk.prompt([Message(role="system", content=system, tools=list(offered)), *rest], begun)


def fit_chat(model: ServedModel, request: ChatRequest) -> dict[str, int]:
    """How many of the oldest messages to leave out (`left_out`) so that there is room for an answer, and the `tokens`
    of the rest; the same as `fit_context` does in the terminal.

    A system message is never left out, and is not counted among the messages.
    Room is what the request asks for, or half the context if that is less; the last turn alone, with what its tools
    brought, may take more. Raises ApiError when it leaves none, or when the model can't use the tools.
    """
    _check_tools(model, request)
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    context = model.engine.context
    half = max(1, context // 2)
    most = context - (half if limit in (None, -1) else max(1, min(limit or 0, half)))
    talk = Talk(model.engine, Sampling(), base=model.base)
    messages: list[Message] = request.messages
    n_system = int(messages[0]["role"] == "system")
    begun = messages[-1]["content"] if request.continues else ""
    said = messages[n_system : len(messages) - request.continues]
    starts = [i for i, message in enumerate(said) if message["role"] == "user"] or [0]
    _check_bytes(model, "".join(message["content"] for message in said[starts[-1] :]) + begun, "messages")

    def tokens(start: int) -> int:
        return len(chat_ids(model, talk, [*messages[:n_system], *said[start:]], request.offered, begun))

    fitting = min(bisect_left(starts, True, key=lambda start: tokens(start) <= most), len(starts) - 1)
    start = starts[fitting] if fitting else 0
    n_tokens = tokens(start)
    if n_tokens >= context:
        raise _too_long(model, str(n_tokens), "messages")
    return {"left_out": start, "tokens": n_tokens}


def _continue_rule(begun: Sequence[int], rule: Rule | None) -> Rule | None:
    """The rule for the rest of an answer of which these ids were written before."""
    if rule is None or not begun:
        return rule
    return lambda written: rule([*begun, *written])


def tokenize_ids(model: ServedModel, request: TokenizeRequest) -> list[int]:
    """Ids as the other routes would read them, with one difference on request: names of control tokens are parsed."""
    tokenizer = model.tokenizer
    if request.messages is not None:
        if model.base:
            return Talk(model.engine, Sampling(), base=True).prompt(request.messages)
        return tokenizer.encode_chat(request.messages, add_generation_prompt=request.add_generation_prompt)[0]
    text = request.prompt or ""
    start = [tokenizer.bos_id] if request.add_special_tokens else []
    if not request.parse_special:
        return [*start, *tokenizer.encode(text)]
    return [*start, *tokenizer.encode_with_controls(text)]


def read_sampling(
    model: ServedModel, request: GenerationFields, max_tokens: int | None, otherwise: int, top_logprobs: int
) -> Sampling:
    """The request's controls; OpenAI's defaults are Sampling's own. Raises ApiError for what Sampling refuses.

    max_tokens: as it was asked for, −1 as many as fit; `otherwise` where it was not.
    """
    context = model.engine.context
    limit = otherwise if max_tokens is None else context if max_tokens == -1 else min(max_tokens, context)

    given = {name: getattr(request, name) for name in NUMBERS if getattr(request, name) is not None}
    given |= {"top_k": max(0, given.get("top_k", 0)), "max_tokens": limit}  # −1 keeps all, as 0 does
    given["seed"] = secrets.randbits(62) if request.seed is None else request.seed % (1 << 64)
    bias = _bias(model, request.logit_bias or {})
    try:
        return Sampling(**given, stop=tuple(request.stop), logit_bias=bias, top_logprobs=top_logprobs)
    except ValueError as error:
        raise bad_request(str(error)) from error


def _check_tools(model: ServedModel, request: ChatRequest) -> None:
    """Raise ApiError if tools are offered or were called, and the model has not been taught to call any."""
    asks = bool(request.offered) or any(m["role"] == "tool" or m.get("tool_calls") for m in request.messages)
    if asks and not model.calls_tools:
        raise bad_request(
            f"tools: the model {model.name} has not been taught to call any", "tools", "unsupported_parameter"
        )


def _check_bytes(model: ServedModel, text: str, param: str) -> None:
    """Raise ApiError for a text that can't fit however it is cut into tokens, before any work on it."""
    at_least = len(text.encode()) // model.longest_token
    if at_least >= model.engine.context:
        raise _too_long(model, f"at least {at_least}", param)


def check_prompt(model: ServedModel, prompt: Sequence[int], param: str, room: int = 1) -> None:
    """Raise ApiError for a prompt that is empty, has unknown ids, or leaves fewer than `room` tokens of the context."""
    if not prompt:
        raise bad_request(f"{param}: holds no token; expected at least one", param)
    if len(prompt) > model.engine.context - room:
        raise _too_long(model, str(len(prompt)), param, room)
    check_vocabulary(model, prompt, param)


def _too_long(model: ServedModel, n_tokens: str, param: str, room: int = 1) -> ApiError:
    context = model.engine.context
    limit = f"of {context} takes {context - room} and leaves one for the answer" if room else f"takes {context}"
    return bad_request(
        f"{param}: has {n_tokens} tokens; this model's context {limit}", param, "context_length_exceeded"
    )


def check_vocabulary(model: ServedModel, ids: Sequence[int], param: str) -> None:
    size = model.engine.model.config.vocab_size
    wrong = next((id for id in ids if not 0 <= id < size), None)
    if wrong is not None:
        raise bad_request(f"{param}: has the token id {wrong}; expected ids from 0 to {size - 1}", param)


def _bias(model: ServedModel, biases: dict[str, float]) -> dict[int, float]:
    size = model.engine.model.config.vocab_size
    wrong = next((id for id in biases if not (id.isascii() and id.isdigit() and int(id[:20]) < size)), None)
    if wrong is not None:
        raise bad_request(f"logit_bias.{wrong[:20]}: expected token ids from 0 to {size - 1}", "logit_bias")
    return {int(id): bias for id, bias in biases.items()}
