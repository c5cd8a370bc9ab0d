"""What a rule says of a page: keep it, or drop it for a reason that can be counted."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """`reason` None: kept. `value`: what the rule measured and found too small or too large."""

    reason: str | None = None
    value: float | None = None
    detail: str = ""

    @property
    def dropped(self) -> bool:
        return self.reason is not None


_KEEP = Verdict()


def keep() -> Verdict:
    return _KEEP


def drop(reason: str, value: float | None = None, detail: str = "") -> Verdict:
    return Verdict(reason, value, detail)
