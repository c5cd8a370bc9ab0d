"""Tools that a model may call: what each is called, does and takes; and those that come with the package."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.citing import listed
from crawl2chat.search import SearchIndex
from crawl2chat.stages.files import StageError

BUILT_IN = ("search", "calculator", "python")
PASSAGES = 3  # that a search returns
MAX_OUTPUT = 2000  # characters of what a program prints


@dataclass(frozen=True)
class Tool:
    """A function for models: its name, what it does, the JSON schema of its arguments.

    function: gets what the user asked, and the call's arguments by name; returns text. The message of a ValueError
    that it raises goes to the model.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., str]

    @property
    def definition(self) -> dict[str, Any]:
        """As OpenAI's API and chat templates have it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}

    def __call__(self, asked: str, **arguments: Any) -> str:
        return self.function(asked, **arguments)


def tool_of(name: str, function: Callable[..., str]) -> Tool:
    """Return a function as a tool that is described by its docstring and its parameters, all of them texts."""
    if isinstance(function, Tool):
        return function
    try:
        given = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):  # of some that are written in C
        given = []
    named = [
        parameter for parameter in given if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    required = [parameter.name for parameter in named if parameter.default is parameter.empty]
    return Tool(name, inspect.getdoc(function) or name, schema({p.name: "" for p in named}, required), function)


def schema(parameters: Mapping[str, str], required: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of texts by their names, each with a description or none."""
    properties = {
        name: {"type": "string"} | ({"description": text} if text else {}) for name, text in parameters.items()
    }
    return {"type": "object", "properties": properties, "required": list(required)}


CALCULATOR = Tool(
    "calculator",
    "Works out sums, products and quotients exactly.",
    schema({"expression": "such as (12+7)*3"}, ["expression"]),
    calculate,
)


def built_in(names: Sequence[str], index: SearchIndex | None = None) -> dict[str, Tool]:
    """Return the package's own tools by name. index: what `search` looks in.

    Raises StageError for a name that there is not, for a search in nothing, and where Python can't be contained.
    """
    tools: dict[str, Tool] = {}
    for name in names:
        if name == "calculator":
            tools[name] = CALCULATOR
        elif name == "python":
            tools[name] = python_tool()
        elif name == "search":
            if index is None:
                raise StageError("tools: search has nothing to look in; name a folder with --documents")
            tools[name] = search_tool(index)
        else:
            raise StageError(f"tools: {name!r} is not one of {', '.join(BUILT_IN)}")
    return tools


def search_tool(index: SearchIndex) -> Tool:
    """Return a search that answers with the best passages, numbered, each with its title and address."""

    def search(asked: str, query: str = "") -> str:
        if not isinstance(query, str):
            raise ValueError("query: expected a text")
        return listed(index.best(query or asked, PASSAGES))

    description = "Finds passages of the documents. Cite a passage that you use by its number, such as [1]."
    return Tool(
        "search", description, schema({"query": "what to look for; the question itself if left out"}, []), search
    )


def python_tool() -> Tool:
    """Return a tool that runs programs in the sandbox. Raises StageError, with the reason, where there is none."""
    from crawl2chat.evals.suites.sandbox import Limits, run_program, way

    way()
    limits = Limits()

    def python(asked: str, code: str) -> str:
        if not isinstance(code, str):
            raise ValueError("code: expected a text")
        outcome = run_program(code, limits, shows_value=True)
        printed = outcome.stdout[:MAX_OUTPUT] + ("…" if len(outcome.stdout) > MAX_OUTPUT else "")
        if outcome.timed_out:
            return f"{printed}\nStopped after {limits.seconds:g} seconds.".strip()
        if not outcome.passed:
            return f"{printed}\n{outcome.stderr[-MAX_OUTPUT:]}".strip() or "The program ended early."
        return printed.strip() or "Done; nothing was printed."

    description = "Runs a Python program without network or files; returns what it prints, or its last value."
    return Tool("python", description, schema({"code": "the program"}, ["code"]), python)
