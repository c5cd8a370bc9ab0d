"""The bodies that clients may send: OpenAI's fields, and what is accepted in each.

Types are strict, since a number in quotes is a mistake that should be reported. Null is a field that was not sent.
A field that is not supported is refused, unless its value changes nothing (`neutral`).
"""

import codecs
import difflib
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    FiniteFloat,
    PlainValidator,
    ValidationError,
    model_validator,
)

from crawl2chat.chat.messages import MEDIA, MessageError, read_function, read_message, shown
from crawl2chat.generate.settings import CONTROLS
from crawl2chat.serve.api.neutral import CHAT_NEUTRAL, NEUTRAL, OTHER_NAMES, STREAM_NEUTRAL, is_neutral
from crawl2chat.serve.errors import ApiError, bad_request
from crawl2chat.tokenizer import Message

MAX_PROMPTS = 4096
MAX_STOPS, MAX_STOP_LENGTH = 16, 256
MAX_CHOICES = 128
MAX_MESSAGES = 1024
MAX_TOOLS = 128
MAX_LOGPROBS = 20
MAX_FIELDS = 100
MAX_BIASES = 1024
MAX_PROBLEMS = 5  # reported in one answer
# Fields of others' messages without which a message means something else; all other fields are passed over
MEANINGFUL_FIELDS = (*MEDIA, "prefix", "partial")
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _as_list(value: Any) -> Any:
    return ([value] if value else []) if isinstance(value, str) else value


def _none_if_false(value: Any) -> Any:
    return None if value is False else value


def _prompts(value: Any) -> Any:
    """A text, a list of texts, a list of ids, or a list of lists of ids: as a list of texts or of lists of ids."""
    several = [value] if isinstance(value, str) or (isinstance(value, list) and value and _are_ids(value)) else value
    if not isinstance(several, list) or not several or not all(isinstance(p, str) or _are_ids(p) for p in several):
        raise ValueError("expected a text, a list of texts, a list of token ids, or a list of lists of token ids")
    return several


def _at_most(n: int) -> BeforeValidator:
    """A max_length that is seen to before anything within is looked at and found wrong, which may take long."""

    def check(value: Any) -> Any:
        if isinstance(value, (list, dict)) and len(value) > n:
            raise ValueError(f"expected at most {n}, not {len(value)}")
        return value

    return BeforeValidator(check)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(id) is int for id in value)


def _message(value: Any) -> Message:
    """A message as conversations in files are read, but content may be missing, as clients send it."""
    if isinstance(value, dict):
        if isinstance(value.get("tool_calls"), list) and len(value["tool_calls"]) > MAX_TOOLS:
            raise MessageError("tool_calls", f"expected at most {MAX_TOOLS}, not {len(value['tool_calls'])}")
        for name in MEANINGFUL_FIELDS:
            if value.get(name):
                raise MessageError(name, "not supported by this server", value[name])
        if value.get("content") is None:
            value = {**value, "content": ""}
    return read_message(value)


def _tool_definition(value: Any) -> dict[str, Any]:
    tool = read_function(value)
    if not TOOL_NAME.fullmatch(tool["function"]["name"]):
        raise MessageError("name", "expected at most 64 letters, digits, _, . or -", tool["function"]["name"])
    return tool


def _field(name: str, least: float | None = None, most: float | None = None) -> Any:
    """A field of Sampling, with its help and with its bounds where OpenAI's API has no others."""
    control = CONTROLS[name]
    if least is None:
        least = 0 if control.or_zero else control.least
    if most is None and control.most < math.inf:
        most = control.most
    return Field(ge=least, le=most, description=control.help)


Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
Bias = Annotated[FiniteFloat, Field(ge=-100, le=100)]
Ids = list[int]
MaxTokens = Annotated[int, Field(ge=-1)]  # −1: to the answer's own end or that of the context, as in LM Studio
ChatMessage = Annotated[Any, PlainValidator(_message)]  # a Message
ToolDefinition = Annotated[Any, PlainValidator(_tool_definition)]  # {"type": "function", "function": {"name", …}}


