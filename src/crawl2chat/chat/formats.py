"""What others call a conversation, row by row: OpenAI, ShareGPT, Alpaca, prompt and completion.

A row becomes a `list[Message]`. A field that this does not carry over is metadata, or is noted by name, or is refused.
"""

import contextlib
import json
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from crawl2chat.chat.messages import MEDIA, OPENAI_ROLES, MessageError, read_function, read_message, shown
from crawl2chat.stages.json_rows import RowError
from crawl2chat.tokenizer import Message
from crawl2chat.tokenizer.tokenizer import IM_START, TOOL_CALL, TOOL_RESPONSE

PLAIN = "messages"
# The names of a list of turns
TURNS = (PLAIN, "conversations", "conversation", "dialogue", "dialog", "turns")
# ShareGPT's, Vicuna's, LangChain's, OpenAssistant's, LLaMA-Factory's and ms-swift's names
CALLING_ROLES = ("function_call", "tool_call")  # their content is the JSON of a call
ALL_ROLES = OPENAI_ROLES | {
    "human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "observation": "tool", "tool_response": "tool", "ipython": "tool",
    **dict.fromkeys(CALLING_ROLES, "assistant"),
}  # fmt: skip
# The names of a question and of its answer
PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("instruction", "completion"), ("prompt", "completion"),
    ("prompt", "response"), ("question", "answer"), ("question", "response"), ("query", "answer"),
    ("query", "response"), ("input", "output"), ("inputs", "targets"),
)  # fmt: skip
MORE_INPUT = ("input", "context")  # what an instruction is about, on a line of its own after it
SYSTEM = ("system", "system_prompt")
OFFERS = ("tools", "functions")
# Whether a message is learned: OpenAI's and Mistral's weight, Axolotl's train, ms-swift's loss, and their kin
LEARNED = ("weight", "train", "training", "trainable", "loss", "loss_mask")
MASKED = ("masked", "mask")
SPANS = ("train_detail", "training_detail", "train_details")
REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thought", "thoughts")
SPELLED_OUT = (TOOL_CALL[0], TOOL_RESPONSE[0], "<think>", IM_START)
# Fields about a message or a conversation that don't change what is learned from it
METADATA = frozenset(
    "id uuid idx index hash prompt_id conversation_id message_id msg_id parent_id chat_id session_id turn turn_id "
    "turns_count n_turns num_turns created created_at create_time updated_at timestamp time date source sources "
    "dataset dataset_name data_source subset origin url link license author lang language model model_name "
    "generator engine provider category categories topic topics task task_type type domain subject tags keywords "
    "title description difficulty level score scores rating ratings rank quality reward votes likes views "
    "token_count num_tokens tokens_count length metadata meta info extra annotations citations finish_reason "
    "stop_reason usage logprobs toxicity toxic moderation openai_moderation redacted pii emotion status version "
    "markdown parallel_tool_calls tool_choice sampling".split()
)
KNOWN_IN_MESSAGE = frozenset(
    ("role", "from", "content", "value", "text", "tool_calls", "function_call", "tool_call_id", "refusal", "audio",
     *LEARNED, *MASKED, *SPANS, *REASONING)
)  # fmt: skip
WRONG_FORMS = {  # a key that shows what a row is, and what to say of it
    "rejected": "preferences (chosen, rejected) are not conversations to learn from; keep only the chosen answers",
    "non_preferred_output": "preferences are not conversations to learn from; keep only the preferred answers",
    "contents": "this is Gemini's form",
    "mapping": "this is ChatGPT's export of an account",
    "text": "texts without turns are documents, for refine and pretrain",
}
EXPECTED = (
    'expected {"messages": [{"role": …, "content": …}]}, {"conversations": [{"from": …, "value": …}]} (ShareGPT), '
    '{"instruction": …, "input"?: …, "output": …} (Alpaca) or {"prompt": …, "completion": …}'
)


@dataclass
class Row:
    """One conversation, the name of its form, and what was found in it that its reader may want to know."""

    messages: list[Message]
    form: str
    unused: set[str] = field(default_factory=set)  # fields that may mean something
    remarks: set[str] = field(default_factory=set)


