"""The funnel: what every step of refining took in, dropped and passed on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import read_json

FUNNEL = "funnel.json"
IN_FUNNEL = "dropped/"  # prefix of figures that the funnel shows better
COMMON_TYPES = ("warcinfo", "request")  # types of records that are never content
NAMED_WARCS = 5  # at most, when no page was found


def funnel(
    step_names: Sequence[str],
    kept: int,
    dropped: Counter[tuple[str, str]],
    masked: Counter[str],
    passed: Counter[str],
    characters: int,
) -> dict[str, Any]:
    """`funnel.json`: the steps in order; one's `out` is the next one's `in`, and the last one's is `kept`.

    dropped: pages by (step, reason). masked: personal data replaced in what is kept.
    passed: WARC records that are not pages, by their type.
    """
    total = kept + dropped.total()
    faults = sum(count for (step, _), count in dropped.items() if step == "read")
    steps, left = [], total
    for step in step_names:
        reasons = {reason: count for (at, reason), count in sorted(dropped.items()) if at == step}
        out = left - sum(reasons.values())
        steps.append({"step": step, "in": left, "out": out, "dropped": reasons})
        left = out
    return {
        "pages": total - faults,
        "faults": faults,
        "kept": kept,
        "characters_kept": characters,
        "steps": steps,
        "masked": dict(sorted(masked.items())),
        "records_that_are_no_pages": dict(sorted(passed.items())),
    }


def faults(table: dict[str, Any]) -> str:
    """`3 faults while reading: 2 corrupt_gzip_member, 1 truncated`, the commonest first; empty if there is none."""
    if not table["faults"]:
        return ""
    reasons = Counter(next(step["dropped"] for step in table["steps"] if step["step"] == "read")).most_common()
    said = ", ".join(f"{count} {reason}" for reason, count in reasons)
    return f"{table['faults']} fault{'s' if table['faults'] > 1 else ''} while reading: {said}"


def reasons(table: dict[str, Any]) -> str:
    """`40 no_text, 12 other_language`: the commonest reasons of all steps."""
    counts: Counter[str] = Counter()
    for step in table["steps"]:
        counts.update(step["dropped"])
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common(3))


def passed_over(table: dict[str, Any]) -> str:
    """`12 records are not pages: 10 metadata, 2 revisit`; "" if there are only the types of every WARC."""
    kinds = Counter(table["records_that_are_no_pages"])
    if not set(kinds) - set(COMMON_TYPES):
        return ""
    return f"{kinds.total():,} records are not pages: {_list(kinds)}"


def why_no_pages(warcs: dict[str, dict[str, Any]]) -> str:
    """What WARCs contain instead of pages. warcs: by name, with `passed` (records by type) and `first_fault`."""
    said = []
    for name, counts in list(warcs.items())[:NAMED_WARCS]:
        passed = Counter(counts["passed"])
        holds = [f"only records of other types ({_list(passed)})"] if passed else []
        if "metadata" in passed and not set(passed) - {"metadata", *COMMON_TYPES}:
            holds.append("as Common Crawl's WAT files; give the WARC or WET files")
        holds += [counts["first_fault"]] if counts["first_fault"] else []
        said.append(f"{name}: {', '.join(holds) or 'no records'}")
    more = f"\n  and {len(warcs) - len(said):,} more" if len(warcs) > len(said) else ""
    return (
        "no page found; pages are WARC records of type response, resource or conversion\n  " + "\n  ".join(said) + more
    )


def _list(kinds: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())


def read_funnel(folder: Path) -> dict[str, Any]:
    """The funnel in the folder of a finished refine stage."""
    table: dict[str, Any] = read_json(folder / FUNNEL)
    return table


@dataclass(frozen=True)
class Row:
    """A line of the funnel as people read it: pages that a step dropped for a reason, and pages left behind it."""

    step: str
    reason: str  # "" for a step that dropped nothing
    pages: int
    share: float  # of all pages and faults
    left: int


def rows(table: dict[str, Any]) -> list[Row]:
    """The funnel line by line, the commonest reasons of a step first."""
    total = table["pages"] + table["faults"]
    found = []
    for step in table["steps"]:
        left = step["in"]
        for reason, count in sorted(step["dropped"].items(), key=lambda item: -item[1]) or [("", 0)]:
            left -= count
            found.append(Row(step["step"], reason, count, count / max(1, total), left))
    return found


def figures(table: dict[str, Any]) -> list[Figure]:
    return [
        Figure("pages", table["pages"], "pages"),
        Figure("faults", table["faults"]),
        Figure("kept", table["kept"], "documents"),
        share("kept_share", table["kept"], table["pages"] + table["faults"]),
        *(
            Figure(f"{IN_FUNNEL}{step['step']}", step["in"] - step["out"], "pages", count=step["in"])
            for step in table["steps"]
        ),
        *(
            Figure(f"other_records/{kind}", count, "records")
            for kind, count in table["records_that_are_no_pages"].items()
        ),
        Figure("characters_kept", table["characters_kept"], "characters"),
        Figure("lines_dropped", table["lines_dropped"], "lines"),
        Figure("line_characters_dropped", table["line_characters_dropped"], "characters"),
        Figure("signature_version", table["signature_version"]),
    ]
