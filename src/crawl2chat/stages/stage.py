"""A run's folder: stages that leave a manifest, are skipped when nothing changed, and go on when killed."""

import contextlib
import fcntl
import importlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crawl2chat import __version__
from crawl2chat.parallel import torchrun
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, hash_json, remove, sha256, temporary_of, write_json
from crawl2chat.stages.settings import Settings, dotted

MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
SAMPLES_DURING = "samples-during.jsonl"
ROLLOUTS, ROLLOUTS_INDEX = "rollouts.jsonl", "rollouts.index"  # answers that were learned from
TRACKED = "tracked.json"  # what a tracker calls the run
ASKED = ".asked.jsonl"  # answers of models, until the stage is done
STARTED = ".started.json"  # marks a folder as a stage's own and says what it is being made from
REPLACED = "replaced"  # a folder next to the stages, with finished work that was replaced
KEPT_FROM_SECONDS = 60  # work that took longer than this is moved there, not deleted
# How a stage went: with times, names and as often as was asked for, so these differ between equal runs.
NOT_RESULTS = {
    MANIFEST,
    METRICS,
    SAMPLES_DURING,
    ROLLOUTS,
    ROLLOUTS_INDEX,
    TRACKED,
    STARTED,
    ASKED,
    ".lock",
    "passages.sqlite",
}  # last: a search index


@dataclass(frozen=True)
class Stage:
    """A step of the way: a function `(*inputs, out, settings, **optional) -> list[Figure]` of files to a folder.

    inputs: names of stages, whose folders are read, of files (`table.FILES`), or "model": that of the stage before.
    """

    name: str
    inputs: tuple[str, ...]
    function: str  # "package.module:name", imported only when the stage runs
    on_all_ranks: bool = False  # under torchrun: the others call the function, too; if not, its trainings call them
    optional: tuple[str, ...] = ()  # inputs that the stage can do without, passed by name
    makes: Literal["base", "assistant"] | None = None  # the kind of model that it leaves
    teaches_tools: bool = False
    replaced_by_import: bool = False  # an imported model takes its place

    def load(self) -> Callable[..., list[Figure]]:
        module, _, name = self.function.partition(":")
        function: Callable[..., list[Figure]] = getattr(importlib.import_module(module), name)
        return function


@dataclass
class Manifest:
    """What a finished stage did: settings, inputs, outputs with their hashes, figures, time."""

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    figures: dict[str, dict[str, Any]]
    code: dict[str, str]
    started: str
    seconds: float
    machine: dict[str, Any]  # where and how it ran, which decides nothing
    made_by: str = "run"  # "command": by the stage's own command, so a run keeps it

    @property
    def made_by_hand(self) -> bool:
        return self.made_by == "command"

    @property
    def hash(self) -> str:
        """One hash over all output files: equal for equal results."""
        return hash_json(self.outputs)

    def figure_list(self) -> list[Figure]:
        return [Figure.from_json(name, fields) for name, fields in self.figures.items()]


