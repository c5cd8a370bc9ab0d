"""Jinja for chat templates from elsewhere: no reach beyond the template, and bounds on its time and its text."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 200_000  # turns of all loops of a template together; one for a long chat takes some thousands
MAX_TEXT = 5_000_000  # characters that a template may render; on the way it may make ten times as many
MAX_WIDTH = 10_000  # to which a template may pad or repeat something


class TemplateFault(ValueError):
    """What a template refuses, such as an order of roles, or what is wrong with the template itself."""


_steps_left, _made = [MAX_STEPS], [0]  # of the rendering that is going on


def _counted(values: Any) -> Any:
    for value in values:
        _steps_left[0] -= 1
        if _steps_left[0] < 0:
            raise TemplateFault(f"the chat template loops more than {MAX_STEPS:,} times")
        yield value


def compile_template(source: str) -> jinja2.Template:
    """The program of a chat template. Raises TemplateFault if it can't be read."""
    try:
        return _environment().from_string(source)
    except jinja2.TemplateError as error:
        raise TemplateFault(f"the chat template can't be read: {error}") from error


def render(program: jinja2.Template, **variables: Any) -> str:
    """The text that a program writes. Raises TemplateFault if it refuses, fails or exceeds a bound."""
    _steps_left[0], _made[0] = MAX_STEPS, 0
    try:
        text = program.render(**variables)
    except TemplateFault:
        raise
    except RecursionError:
        raise TemplateFault("the chat template calls itself without end") from None
    except Exception as error:  # a template is a program, which may fail in any way
        raise TemplateFault(f"the model's chat template refuses this conversation: {error}") from error
    if len(text) > MAX_TEXT:
        raise TemplateFault(f"the chat template writes more than {MAX_TEXT:,} characters")
    return text


def _environment() -> jinja2.Environment:
    """Jinja as transformers sets it up, in a sandbox that also ends what would not end by itself."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
    environment.filters |= {"tojson": tojson, "counted": lambda values: list(_counted(values)), "concat": _concat}
    for name in ("batch", "center", "format", "indent", "join", "replace", "wordwrap"):
        environment.filters[name] = _bounded(environment.filters[name])
    del environment.globals["lipsum"]
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox lets a template reach for nothing; this one does not let it take much time or memory, either."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) for side in (left, right) if isinstance(side, (str, list, tuple))]
        numbers = [abs(side) for side in (left, right) if isinstance(side, (int, float))]
        if operator == "**" and (sizes or any(number > 1_000 for number in numbers)):
            raise TemplateFault("the chat template raises a number too high")
        if operator == "*" and sizes and any(n * size > MAX_TEXT for n in numbers for size in sizes):
            raise TemplateFault("the chat template repeats a text too often")
        if operator == "%" and isinstance(left, str):
            _check_width(left)
        return _bounded_value(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        text = getattr(function, "__self__", None)
        if isinstance(text, str):
            _check_sizes(text, args)
        return _bounded_value(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_width(value.__self__)
        return wrapped

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> Any:
        return super()._generate(_CountSteps().visit(source), *args, **kwargs)


class _CountSteps(NodeTransformer):
    """Hands what a loop goes over, and what `~` puts together, through filters that count."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "concat", [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """transformers' tag around what a mask for training should cover; the text within is text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, which first looks at what it is given."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        text = next((value for value in given if isinstance(value, str)), "")
        _check_sizes(text, given[given.index(text) + 1 :] if text in given else given)
        return _bounded_value(function(*args, **kwargs))

    if hasattr(function, "jinja_pass_arg"):
        bounded.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return bounded


def _check_sizes(text: str, args: Sequence[Any]) -> None:
    """Raise TemplateFault where a method of a text would make far more of it."""
    if any(isinstance(argument, int) and abs(argument) > MAX_WIDTH for argument in args):
        raise TemplateFault("the chat template pads or cuts a text too far")
    if len(args) > 1 and all(isinstance(argument, str) for argument in args[:2]):
        times = text.count(args[0])
        if times * len(args[1]) > MAX_TEXT:
            raise TemplateFault("the chat template replaces by too much text")
    if args and isinstance(args[0], (list, tuple)) and len(args[0]) * len(text) > MAX_TEXT:
        raise TemplateFault("the chat template joins by too much text")


def _check_width(form: str) -> None:
    """Raise TemplateFault for a format such as %100000d or {:100000}."""
    if len(form) < MAX_WIDTH and re.search(r"[%:{][^a-zA-Z%]{0,8}\d{5}", form):
        raise TemplateFault("the chat template pads a text too far")


def _concat(parts: list[Any]) -> Any:
    return _bounded_value("".join(map(str, parts)))


def _bounded_value(value: Any) -> Any:
    """The value, if what one rendering makes stays bounded in all."""
    if isinstance(value, (str, list)):
        _made[0] += len(value)
        if _made[0] > 10 * MAX_TEXT:
            raise TemplateFault(f"the chat template makes more than {10 * MAX_TEXT:,} characters")
    return value


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **others: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **others)  # Jinja's own is for HTML
