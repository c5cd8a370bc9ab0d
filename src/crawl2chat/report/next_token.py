"""The next-token table: the most probable tokens at each step, before and after the controls, and the one drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.refine.text.extract import NOT_TEXT
from crawl2chat.tokenizer import Tokenizer

WIDTH = 80
BAR = 11  # characters of a bar for probability 1
EIGHTHS = " ▏▎▍▌▋▊▉"
TAIL = 40  # characters of the text before, shown above a table


@dataclass(frozen=True)
class Row:
    """One token. Probabilities are None where the token was not among those reported, so smaller than they are.

    rank: by the model's own probability, from 1. Left out by the controls: `controlled` is 0.
    """

    id: int
    rank: int | None
    model: float | None
    controlled: float | None
    drawn: bool


def print_steps(engine: Engine, prompts: Sequence[str], samples: int, sampling: Sampling) -> None:
    """Continue each prompt `samples` times and print a table for each token, as it is drawn.

    Raises ValueError as `Engine.submit` does.
    """
    console = Console(width=WIDTH, highlight=False)
    for (i, prompt), sample in product(enumerate(prompts), range(samples)):
        if len(prompts) * samples > 1:
            console.print(f"--- prompt {i + 1}/{len(prompts)}, sample {sample + 1}/{samples}")
        request = engine.submit(prompt, sampling, seed=sample * len(prompts) + i)
        completion, n_shown = request.completion, 0
        while completion.finish_reason is None:
            engine.step()
            for step in range(n_shown, len(completion.ids)):
                before = prompt + engine.tokenizer.decode(completion.ids[:step])
                console.print(_title(f"step {step + 1}", before))
                console.print(next_token_table(engine.tokenizer, rows(completion, step, sampling.top_logprobs)), "")
            n_shown = len(completion.ids)
        console.print(Text(NOT_TEXT.sub("", prompt + completion.text)), "", soft_wrap=True)


def rows(completion: Completion, step: int, k: int) -> list[Row]:
    """Return the rows of one step: the model's k most probable tokens, then the k most probable after the controls.

    The drawn token is always among them. k: `Sampling.top_logprobs`, with which the completion was made.
    """
    drawn = completion.ids[step]
    model = {id: math.exp(logprob) for id, logprob in completion.top[step]}
    controlled = {id: math.exp(logprob) for id, logprob in completion.top_controlled[step] if logprob > -math.inf}
    unlisted = 0.0 if len(controlled) < k else None  # fewer than k are left, so all of those are listed
    ranks = {id: rank for rank, id in enumerate(model, 1)}
    model.setdefault(drawn, math.exp(completion.model_logprobs[step]))
    controlled.setdefault(drawn, math.exp(completion.logprobs[step]))
    return [
        Row(id, ranks.get(id), model.get(id), controlled.get(id, unlisted), id == drawn)
        for id in dict.fromkeys([*model, *controlled])
    ]


def next_token_table(tokenizer: Tokenizer, rows: Sequence[Row]) -> Table:
    """Rank, token, id, and the probability before and after the controls."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), width=WIDTH)
    table.add_column("rank", justify="right", width=4)
    table.add_column("token", width=16, no_wrap=True)
    table.add_column("id", justify="right", width=6, no_wrap=True)
    for name in ("the model", "controlled"):
        table.add_column(name, width=7 + 1 + BAR, no_wrap=True)
    table.add_column("", no_wrap=True)
    least_model = min(row.model for row in rows if row.model is not None)
    least_controlled = min((row.controlled for row in rows if row.controlled), default=1.0)
    for row in rows:
        table.add_row(
            "–" if row.rank is None else str(row.rank),
            Text(visible(tokenizer, row.id)),
            str(row.id),
            _share(row.model, least_model),
            _share(row.controlled, least_controlled),
            "drawn" if row.drawn else "",
            style="bold" if row.drawn else "dim" if row.controlled == 0 else None,
        )
    return table


def visible(tokenizer: Tokenizer, id: int) -> str:
    """A token as Python writes it: 'text', b'bytes' if only part of a character; a control token by its bare name."""
    name = next((name for name, control in tokenizer.controls.items() if control == id), None)
    if name:
        return name
    content = tokenizer.decode_bytes([id])
    try:
        return repr(content.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(content)


def _share(probability: float | None, least: float) -> Text:
    """`41.2 % ████`; None is one smaller than the least that is known."""
    if probability == 0:
        return Text("left out")
    shown = least if probability is None else probability
    percent = f"{100 * shown:.1f} %" if shown >= 0.0005 else "<0.1 %"
    if probability is None and shown >= 0.0005:
        return Text(f"<{percent}".rjust(7))
    eighths = round(8 * BAR * shown)
    return Text(f"{percent:>7} " + "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip())


def _title(step: str, before: str) -> Text:
    tail = repr(before[-TAIL:])
    return Text(f"{step}, after {'…' if len(before) > TAIL else ''}{tail}", "bold")
