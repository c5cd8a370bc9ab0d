"""Rows that stages left as JSON lines, and figures as rows of a table."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from crawl2chat.stages.figures import Figure


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; an empty list if there is no such file."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def figure_table(figures: Sequence[Figure]) -> str:
    rows = [
        f'<tr><td>{escape(f.name.replace("_", " "))}<td class="n">{escape(str(f))}'
        f'<td class="n">{f"{f.count:,}" if f.count else ""}'
        for f in figures
    ]
    return f"<table><tr><th>figure<th>value [95 % interval]<th>of{''.join(rows)}</table>"