class Strict(BaseModel):
    """A body in which every field is known and of its type; null is a field that was not sent."""

    model_config = ConfigDict(strict=True, extra="forbid")

    NEUTRAL: ClassVar[Mapping[str, tuple[object, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral_fields(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if len(data) > MAX_FIELDS:  # each unknown one would be a problem of its own
            raise bad_request(f"an object has {len(data)} fields; at most {MAX_FIELDS} are read")
        given = {name: value for name, value in data.items() if value is not None}
        for name in [name for name in given if name in cls.NEUTRAL and name not in cls.model_fields]:
            value = given.pop(name)
            if not is_neutral(value, cls.NEUTRAL[name]):
                ours = OTHER_NAMES.get(name)
                hint = f"; did you mean {ours}?" if ours in cls.model_fields else ""
                raise bad_request(
                    f"{name} = {shown(value)}: not supported by this server{hint}", name, "unsupported_parameter"
                )
        return given


class StreamOptions(Strict):
    NEUTRAL = STREAM_NEUTRAL

    include_usage: bool = False
    include_obfuscation: bool | None = None  # of lengths, against listeners on the wire; we never do it


class GenerationFields(Strict):
    """The fields that completions and chats have in common."""

    NEUTRAL = NEUTRAL

    model: str | None = None
    max_tokens: MaxTokens | None = None
    temperature: Annotated[FiniteFloat, _field("temperature", most=100)] | None = None
    top_p: Annotated[FiniteFloat, _field("top_p")] | None = None
    top_k: Annotated[int, _field("top_k", least=-1)] | None = None  # −1 keeps all, as 0 does
    min_p: Annotated[FiniteFloat, _field("min_p")] | None = None
    presence_penalty: Annotated[FiniteFloat, _field("presence_penalty", -2, 2)] | None = None
    frequency_penalty: Annotated[FiniteFloat, _field("frequency_penalty", -2, 2)] | None = None
    repetition_penalty: Annotated[FiniteFloat, _field("repetition_penalty")] | None = None
    logit_bias: Annotated[dict[str, Bias], _at_most(MAX_BIASES)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None  # as many as `n`, or not done
    seed: int | None = None
    stop: Annotated[list[Stop], BeforeValidator(_as_list), _at_most(MAX_STOPS)] = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None  # ours and vLLM's: the ids of prompt and answer
    controlled_logprobs: bool | None = None  # ours: in addition to the model's own, those after all controls

    @model_validator(mode="after")
    def _check_best_of(self) -> Self:
        if self.best_of is not None and self.best_of != self.choices:
            raise bad_request(
                f"best_of = {self.best_of}: not supported beyond n = {self.choices}", "best_of", "unsupported_parameter"
            )
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def choices(self) -> int:
        return 1 if self.n is None else self.n


class CompletionRequest(GenerationFields):
    """POST /v1/completions"""

    prompt: Annotated[list[str | Ids], BeforeValidator(_prompts), _at_most(MAX_PROMPTS)]
    echo: bool | None = None
    logprobs: Annotated[Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None, BeforeValidator(_none_if_false)] = None
    add_special_tokens: bool = True  # vLLM's: whether a text stands at a document's beginning


class ChatRequest(GenerationFields):
    """POST /v1/chat/completions"""

    NEUTRAL = CHAT_NEUTRAL

    messages: Annotated[list[ChatMessage], Field(min_length=1), _at_most(MAX_MESSAGES)]
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tools: Annotated[list[ToolDefinition], _at_most(MAX_TOOLS)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    run_tools: Annotated[list[str], _at_most(MAX_TOOLS)] | None = None  # ours: tools that the server is to run itself
    continue_final_message: bool | None = None  # vLLM's: the last message is the beginning of the answer
    add_generation_prompt: bool | None = None  # vLLM's clients send false with it

    @model_validator(mode="after")
    def _check_combinations(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise bad_request("top_logprobs is for logprobs = true alone", "top_logprobs")
        if self.tool_choice not in (None, "none", "auto"):
            raise bad_request(
                f"tool_choice = {shown(self.tool_choice)}: the model can't be made to call a tool; "
                "expected 'auto' or 'none'", "tool_choice", "unsupported_parameter",
            )  # fmt: skip
        if self.add_generation_prompt is not None and self.add_generation_prompt == self.continues:
            raise bad_request(
                f"add_generation_prompt = {shown(self.add_generation_prompt)}: expected true for a new answer, false "
                "with continue_final_message = true", "add_generation_prompt", "unsupported_parameter",
            )  # fmt: skip
        last = self.messages[-1]
        if self.continues and (last["role"] != "assistant" or last.get("tool_calls") or not last["content"]):
            raise bad_request(
                "continue_final_message: expected the last message to be an assistant's text without calls of tools",
                "continue_final_message",
            )
        return self

    @property
    def continues(self) -> bool:
        """Whether the last message is an answer that was cut off and is to go on."""
        return bool(self.continue_final_message)

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model may call, as `read_function` gives them."""
        return [] if self.tool_choice == "none" else self.tools or []


class TokenizeRequest(Strict):
    """POST /tokenize, of a text or of a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1), _at_most(MAX_MESSAGES)] | None = None
    add_generation_prompt: bool = True
    add_special_tokens: bool = True
    parse_special: bool = True  # whether a control token's name becomes that token, as in vLLM
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _check_one_given(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise bad_request("give prompt (a text) or messages (a conversation), one of the two", "prompt")
        return self


class DetokenizeRequest(Strict):
    """POST /detokenize"""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], FailFast()]


AnyRequest = TypeVar("AnyRequest", bound=Strict)


def parse(kind: type[AnyRequest], body: bytes) -> AnyRequest:
    """The request that the body holds. Raises ApiError that names each field, what it held and what was expected."""
    try:
        return kind.model_validate_json(body.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        raise _validation_error(kind, error) from None


def _validation_error(kind: type[BaseModel], error: ValidationError) -> ApiError:
    problems = error.errors(include_url=False)
    reported: dict[str, str] = {}
    unreported: set[str] = set()
    for problem in problems:
        place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, MessageError):
            place = f"{place}.{cause.field}" if cause.field else place
        if problem["type"] == "json_invalid":
            return bad_request(
                f"the body is not JSON: {problem['msg'].removeprefix('Invalid JSON: ')}", code="invalid_json"
            )
        if place in reported:
            continue
        if len(reported) == MAX_PROBLEMS:
            unreported.add(place)
        elif isinstance(cause, MessageError):
            reported[place] = place + cause.told
        elif problem["type"] == "missing":
            reported[place] = f"{place}: is missing"
        elif problem["type"] == "extra_forbidden":
            known = OTHER_NAMES.get(place) in kind.model_fields
            near = [OTHER_NAMES[place]] if known else difflib.get_close_matches(place, kind.model_fields, 1)
            reported[place] = f"{place[:100]}: no such field" + (f"; did you mean {near[0]}?" if near else "")
        else:
            expected = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
            reported[place] = f"{place or 'the body'} = {shown(problem['input'])}: {expected}"
    more = f" (and {len(unreported)} more)" if unreported else ""
    return bad_request("; ".join(reported.values()) + more, next(iter(reported))[:100] or None)