def is_row(value: object) -> bool:
    """Whether a value is in one of the forms, rather than around rows or nothing of the kind."""
    if isinstance(value, list):
        return _are_turns(value)
    return isinstance(value, dict) and (_turns_of(value) is not None or _pair_of(value) is not None)


def unpack(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table, with its turns as a list where a cell has them as the text of one."""
    for name in TURNS:
        if isinstance(row.get(name), str) and row[name].lstrip().startswith("["):
            with contextlib.suppress(ValueError, RecursionError):
                row = {**row, name: json.loads(row[name])}
    return row


def read_row(value: object) -> Row:
    """Read one conversation.

    Messages keep their order, whatever it is: a system message may come anywhere, several messages of one role stay
    several turns, an assistant may begin. An empty answer is kept, and noted. Raises RowError.
    """
    given = {PLAIN: value} if isinstance(value, list) and _are_turns(value) else value
    if not isinstance(given, dict):
        raise RowError(f"found {_kind(value)}; {EXPECTED}", "kind")
    keys = ", ".join(key[:40] for key in list(given)[:8]) + (", …" if len(given) > 8 else "")
    given = {name: value for name, value in given.items() if value is not None}  # as tables write what a row lacks
    _refuse(given)
    turns, pair = _turns_of(given), _pair_of(given)
    if turns and (given[turns] or not pair):
        row = _read_turns(given, turns)
    elif pair:
        row = _read_pair(given, *pair)
    else:
        hint = next((f"{hint}; " for key, hint in WRONG_FORMS.items() if key in given), "")
        hint = next((f"{key} holds {_kind(given[key])}, not a list; " for key in TURNS if key in given), hint)
        raise RowError(f"found an object with the keys {keys or '(none)'}; {hint}{EXPECTED}", "form")
    row.messages = _with_tools(given, _with_system(given, row))
    _mark_whole_row(given, row)
    if all(message["role"] != "assistant" for message in row.messages):
        raise RowError("no assistant message to learn from")
    return row


def _read_turns(given: dict[str, Any], name: str) -> Row:
    turns = given[name]
    if not turns:
        raise RowError(f"{name} must be a list that is not empty")
    row = Row([], PLAIN)
    row.messages += [_read_turn(turn, f"message {number}", row) for number, turn in enumerate(turns, 1)]
    if any("from" in turn for turn in turns):
        row.form = "ShareGPT's form (from, value)"
    elif name != PLAIN:
        row.form = f"OpenAI's form under the name {name}"
    row.unused |= _unknown(given, {name, *SYSTEM, *OFFERS})
    return row


def _read_pair(given: dict[str, Any], asked: str, answer: str) -> Row:
    """A question and its answer. Only the answer is learned, also where the prompt holds answers, as in TRL."""
    if given.get("label") is False or given.get("kto_tag") is False:
        raise RowError("label = false: marks an unwanted answer (KTO); remove such rows")
    row = Row([], f"{'Alpaca' if asked == 'instruction' else 'pairs'} ({asked}, {answer})")
    known = {asked, answer, *SYSTEM, *OFFERS}
    question = given[asked]
    if asked == "instruction":
        known |= {*MORE_INPUT, "history"}
        row.messages += _history(given.get("history"), row)
        texts = [question, *(given[name] for name in MORE_INPUT if given.get(name))]
        if not all(isinstance(text, str) for text in texts):
            raise RowError(f"{asked} and what belongs to it ({', '.join(MORE_INPUT)}) must be texts")
        question = "\n".join(text for text in texts if text)
    for message in _side(question, asked, "user", row):
        if message["role"] == "assistant":
            message["weight"] = 0
        row.messages.append(message)
    row.messages += _side(given[answer], answer, "assistant", row)
    row.unused |= _unknown(given, known)
    return row


def _side(value: Any, name: str, role: str, row: Row) -> list[Message]:
    """The prompt or the completion: a text, or a list of messages."""
    if isinstance(value, list) and _are_turns(value):
        return [_read_turn(turn, f"{name}, message {number}", row) for number, turn in enumerate(value, 1)]
    if not isinstance(value, str):
        raise RowError(f"{name} = {shown(value)}: expected a text or a list of messages", f"{name} no text")
    return [_read_turn({"role": role, "content": value}, name, row)]


def _history(pairs: Any, row: Row) -> Iterator[Message]:
    """LLaMA-Factory's earlier rounds, which are learned as well."""
    for pair in pairs if isinstance(pairs, list) else [pairs] if pairs else []:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise RowError("history must be a list of [question, answer]")
        for role, text in zip(("user", "assistant"), pair, strict=True):
            yield _read_turn({"role": role, "content": text}, "history", row)


def _read_turn(turn: object, place: str, row: Row) -> Message:
    """One message in any of the forms. Raises RowError with its place."""
    try:
        raw = _as_openai(turn)
        message = read_message(raw, ALL_ROLES)
        _refuse_in_message(raw)
        learned = _is_learned(raw)
    except MessageError as error:
        at = f"{place}: {error.field}" if error.field else place
        raise RowError(at + error.told, f"{error.field}: {error.problem}") from None
    if learned is False and message["role"] == "assistant":
        message["weight"] = 0
    elif learned and message["role"] != "assistant":
        row.remarks.add("a mark to learn what the assistant did not write; only the assistant's messages are learned")
    if message["role"] == "assistant" and not message["content"] and not message.get("tool_calls"):
        row.remarks.add("an empty answer, which teaches the model to say nothing")
    if any(tag in message["content"] for tag in SPELLED_OUT):
        row.remarks.add(
            f"spelled-out tags such as {', '.join(SPELLED_OUT)}, which stay text and do not become control tokens"
        )
    _check_encodable(message["content"], place)
    if message.get("tool_calls"):
        _check_encodable(json.dumps(message["tool_calls"], ensure_ascii=False), place)
    if not raw.keys() <= KNOWN_IN_MESSAGE:
        known = KNOWN_IN_MESSAGE | {"name"} if message["role"] == "tool" else KNOWN_IN_MESSAGE
        row.unused |= {f"messages' {name}" for name in _unknown(raw, known)}
    return message


def _as_openai(turn: object) -> dict[str, Any]:
    """The turn with `role` and `content`, whatever they are called."""
    if not isinstance(turn, dict):
        raise MessageError("", "expected an object with a role and a content", turn)
    raw = {name: value for name, value in turn.items() if name not in ("from", "value")}
    role = raw.setdefault("role", turn.get("from"))
    if "content" not in raw:
        raw["content"] = turn.get("value", turn.get("text"))
    if role in CALLING_ROLES and not raw.get("tool_calls"):
        raw["tool_calls"], raw["content"] = _calls_in(raw["content"]), None
    return raw


def _calls_in(content: object) -> list[Any]:
    """The call or calls that a turn of ShareGPT's kind holds as JSON."""
    try:
        calls = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        calls = None
    if not isinstance(calls, (dict, list)) or not calls:
        raise MessageError("value", 'expected the JSON of {"name": …, "arguments": {…}}', content)
    return calls if isinstance(calls, list) else [calls]


def _refuse_in_message(raw: dict[str, Any]) -> None:
    """Fields without which a message means something else."""
    for name in REASONING:
        if raw.get(name):
            raise MessageError(
                name, "reasoning apart from the answer can't be learned; move it into content, or remove the field"
            )
    for name in MEDIA:
        if raw.get(name):
            raise MessageError(name, "can't be read; this model reads only text")
    for name in SPANS:
        if raw.get(name):
            raise MessageError(name, "parts of a message can't be left out of learning; weight 0 leaves out all of it")


def _mark_whole_row(given: dict[str, Any], row: Row) -> None:
    """A row that is marked as not to be learned, in the words in which messages are, has no answer to learn.

    Other values, such as the weight of a sample or a loss that was measured, stay among the unused fields.
    """
    marks = {name: given[name] for name in (*LEARNED, *MASKED) if _is_mark(given.get(name))}
    if marks.get("loss") == 0 and not isinstance(marks["loss"], bool):
        del marks["loss"]
    row.unused -= marks.keys()
    if any(bool(value) == (name in MASKED) for name, value in marks.items()):
        for message in row.messages:
            if message["role"] == "assistant":
                message["weight"] = 0


def _is_mark(value: object) -> bool:
    return isinstance(value, (bool, int, float)) and value in (0, 1)


def _is_learned(raw: dict[str, Any]) -> bool | None:
    """What a message says of being learned; None if it says nothing. Raises MessageError if it contradicts itself."""
    said: dict[str, bool] = {}
    for name in (*LEARNED, *MASKED):
        value = raw.get(name)
        if value is None:
            continue
        if not _is_mark(value):
            raise MessageError(name, "expected 0 (read, but not learned) or 1", value)
        said[name] = bool(value) != (name in MASKED)
    if len(set(said.values())) > 1:
        raise MessageError(", ".join(said), "contradict each other")
    return next(iter(said.values()), None)


def _with_system(given: dict[str, Any], row: Row) -> list[Message]:
    """The messages with the system message that the row holds next to its turns, unless it is among them."""
    system = next((given[name] for name in SYSTEM if given.get(name)), None)
    if system is None:
        return row.messages
    if not isinstance(system, str):
        raise RowError(f"system: expected a text, found {shown(system)}", "system no text")
    spoken = [message["content"] for message in row.messages if message["role"] == "system"]
    if system in spoken:
        return row.messages
    if spoken:
        raise RowError("system: is another text than that of the system message among the turns")
    return [_read_turn({"role": "system", "content": system}, "system", row), *row.messages]


def _with_tools(given: dict[str, Any], messages: list[Message]) -> list[Message]:
    """With the offered tools in the first system message, which is made if there is none."""
    offered = next((given[name] for name in OFFERS if given.get(name)), None)
    if offered is None:
        return messages
    try:
        tools = json.loads(offered) if isinstance(offered, str) else offered  # ms-swift and LLaMA-Factory write text
    except (ValueError, RecursionError):
        tools = None
    if not isinstance(tools, list):
        raise RowError(f"tools = {shown(offered)}: expected a list, or the JSON of one", "tools no list")
    if not tools:
        return messages
    try:
        read = [read_function(tool) for tool in tools]
    except MessageError as error:
        raise RowError(f"tools{error.field and ': ' + error.field}{error.told}", "tools") from None
    _check_encodable(json.dumps(read, ensure_ascii=False), "tools")
    first, rest = Message(role="system", content=""), messages
    if messages and messages[0]["role"] == "system":
        first, rest = messages[0], messages[1:]
    return [{**first, "tools": read}, *rest]


def _refuse(given: dict[str, Any]) -> None:
    """Fields of a row without which it means something else."""
    for name in MEDIA:
        if given.get(name):
            raise RowError(f"{name}: can't be read; this model reads only text")
    if given.get("rejected"):
        raise RowError(WRONG_FORMS["rejected"])


def _unknown(given: dict[str, Any], known: Set[str]) -> set[str]:
    """Fields that hold something and that are neither known nor mere metadata."""
    return {
        name
        for name, value in given.items()
        if name not in known and name not in METADATA and value not in (None, "", [], {})
    }


def _turns_of(given: dict[str, Any]) -> str | None:
    lists = [name for name in TURNS if isinstance(given.get(name), list)]
    return next((name for name in lists if given[name]), lists[0] if lists else None)


def _pair_of(given: dict[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if pair[0] in given and pair[1] in given), None)


def _are_turns(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)


def _check_encodable(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(f"{place}: holds half of a surrogate pair, which is not text", "surrogate") from None


def _kind(value: object) -> str:
    names = {
        list: "a list", dict: "an object", str: "a text", bool: "true or false", int: "a number", float: "a number"
    }  # fmt: skip
    return names.get(type(value), "null")
