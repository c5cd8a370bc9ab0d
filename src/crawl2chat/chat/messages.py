"""One message as clients and files write it, read as ours. The server and the readers of files share this."""

import json
from collections.abc import Mapping
from typing import Any

from crawl2chat.tokenizer import Message, ToolCall

# OpenAI's roles, and what they are called here. `function` is what `tool` was called before 2023-11.
OPENAI_ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip
TEXT_PARTS = ("text", "input_text", "output_text")  # of Chat Completions and of Responses
MEDIA = ("image", "images", "video", "videos", "audios")  # what others put next to a content or to turns
CALL_FORM = '{"function": {"name": "…", "arguments": {…}}}'
_NOTHING = object()


class MessageError(ValueError):
    """What is wrong with a field: its name, what it holds, and what was expected or what to do.

    `field` is empty for the message itself; `told` is what to say after the field's name.
    """

    def __init__(self, field: str, problem: str, value: object = _NOTHING) -> None:
        self.field, self.problem = field, problem
        self.told = f": {problem}" if value is _NOTHING else f" = {shown(value)}: {problem}"
        super().__init__(field + self.told)


def read_message(raw: object, roles: Mapping[str, str] = OPENAI_ROLES) -> Message:
    """Return OpenAI's message as our conversations hold it.

    Text parts are joined, arguments of calls become objects, `developer` is `system`, a `refusal` is what the
    assistant said, the older `function_call` is a call like any other. Content may be missing or null next to calls.
    Fields that this does not know are left to the caller. Raises MessageError.
    """
    if not isinstance(raw, dict):
        raise MessageError("", "expected an object with a role and a content", raw)
    role = _read_role(raw.get("role"), roles)
    calls = _read_calls(raw, role)
    if raw.get("audio"):
        raise MessageError("audio", "can't be read; this model reads only text")
    content, refusal = read_content(raw.get("content")), raw.get("refusal")
    if refusal:
        if content or not isinstance(refusal, str) or role != "assistant":
            raise MessageError("refusal", "expected an assistant's text in place of its content", refusal)
        content = refusal
    if content is None and not calls:
        raise MessageError("content", "is missing; only an assistant that calls tools may leave it out")
    message = Message(role=role, content=content or "")
    if calls:
        message["tool_calls"] = calls
    return message


def read_content(value: object) -> str | None:
    """A text, or OpenAI's list of parts, of which only text can be read; None stays None. Raises MessageError."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        texts = [_part_text(part) for part in value]
        if None not in texts:
            return "".join(text for text in texts if text)
        kinds = {str(part.get("type")) for part in value if isinstance(part, dict) and _part_text(part) is None}
        unreadable = ", ".join(sorted(kinds - {*TEXT_PARTS, "None"}))
        if unreadable:
            raise MessageError("content", f"parts of type {unreadable[:100]} can't be read; this model reads only text")
    raise MessageError("content", "expected a text, or a list of parts {'type': 'text', 'text': …}", value)


def read_function(raw: object) -> dict[str, Any]:
    """Return an offered tool as `{"type": "function", "function": {"name", "description"?, "parameters"?}}`.

    A bare function, as in the older `functions`, will do. Raises MessageError.
    """
    function = raw.get("function", raw) if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise MessageError("", 'expected a list of {"type": "function", "function": {"name": "…", …}}', raw)
    kept = {name: function[name] for name in ("name", "description", "parameters") if function.get(name) is not None}
    for name, kind, expected in (("description", str, "a text"), ("parameters", dict, "a JSON schema, an object")):
        if name in kept and not isinstance(kept[name], kind):
            raise MessageError(name, f"expected {expected}", kept[name])
    return {"type": "function", "function": kept}


def shown(value: object) -> str:
    """A value as JSON, shortened for a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _read_role(role: object, roles: Mapping[str, str]) -> str:
    ours = roles.get(role.lower()) if isinstance(role, str) else None
    if ours is None:
        names = [f"'{name}'" for name in OPENAI_ROLES if name != "function"]
        raise MessageError("role", f"expected {', '.join(names[:-1])} or {names[-1]}", role)
    return ours


def _part_text(part: object) -> str | None:
    """The text of a part; None for one that has none."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    kind = part.get("type", "text")
    text = part.get("refusal") if kind == "refusal" else part.get("text") if kind in TEXT_PARTS else None
    return text if isinstance(text, str) else None


def _read_calls(raw: dict[str, Any], role: str) -> list[ToolCall]:
    calls = raw.get("tool_calls") or ([raw["function_call"]] if raw.get("function_call") else [])
    if not isinstance(calls, list):
        raise MessageError("tool_calls", f"expected a list of {CALL_FORM}", calls)
    if calls and role != "assistant":
        raise MessageError("tool_calls", f"only an assistant calls tools, not a {role}")
    return [_read_call(call) for call in calls]


def _read_call(call: object) -> ToolCall:
    if not isinstance(call, dict):
        raise MessageError("tool_calls", f"expected a list of {CALL_FORM}", call)
    if call.get("type") not in (None, "function"):
        raise MessageError("tool_calls", "only calls of functions can be read", call)
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise MessageError("tool_calls", f"expected a list of {CALL_FORM}", call)
    return ToolCall(type="function", function={"name": name, "arguments": _read_arguments(name, function)})


def _read_arguments(name: str, function: dict[str, Any]) -> dict[str, Any]:
    """Calls have their arguments as JSON text in OpenAI's API, as an object in Ollama's and in most data sets."""
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    elif arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise MessageError("tool_calls", f"arguments of {name[:64]} are neither an object nor the JSON of one")
    return arguments
