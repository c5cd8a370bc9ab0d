"""What clients may send: OpenAI's fields, and what is accepted in each.

Types are strict, since a number in quotes is a mistake that should be heard of. A field that OpenAI has and that
would change the answer is refused if we don't do it; one that would not is accepted and left alone.
"""

import difflib
import json
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from crawl2chat.serve.errors import ApiError, refused

MOST_PROMPTS = 4096
MOST_STOPS, LONGEST_STOP = 16, 256
MOST_CHOICES = 128
MOST_MESSAGES = 1024
MOST_TOOLS = 128
MOST_LOGPROBS = 20
MOST_FIELDS = 100
MOST_BIASES = 1024
TOLD_PROBLEMS = 5

Body = TypeVar("Body", bound="Request")


def _listed(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


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


def _content(value: Any) -> Any:
    """A message's content: a text, or OpenAI's list of parts, of which only those of text can be read."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        if all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in value):
            return "".join(part["text"] for part in value)
        kinds = sorted({str(part.get("type")) for part in value} - {"text"})
        if kinds:
            raise ValueError(f"parts of type {', '.join(kinds)[:100]} can't be read; this model reads text alone")
    raise ValueError("expected a text, or a list of parts {'type': 'text', 'text': …}")


Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Penalty = Annotated[FiniteFloat, Field(ge=-2, le=2)]
Bias = Annotated[FiniteFloat, Field(ge=-100, le=100)]
Ids = list[int]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > MOST_FIELDS:  # each unknown one would be a problem of its own
            raise refused(f"an object has {len(data)} fields; at most {MOST_FIELDS} are read")
        return data


class _Lenient(BaseModel):
    """For what clients send back as it came to them, with fields of other servers among it."""

    model_config = ConfigDict(strict=True, extra="ignore")


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None  # of lengths, against listeners on the wire; we never do it


class Request(_Strict):
    """The fields that both ways of asking have."""

    # OpenAI's fields that are not done: the values that change nothing and are therefore let through
    NOT_DONE: ClassVar[dict[str, tuple[object, ...]]] = {}
    HARMLESS: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0, le=100)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None  # 0 and −1 keep all
    min_p: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[FiniteFloat, Field(gt=0, le=100)] | None = None
    logit_bias: Annotated[dict[str, Bias], _at_most(MOST_BIASES)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: int | None = None
    stop: Annotated[list[Stop], BeforeValidator(_listed), _at_most(MOST_STOPS)] = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None  # ours and vLLM's: the ids of prompt and answer
    controlled_logprobs: bool | None = None  # ours: beside the model's own, those after all controls

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_changes_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, harmless in cls.NOT_DONE.items():
            value = data.get(name)
            if value is not None and not any(type(value) is type(other) and value == other for other in harmless):
                raise refused(f"{name} = {_shown(value)}: not supported by this server", name, "unsupported_parameter")
        left_out = cls.HARMLESS | cls.NOT_DONE.keys()
        return {name: value for name, value in data.items() if name not in left_out}

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def choices(self) -> int:
        return 1 if self.n is None else self.n


class CompletionRequest(Request):
    """POST /v1/completions"""

    NOT_DONE = {"suffix": ("",)}

    prompt: Annotated[list[str | Ids], BeforeValidator(_prompts), _at_most(MOST_PROMPTS)]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    add_special_tokens: bool = True  # vLLM's: whether a text stands at a document's beginning

    @model_validator(mode="after")
    def _no_best_of(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != self.choices:
            raise refused(
                f"best_of = {self.best_of}: not supported beyond n = {self.choices}", "best_of", "unsupported_parameter"
            )
        return self


class CalledFunction(_Lenient):
    name: str
    arguments: str


class Call(_Lenient):
    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(_Lenient):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_content)] = ""
    tool_calls: Annotated[list[Call], _at_most(MOST_TOOLS)] | None = None
    tool_call_id: str | None = None


class OfferedFunction(_Lenient):
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OfferedTool(_Lenient):
    type: Literal["function"]
    function: OfferedFunction


class ChatRequest(Request):
    """POST /v1/chat/completions"""

    NOT_DONE = {
        "audio": (), "functions": ([],), "function_call": ("none",), "modalities": (["text"],), "moderation": (),
        "reasoning_effort": ("none",), "response_format": ({"type": "text"},), "verbosity": ("medium",),
        "web_search_options": (),
    }  # fmt: skip
    HARMLESS = Request.HARMLESS | {
        "metadata", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "safety_identifier", "service_tier", "store",
    }  # fmt: skip

    messages: Annotated[list[ChatMessage], Field(min_length=1), _at_most(MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    tools: Annotated[list[OfferedTool], _at_most(MOST_TOOLS)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise refused("top_logprobs is for logprobs = true alone", "top_logprobs")
        if self.tool_choice not in (None, "none", "auto"):
            raise refused(
                f"tool_choice = {_shown(self.tool_choice)}: the model can't be made to call a tool; "
                "expected 'auto' or 'none'", "tool_choice", "unsupported_parameter",
            )  # fmt: skip
        return self

    @property
    def offered(self) -> list[OfferedFunction]:
        """The tools that the model may call."""
        return [] if self.tool_choice == "none" else [tool.function for tool in self.tools or []]


class TokenizeRequest(_Strict):
    """POST /tokenize, of a text or of a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1), _at_most(MOST_MESSAGES)] | None = None
    add_generation_prompt: bool = True
    add_special_tokens: bool = True
    parse_special: bool = True  # whether a control token's name becomes that token, as where this route comes from
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise refused("give prompt (a text) or messages (a conversation), one of the two", "prompt")
        return self


class DetokenizeRequest(_Strict):
    """POST /detokenize"""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], FailFast()]


AnyRequest = TypeVar("AnyRequest", Request, CompletionRequest, ChatRequest, TokenizeRequest, DetokenizeRequest)


def parse(kind: type[AnyRequest], body: bytes) -> AnyRequest:
    """The request that the body holds. Raises ApiError that names each field, what it held and what was expected."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _explained(kind, error) from None


def _explained(kind: type[BaseModel], error: ValidationError) -> ApiError:
    problems = error.errors(include_url=False, include_context=False)
    told: dict[str, str] = {}
    untold: set[str] = set()
    for problem in problems:
        place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
        if problem["type"] == "json_invalid":
            return refused(
                f"the body is not JSON: {problem['msg'].removeprefix('Invalid JSON: ')}", code="invalid_json"
            )
        if place in told:
            continue
        if len(told) == TOLD_PROBLEMS:
            untold.add(place)
        elif problem["type"] == "missing":
            told[place] = f"{place}: is missing"
        elif problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place, kind.model_fields, 1)
            told[place] = f"{place[:100]}: no such field" + (f"; did you mean {near[0]}?" if near else "")
        else:
            expected = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
            told[place] = f"{place or 'the body'} = {_shown(problem['input'])}: {expected}"
    more = f" (and {len(untold)} more)" if untold else ""
    return refused("; ".join(told.values()) + more, next(iter(told))[:100] or None)


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