def run_stage(
    stage: Stage,
    inputs: Mapping[str, AnyPath],
    out: AnyPath,
    settings: Settings,
    *,
    outside: Mapping[str, str] | None = None,
    force: bool = False,
    made_by: str = "run",
    check: Callable[[], None] = lambda: None,
) -> tuple[Manifest, bool]:
    """Run one stage into `out`, or skip it. Returns its manifest and whether it ran.

    Same settings and inputs and a manifest: skipped. Same settings and inputs without one (it was killed):
    the function runs again over what it left. Anything else: the folder is emptied first, with a line that says
    what has changed; work of more than a minute is moved aside instead (`REPLACED`).
    `inputs` may hold files that the stage finds by itself next to the others. `outside`: hashes of files that
    settings name, which count as inputs. `check` is called if the stage has to run,
    before anything is emptied; what it raises ends the call.
    Raises StageError for missing inputs, or when `out` is or holds an input or files that no stage wrote.
    """
    places, out = {name: Path(path) for name, path in inputs.items()}, Path(out)
    for name, path in places.items():
        if not path.exists():
            raise StageError(f"{stage.name}: its input {name} ({path}) does not exist; make it first")
        if path.resolve().is_relative_to(out.resolve()) or out.resolve().is_relative_to(path.resolve()):
            raise StageError(f"{stage.name}: --out {out} and its input {name} ({path}) must be different folders")
    wanted: dict[str, Any] = {
        "stage": stage.name,
        "settings": settings_that_count(settings),
        "inputs": {input_name(name, path, out): hash_path(path) for name, path in places.items()} | dict(outside or {}),
    }
    optional = {name: places[name] for name in stage.optional if name in places}
    with _locked(out):
        finished = read_manifest(out)
        made_from = vars(finished) if finished else _read_json(out / STARTED)
        if made_from:
            made_from = with_defaults(made_from, settings)
        if finished and not force and not differences(made_from, wanted):
            return finished, False
        check()
        if force or finished or made_from != wanted:
            _empty(out, stage.name, made_from)
            if made_from:
                _report_changes(stage.name, made_from, wanted)
            write_json(out / STARTED, wanted)
        _sweep(out)
        started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        clock = time.monotonic()
        if stage.on_all_ranks:
            torchrun.call_others(
                {
                    "stage": stage.name,
                    "inputs": [str(places[name].resolve()) for name in stage.inputs],
                    "optional": {name: str(path.resolve()) for name, path in optional.items()},
                    "out": str(out.resolve()),
                    "settings": settings.model_dump(mode="json"),
                }
            )
        figures = stage.load()(*(places[name] for name in stage.inputs), out, settings, **optional)
        manifest = Manifest(
            **wanted,
            outputs=hash_files(out),
            figures={figure.name: figure.to_json() for figure in figures},
            code={"version": __version__, "source": source_hash()},
            started=started,
            seconds=round(time.monotonic() - clock, 2),
            machine={
                "cores": os.cpu_count(),
                "processor": platform.machine(),
                "python": platform.python_version(),
                "settings": settings.model_dump(mode="json", include=set(settings.RUNTIME_ONLY)),
            },
            made_by=made_by,
        )
        write_json(out / MANIFEST, vars(manifest))
        (out / ASKED).unlink(missing_ok=True)
        (out / STARTED).unlink()
        return manifest, True


def settings_that_count(settings: Settings) -> dict[str, Any]:
    """A stage's settings as its manifest holds them: without those that change only how it runs, not its result."""
    return settings.model_dump(mode="json", exclude=set(settings.RUNTIME_ONLY))


