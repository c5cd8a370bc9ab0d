"""What differs between a finished stage and the one that is asked for."""

import json
from collections.abc import Mapping
from typing import Any

from crawl2chat.stages.settings import Settings


def settings_that_count(settings: Settings) -> dict[str, Any]:
    """A stage's settings as its manifest holds them: without those that change only how it runs, not its result."""
    return settings.model_dump(mode="json", exclude=set(settings.RUNTIME_ONLY))


def differences(made_from: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What has changed since a stage was made: `settings.epochs 20 → 2`, `inputs.refine`; `stage` for another stage."""
    if made_from["stage"] != wanted["stage"]:
        return ["stage"]
    settings = _flat(made_from["settings"]), _flat(wanted["settings"])
    changed = [
        f"settings.{name} {_shown(settings[0], name)} → {_shown(settings[1], name)}"
        for name in sorted({*settings[0], *settings[1]})
        if settings[0].get(name) != settings[1].get(name)
    ]
    inputs = made_from["inputs"], wanted["inputs"]
    return [
        *(f"inputs.{n}" for n in sorted({*inputs[0], *inputs[1]}) if inputs[0].get(n) != inputs[1].get(n)),
        *changed,
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names, as they are typed on the command line."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _shown(settings: Mapping[str, Any], name: str) -> str:
    text = json.dumps(settings[name], ensure_ascii=False) if name in settings else "(absent)"
    return text if len(text) <= 40 else text[:39] + "…"
