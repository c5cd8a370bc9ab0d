"""A plan's rows, and numbers in them as people read them."""

Row = tuple[str, str, str]  # what, how much, a remark


def as_count(value: float) -> str:
    for unit, size in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if value >= size:
            return f"{value / size:,.2f} {unit}"
    return f"{value:,.0f}"


def as_bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value / 1e3:,.1f} kB"


def as_time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:,.3g} s"
    return f"{60 * hours:,.3g} min" if hours < 0.5 else f"{as_number(hours)} hours"


def as_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:,.3g}"


def as_table(rows: list[Row]) -> str:
    what, much, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(f"{row[0]:<{what}}  {row[1]:>{much}}  {row[2]}".rstrip() for row in rows)