def with_defaults(made_from: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """What a stage was made from, with the settings that are new since then at their defaults.

    The default of a new setting keeps what was done before, so that a newer version does not make all runs again.
    """

    def filled(value: Any, default: Any) -> Any:
        if not (isinstance(value, dict) and isinstance(default, dict)):
            return value
        return default | {name: filled(value[name], default.get(name)) for name in value}

    defaults = type(settings).model_construct()  # without settings that have none, such as what an import came from
    return {**made_from, "settings": filled(made_from["settings"], settings_that_count(defaults))}


def differences(made_from: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What has changed since a stage was made: `settings.epochs 20 → 2`, `inputs.refine`; `stage` for another stage."""
    if made_from["stage"] != wanted["stage"]:
        return ["stage"]
    settings = dict(dotted(made_from["settings"])), dict(dotted(wanted["settings"]))
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


def _shown(settings: Mapping[str, Any], name: str) -> str:
    text = json.dumps(settings[name], ensure_ascii=False) if name in settings else "(absent)"
    return text if len(text) <= 40 else text[:39] + "…"


def read_manifest(folder: AnyPath) -> Manifest | None:
    """The manifest of a finished stage; None where there is none. Raises StageError when it can't be read."""
    folder = Path(folder)
    fields = _read_json(folder / MANIFEST)
    if fields is None:
        return None
    try:
        return Manifest(**fields)
    except TypeError as error:
        raise StageError(f"{folder / MANIFEST}: not a manifest of this version: {error}") from error


def source_hash() -> str:
    """Hash of the package's own source, so that a manifest says which code made it."""
    root = Path(__file__).parents[1]
    return hash_json({str(p.relative_to(root)): sha256(p) for p in sorted(root.rglob("*.py"))})


def hash_path(path: Path) -> str:
    """Hash of an input: of its manifest's outputs for a stage's folder, of the files' contents otherwise."""
    if path.is_dir():
        manifest = read_manifest(path)
        if manifest:
            return manifest.hash
        if (path / STARTED).exists():
            raise StageError(f"{path}: this stage was started but has not finished; run it again first")
        return hash_json(hash_files(path))
    return sha256(path)


def hash_files(folder: Path) -> dict[str, str]:
    """Relative path → sha256 of every result file in a stage's folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in NOT_RESULTS)
    return {p.relative_to(folder).as_posix(): sha256(p) for p in files}


def input_name(name: str, path: Path, out: Path) -> str:
    """What a manifest calls an input: a model or a file of the same run goes by its place, `sft` or `crawl/x.jsonl`."""
    path, run = path.resolve(), out.resolve().parent
    if name == "model" and path.parent == run:
        return path.name
    made_for_this = path.parent.name.startswith(".")  # and gone afterwards, such as a converted GGUF file
    return f"{path.parent.name}/{path.name}" if path.parent.parent == run and not made_for_this else name


def is_current(run: Path, manifest: Manifest) -> bool:
    """Whether a stage's inputs are still those it was made from, as far as they are stages of the same run or in them.

    A stage that was made by hand has the inputs that its maker chose, from anywhere.
    """
    if manifest.made_by_hand:
        return True
    for name, made_from in manifest.inputs.items():
        if (run / name).is_file():
            if "/" in name and sha256(run / name) != made_from:
                return False
        elif (now := read_manifest(run / name)) and now.hash != made_from:
            return False
    return True


def _report_changes(stage: str, made_from: dict[str, Any], wanted: dict[str, Any]) -> None:
    changed = ", ".join(differences(made_from, wanted))
    print(f"{stage}: made again, {f'since these changed: {changed}' if changed else 'as asked'}", file=sys.stderr)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StageError(f"{path}: not readable JSON ({error}); remove it to start this stage again") from error


def _empty(out: Path, stage: str, made_from: dict[str, Any] | None) -> None:
    """Clear a stage's own folder; never one that somebody else, or another stage, filled."""
    contents = [p for p in out.iterdir() if p.name not in (".lock", temporary_of(out / STARTED).name)]
    if contents and not made_from:
        raise StageError(f"{out}: holds files that no stage wrote; give another folder or empty it yourself")
    if made_from and made_from["stage"] != stage:
        raise StageError(f"{out}: is a folder of the stage {made_from['stage']}; give {stage} another one")
    marks = {MANIFEST, STARTED}  # go last: killed in between, the folder is still known as a stage's own
    contents.sort(key=lambda p: p.name in marks)
    aside = _place_aside(out, made_from) if made_from else None
    for path in contents:
        if aside:
            aside.mkdir(parents=True, exist_ok=True)
            shutil.move(path, aside / path.name)
        else:
            remove(path)
    if aside:
        print(f"{stage}: what was there is now in {aside} (`run --prune` deletes such folders)", file=sys.stderr)


def _place_aside(out: Path, made_from: dict[str, Any]) -> Path | None:
    """Where a stage's work goes when it is made again; None if it took too little time to be worth keeping."""
    marks = [file for file in (out / MANIFEST, out / STARTED) if file.exists()]
    if "seconds" in made_from:
        seconds, began = made_from["seconds"], made_from["started"][:19].replace(":", "")
    else:  # it was killed: from its first mark to its last file
        first = marks[0].stat().st_mtime
        seconds = max(path.stat().st_mtime for path in out.rglob("*") if path.name != ".lock") - first
        began = time.strftime("%Y-%m-%dT%H%M%S", time.localtime(first))
    return out.parent / REPLACED / f"{out.name}-{began}" if seconds > KEPT_FROM_SECONDS else None


def prune(run: Path) -> tuple[int, int]:
    """Delete the stages of a run that were moved aside; returns how many there were, and their bytes."""
    folders = [f for f in sorted((run / REPLACED).glob("*/")) if (f / MANIFEST).exists() or (f / STARTED).exists()]
    n_bytes = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    for folder in folders:
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # absent, or with files of somebody else in it
        (run / REPLACED).rmdir()
    return len(folders), n_bytes


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep a second process out of the folder; the lock dies with its holder."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StageError(f"{out}: another crawl2chat process is at work in this folder") from error
        yield


def _sweep(out: Path) -> None:
    """Remove what a killed process had half written."""
    for path in sorted(out.rglob(".*.tmp")):
        remove(path)
