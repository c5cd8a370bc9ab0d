"""Does a tokenizer's own chat template say what `Tokenizer.encode_chat` writes?"""

import json
from typing import Any

from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import Message

CONVERSATIONS: tuple[list[Message], ...] = (
    [{"role": "user", "content": "Hello?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
    [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Who?"},
    ],
)


def render(template: str, messages: list[Message], *, add_generation_prompt: bool) -> str:
    """The text that transformers would render. Raises jinja2.TemplateError, or whatever the template runs into."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # a template from elsewhere is code from elsewhere

    class Generation(Extension):
        """transformers' tag around what a mask for training should cover; the text within is text."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)  # Jinja's own is for HTML

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    return environment.from_string(template).render(messages=messages, add_generation_prompt=add_generation_prompt)


def departure_from_chatml(tokenizer: Tokenizer) -> str:
    """What the template renders other than the text of our ids for plain conversations; empty if nothing."""
    for messages in CONVERSATIONS:
        expected = tokenizer.decode(tokenizer.encode_chat(messages, add_generation_prompt=True)[0])
        try:
            rendered = render(tokenizer.chat_template, messages, add_generation_prompt=True)
        except Exception as error:  # a template is a program, which fails in any way
            return f"can't be rendered ({error})"
        if rendered != expected:
            return f"renders {rendered!r} where ChatML is {expected!r}"
    return ""
