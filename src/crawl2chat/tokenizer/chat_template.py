"""Chat templates: Jinja programs that come with a model and write a conversation as one text.

Text never becomes a control token: in all that a conversation brings, names of control tokens are broken by a character
that nothing else holds, so the whole names in what a template renders are those that the template wrote. The character
is taken out again before the text is encoded.
What the assistant wrote is found for any template by rendering once more with marks around its contents.
"""

import contextlib
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import jinja2

from crawl2chat.tokenizer.template_sandbox import TemplateFault, compile_template, render, tojson

MAX_FORMS = 1_000  # orders of roles that are remembered
PRIVATE = range(0xF0000, 0xFFFFD)  # characters of no meaning, to break names and to mark contents with
# A private character in the place of a content, or of the name of a call that is replaced as a whole
MARK = re.compile(rf'(?:{{"name": ")?([{chr(PRIVATE[0])}-{chr(PRIVATE[-1])}])(?:", "arguments": {{}}}})?')
TOOL_RESULT_ID = "call{:05d}"  # nine characters, which Mistral's templates ask for


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, in pieces: of text, or the name of one control token."""

    pieces: list[tuple[str, bool]]  # and whether it is a control token
    authored: list[tuple[int, int]]  # from which character to which one the assistant wrote what is to be learned


class ChatTemplate:
    """A template with the names of the control tokens that it may write.

    variables: what templates know besides the messages, such as `bos_token`. ends: names of the tokens that end a turn
    or a text. compose: how the tokenizer normalises text before it is encoded.
    copies: whether the template is known to write contents as they are, asking no more of them than whether they are
    empty. What it writes around them then depends on the roles alone, and is rendered once for each order of roles.
    """

    def __init__(
        self,
        source: str,
        controls: Collection[str],
        variables: Mapping[str, str],
        ends: Collection[str],
        compose: Callable[[str], str] = str,
        *,
        copies: bool = False,
    ) -> None:
        self.source, self.variables, self.ends, self.compose = source, dict(variables), frozenset(ends), compose
        self.copies, self._forms = copies, dict[tuple[Any, ...], _Form]()
        longest_first = sorted(controls, key=len, reverse=True)
        self.control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def program(self) -> jinja2.Template:
        return compile_template(self.source)

    @property
    def reads_tools(self) -> bool:
        return "tools" in self.source

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return the text as transformers renders it. Raises TemplateFault."""
        return render(
            self.program, messages=messages, tools=tools, add_generation_prompt=add_generation_prompt, **self.variables
        )

    def write(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        learned: Sequence[bool] = (),
    ) -> Rendered:
        """Render a conversation in which nothing but the template writes control tokens.

        learned: of each message, whether what the assistant wrote in it is to be found. That is everything from what
        asks it to write (what `add_generation_prompt` adds) to the token that ends its turn.
        Raises TemplateFault, also for a template that changes contents so that they can't be found.
        """
        if not self.copies or tools or len(messages) > MAX_FORMS:
            return self._write(messages, add_generation_prompt, tools, learned)
        shape = [(m["role"], bool(m["content"]), len(m.get("tool_calls") or ())) for m in messages]
        key = (*shape, *learned, add_generation_prompt)
        form = self._forms.get(key)
        if form is None:
            marks = map(chr, PRIVATE)
            marked = [_one_mark_each(*of_message, marks) for of_message in shape]
            form = _Form(self._write(marked, add_generation_prompt, None, learned))
            if len(self._forms) < MAX_FORMS:
                self._forms[key] = form
        texts = []
        for message in messages:
            texts += [message["content"]] if message["content"] else []
            texts += [tojson(call["function"]) for call in message.get("tool_calls") or ()]
        return form.filled([self.compose(text) for text in texts])

    def _write(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        learned: Sequence[bool],
    ) -> Rendered:
        brought = _texts_of([*messages, *(tools or ())])
        breaker, *marks = _unused_characters(brought, 1 + 2 * len(messages))
        opened = [_call_ids(_broken(message, self.control, breaker)) for message in messages]
        offered = [_broken(tool, self.control, breaker) for tool in tools] if tools else None

        def rendered(messages: Sequence[Mapping[str, Any]]) -> str:
            return self.compose(self.render(messages, add_generation_prompt=add_generation_prompt, tools=offered))

        text = rendered(opened)
        authored = []
        if any(learned):
            try:
                authored = self._find(opened, learned, marks, rendered, text)
            except TemplateFault:
                if not add_generation_prompt:  # else it is to be read, not to be learned from
                    raise
        return _split(text, self.control, breaker, authored)

    @cached_property
    def asking(self) -> str:
        """What the template writes to have the assistant write; empty if that can't be found."""
        question = [{"role": "user", "content": "Hello?"}]
        try:
            before, whole = self.render(question), self.render(question, add_generation_prompt=True)
        except TemplateFault:
            return ""
        return whole.removeprefix(before) if whole.startswith(before) else ""

    def _find(
        self,
        messages: Sequence[Mapping[str, Any]],
        learned: Sequence[bool],
        marks: Sequence[str],
        rendered: Callable[..., str],
        text: str,
    ) -> list[tuple[int, int]]:
        """Where in the text each assistant's turn that is to be learned begins and ends."""
        for within in (False, True):  # marks around a content, and where the template strips it, around what is left
            marked = rendered([_marked(m, marks[2 * i], marks[2 * i + 1], within) for i, m in enumerate(messages)])
            places = _places(marked, marks)
            if places is not None and marked.translate(dict.fromkeys(map(ord, marks))) == text:
                break
        else:
            raise TemplateFault(
                "the model's chat template changes what messages say, so what the assistant wrote can't be found in it"
            )
        authored = []
        for i, wanted in enumerate(learned):
            if not wanted:
                continue
            if 2 * i not in places or 2 * i + 1 not in places:
                raise TemplateFault(f"the model's chat template leaves out message {i + 1}")
            begin, end = places[2 * i], places[2 * i + 1]
            earliest = max((place for mark, place in places.items() if mark < 2 * i), default=0)
            if self.asking:
                at = text.rfind(self.asking, earliest, begin)
                begin = at + len(self.asking) if at >= 0 else begin
            else:  # as Llama 2's and Mistral's: all that comes after the question
                with contextlib.suppress(TemplateFault):
                    before = rendered(messages[:i])
                    begin = len(before) if text.startswith(before) and earliest <= len(before) < begin else begin
            latest = min((place for mark, place in places.items() if mark > 2 * i + 1), default=len(text))
            ends = {*self.ends, self.end_of_turn}
            stop = next((m for m in self.control.finditer(text, end, latest) if m.group() in ends), None)
            authored.append((begin, stop.end() if stop else end))
        return authored

    @cached_property
    def end_of_turn(self) -> str | None:
        """The name of the control token that follows what an assistant said, where there is one."""
        conversation = [
            {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."},
        ]  # fmt: skip
        try:
            text = self.render(conversation)
        except TemplateFault:
            return None
        found = self.control.search(text, text.rfind("Yes."))
        return found.group() if found else None


class _Form:
    """A conversation of which each text is one private character, to be filled with texts that belong there."""

    def __init__(self, rendered: Rendered) -> None:
        self.rendered = rendered
        self.parts = [(MARK.split(text), is_control) for text, is_control in rendered.pieces]
        found = list(MARK.finditer("".join(text for text, _ in rendered.pieces)))
        self.ends = [match.end() for match in found]
        self.order = [(ord(match[1]) - PRIVATE.start, match.end() - match.start()) for match in found]

    def filled(self, texts: Sequence[str]) -> Rendered:
        pieces = [
            ("".join([texts[ord(part) - PRIVATE.start] if i % 2 else part for i, part in enumerate(parts)]), is_control)
            for parts, is_control in self.parts
        ]
        grown = list(accumulate((len(texts[i]) - size for i, size in self.order), initial=0))
        moved = [[at + grown[bisect_right(self.ends, at)] for at in span] for span in self.rendered.authored]
        return Rendered(pieces, [(a, b) for a, b in moved])


def _one_mark_each(role: str, has_content: bool, n_calls: int, marks: Iterator[str]) -> dict[str, Any]:
    """A message whose content, if it has any, and whose calls are as MARK finds them."""
    content = next(marks) if has_content else ""
    calls = [{"type": "function", "function": {"name": next(marks), "arguments": {}}} for _ in range(n_calls)]
    return {"role": role, "content": content, **({"tool_calls": calls} if calls else {})}


def _split(text: str, control: re.Pattern[str], breaker: str, authored: list[tuple[int, int]]) -> Rendered:
    """The text in pieces, without the breaker; places are moved to where they are without it."""
    pieces: list[tuple[str, bool]] = []
    end = 0
    for match in control.finditer(text):
        if match.start() > end:
            pieces.append((text[end : match.start()].replace(breaker, ""), False))
        pieces.append((match.group(), True))
        end = match.end()
    if end < len(text):
        pieces.append((text[end:].replace(breaker, ""), False))
    if breaker in text:
        authored = [(a - text.count(breaker, 0, a), b - text.count(breaker, 0, b)) for a, b in authored]
    return Rendered(pieces, authored)


def _texts_of(values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts_of([*value.keys(), *value.values()])
        elif isinstance(value, (list, tuple)):
            yield from _texts_of(value)


def _unused_characters(texts: Iterator[str], n: int) -> list[str]:
    """Private characters that no text holds."""
    used = {character for text in texts if not text.isascii() for character in text if ord(character) in PRIVATE}
    found = []
    for code in PRIVATE:
        if chr(code) not in used:
            found.append(chr(code))
            if len(found) == n:
                return found
    raise TemplateFault(f"the conversation has more than {len(PRIVATE) // 2:,} messages")


def _broken(value: Any, control: re.Pattern[str], breaker: str) -> Any:
    """The value with a breaker after the first character of every name of a control token."""
    if isinstance(value, str):
        broken = control.sub(lambda m: m.group()[0] + breaker + m.group()[1:], value)
        while control.search(broken):  # a name of one character, or one that only appeared by the first cut
            broken = control.sub(lambda m: breaker.join(["", *m.group(), ""]), broken)
            if any(len(m.group()) == 1 for m in control.finditer(broken)):
                break
        return broken
    if isinstance(value, Mapping):
        return {_broken(k, control, breaker): _broken(v, control, breaker) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_broken(item, control, breaker) for item in value]
    return value


def _call_ids(message: dict[str, Any]) -> dict[str, Any]:
    """With ids of tool calls, as OpenAI's form has them and some templates ask for; there is one call at a time."""
    message = {key: value for key, value in message.items() if key not in ("weight", "tools")}
    if message.get("tool_calls"):
        calls = enumerate(message["tool_calls"])
        message["tool_calls"] = [{"id": TOOL_RESULT_ID.format(i), **call} for i, call in calls]
    elif message["role"] == "tool":
        message.setdefault("tool_call_id", TOOL_RESULT_ID.format(0))
    return message


def _marked(message: Mapping[str, Any], begin: str, end: str, within: bool) -> Mapping[str, Any]:
    """The message with marks around its content, or around the names of its calls where it says nothing else."""
    content = message["content"]
    if content.strip():
        if not within:
            return {**message, "content": begin + content + end}
        stripped = content.strip()
        at = content.index(stripped)
        return {**message, "content": content[:at] + begin + stripped + end + content[at + len(stripped) :]}
    calls = message.get("tool_calls")
    if not calls:
        return {**message, "content": content + begin + end}
    names = [call["function"]["name"] for call in calls]
    names[0], names[-1] = begin + names[0], (names[-1] if len(names) > 1 else begin + names[0]) + end
    functions = [{**call["function"], "name": name} for call, name in zip(calls, names, strict=True)]
    return {**message, "tool_calls": [{**call, "function": f} for call, f in zip(calls, functions, strict=True)]}


def _places(marked: str, marks: Sequence[str]) -> dict[int, int] | None:
    """Where each mark is, by its number, in the text without marks; None if one occurs twice."""
    number = {mark: i for i, mark in enumerate(marks)}
    places: dict[int, int] = {}
    for n_before, match in enumerate(re.finditer(f"[{marks[0]}-{marks[-1]}]", marked)):
        if match.group() not in number:
            return None
        if number[match.group()] in places:
            return None
        places[number[match.group()]] = match.start() - n_before
    return places
