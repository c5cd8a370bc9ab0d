"""The page Runs: a recipe with changed settings, what it will take, and the runs next to this one as they go on."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crawl2chat.serve.api.requests import Strict
from crawl2chat.serve.app.context import AppContext, RunStarter
from crawl2chat.serve.app.run_process import (
    RECORD,
    Launch,
    RunProcesses,
    SettingName,
    Text,
    last_sign,
    log_lines,
    read_launch,
    state_of,
)
from crawl2chat.serve.errors import ApiError, bad_request, file_errors
from crawl2chat.serve.http import cancel_on_disconnect, get, post
from crawl2chat.serve.middleware import is_loopback
from crawl2chat.stages.settings import RecipeError, describe_settings, dotted, load_settings
from crawl2chat.stages.stage import MANIFEST, STARTED
from crawl2chat.stages.table import STAGE_NAMES, STAGES
from crawl2chat.stages.text_files import NotText, read_text

OWN = "recipes"  # folder next to the run, with recipes of the user's
RECIPE = "recipe.toml"  # of a run: all its settings
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_RUNS = 200
MOST_COMMENT = 4000  # characters of a recipe's comment
RUNNING = ("running", "stopping")  # states in which a process is there
LAST_LINES = 8  # of a failed run's log
LOG_LINES = 60
PLAN_SECONDS = 600
PLAN_ROW = re.compile(r"(\s*\S.*?)\s{2,}(\S.*?)(?:\s{2,}(\S.*))?")  # as `plan.table.as_table` writes it


class RecipeRequest(Strict):
    recipe: Text
    settings: Annotated[dict[SettingName, Text], Field(max_length=500)] = Field({})  # as they are typed


class StartRequest(RecipeRequest):
    name: Text


class RunRequest(Strict):
    name: Text


@dataclass(frozen=True)
class Wanted:
    """A recipe with settings over it, as arguments of the command line.

    Each value is in one argument with its name, behind =, so that none can be taken for an option.
    """

    recipe: str  # a name of the package's, or a path
    settings: Mapping[str, str]

    @property
    def of_stages(self) -> list[str]:
        return [f"--{name}={value}" for name, value in self.settings.items() if "." in name]

    @property
    def of_run(self) -> dict[str, str]:
        """Those that are not in a stage's table, such as `until`; the command line has an option for each."""
        return {name: value for name, value in self.settings.items() if "." not in name}

    def run(self, out: str) -> list[str]:
        options = [f"--{name}={value}" for name, value in self.of_run.items()]
        return ["run", self.recipe, *options, *self.of_stages, f"--out={out}"]

    def plan(self) -> list[str]:
        """For this machine, where the run will be."""
        until = [f"--until={self.of_run['until']}"] if "until" in self.of_run else []
        return ["plan", self.recipe, *until, *self.of_stages, f"--cores={os.cpu_count() or 1}"]


class RunsPage:
    """Only looks, unless the server can be reached from this machine alone and may start runs."""

    def __init__(self, context: AppContext) -> None:
        self.context, self.starter = context, context.runs
        self.shown = context.run.resolve() if context.run else None
        self.processes = RunProcesses()
        self._planning = asyncio.Lock()

    @get("/app/runs/about")
    def about(self, request: Request) -> dict[str, Any]:
        """The recipes, every setting, and why nothing can be started here, if that is so."""
        recipes = [
            {"id": id, "own": "/" in id, "comment": _comment(file), "values": _values(file)}
            for id, file in self._recipes().items()
        ]
        settings = [asdict(setting) for setting in describe_settings(self.starter.recipe)] if self.starter else []
        for setting in settings:
            if setting["name"] == "until":
                setting["choices"] = STAGE_NAMES
        return {
            "recipes": recipes, "settings": settings, "refusal": self._refusal(),
            "tables": self._tables(), "folder": _as_typed(self.shown.parent) if self.shown else None,
            "own": _as_typed(self.shown.parent / OWN) if self.shown else None,
        }  # fmt: skip

    @post("/app/runs/check", RecipeRequest)
    def check(self, request: Request, body: RecipeRequest) -> dict[str, Any]:
        """What the command line would say of these settings, by setting; and the command."""
        file, wanted = self._find(body)
        problems = self._problems(file, wanted)
        known = {setting.name for setting in describe_settings(self._starter.recipe)}
        beside: dict[str, list[str]] = {}
        for problem in problems:
            beside.setdefault(_setting_in(problem, known), []).append(problem)
        return {
            "others": beside.pop("", []), "problems": beside,
            "command": _typed(wanted.run(_as_typed(self._folder / "NAME"))),
        }  # fmt: skip

    @post("/app/runs/plan", RecipeRequest)
    async def plan(self, request: Request, body: RecipeRequest) -> Response:
        """What `crawl2chat plan` prints, which measures this machine; it is a process, ended when its client goes."""
        self._require_right(request)
        file, wanted = self._find(body)
        if problems := self._problems(file, wanted):
            raise bad_request("\n".join(problems), code="wrong_settings")
        if self._planning.locked():
            raise ApiError(409, "another plan is being made; try again when it is done", code="busy")
        async with self._planning:
            return await cancel_on_disconnect(request, _plan(file, wanted))

    @post("/app/runs/start", StartRequest)
    def start(self, request: Request, body: StartRequest) -> dict[str, Any]:
        self._require_right(request)
        file, wanted = self._find(body)
        if not NAME.fullmatch(body.name) or ".." in body.name or body.name == OWN:
            raise bad_request(
                f"{body.name!r}: expected a name of letters, digits, - . _ that begins with a letter or digit and is "
                f"not {OWN!r}; it becomes a folder in {_as_typed(self._folder)}", "name",
            )  # fmt: skip
        if problems := self._problems(file, wanted):
            raise bad_request("\n".join(problems), code="wrong_settings")
        run = self._folder / body.name
        with file_errors():
            try:
                run.mkdir()
            except FileExistsError:
                raise ApiError(
                    409, f"{_as_typed(run)}: is there already; choose another name", param="name", code="exists"
                ) from None
            try:
                self._launch(run, body, wanted, os.getcwd())
            except BaseException:
                if not (launch := read_launch(run)) or not launch.pid:
                    shutil.rmtree(run)  # in which nothing has been done
                raise
        return {"name": body.name}

    @post("/app/runs/resume", RunRequest)
    def resume(self, request: Request, body: RunRequest) -> dict[str, Any]:
        """The same command again, where it was given before.

        It is made from the recipe and the settings once more: whatever a folder from elsewhere names as its command,
        nothing but `crawl2chat run` is started.
        """
        self._require_right(request)
        run, launch = self._started_run(body.name)
        again = RecipeRequest(recipe=launch.recipe, settings=launch.settings)
        file, wanted = self._find(again, launch.cwd)
        if problems := self._problems(file, wanted):
            raise bad_request("\n".join(problems), code="wrong_settings")
        with file_errors():
            self._launch(run, again, wanted, launch.cwd)
        return {"name": body.name}

    @post("/app/runs/stop", RunRequest)
    def stop(self, request: Request, body: RunRequest) -> dict[str, Any]:
        self._require_right(request)
        run, _ = self._started_run(body.name)
        with file_errors():
            return {"name": body.name, "signal": self.processes.stop(run)}

    @get("/app/runs/list")
    def runs(self, request: Request) -> dict[str, Any]:
        """The runs in the folder of this one: those that are running first, then the latest ones."""
        self.processes.reap()
        if self.shown is None:
            return {"runs": [], "left_out": 0}
        with file_errors():
            described = sorted((self._describe(run) for run in self._folder.iterdir() if _is_run(run)), key=_order)
        return {"runs": described[:MOST_RUNS], "left_out": max(0, len(described) - MOST_RUNS)}

    @post("/app/runs/log", RunRequest)
    def log(self, request: Request, body: RunRequest) -> dict[str, Any]:
        run, _ = self._started_run(body.name)
        return {"lines": log_lines(run, LOG_LINES)}

    def _launch(self, run: Path, body: RecipeRequest, wanted: Wanted, cwd: str) -> None:
        arguments = wanted.run(_as_typed(run, Path(cwd)))
        launch = Launch(
            recipe=body.recipe, settings=body.settings, cwd=cwd, command=_typed(arguments), began=time.time()
        )
        self.processes.start(run, launch, arguments)

    def _describe(self, run: Path) -> dict[str, Any]:
        launch = read_launch(run)
        state = state_of(run, launch) if launch else None
        made = [name for name in STAGE_NAMES if (run / name / MANIFEST).exists()]
        at = next((name for name in STAGE_NAMES if name not in made and (run / name / STARTED).exists()), None)
        command = launch.command if launch else _typed(["run", _as_typed(run / RECIPE), "--out", _as_typed(run)])
        has_model = any(stage.makes for stage in STAGES if stage.name in made)
        last = last_sign(run, launch) if launch else run.stat().st_mtime
        end = time.time() if state in RUNNING else last
        return {
            "name": run.name, "shown": run == self.shown, "state": state or ("begun" if at else "made"),
            "by_app": launch is not None, "stages": made, "at": at, "command": command,
            "cwd": launch.cwd if launch and launch.cwd != os.getcwd() else None,
            "lines": log_lines(run, LAST_LINES if state in ("failed", "interrupted") else 1) if launch else [],
            "seconds": round(max(0.0, end - launch.began)) if launch else None,  # since it was last started
            "age": round(max(0.0, time.time() - last)),
            "opened_by": _typed(["app", _as_typed(run), "--port", "0"]) if has_model else None,
        }  # fmt: skip

    def _refusal(self) -> str | None:
        if self.starter is None or self.shown is None:
            return "runs are started in the folder of a run; open the app on one: crawl2chat app RUN"
        return self.starter.refusal

    def _require_right(self, request: Request) -> None:
        """Refuse what starts or stops a process unless it comes from our own page, or a program, on this machine.

        The middleware lets in pages of other servers on this machine, and those of --allow-origin; both may ask models,
        but what a run does, such as a filter of the user's own, is any code.
        """
        reason = self._refusal()
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            reason = reason or f"pages of {origin[:100]} may not start or stop runs (header Origin)"
        if not is_loopback(request.url.hostname or ""):
            reason = reason or f"runs are started and stopped from this machine only, not as {host[:100]} (header Host)"
        if reason:
            raise ApiError(403, reason, code="not_allowed")

    @property
    def _starter(self) -> RunStarter:
        if self.starter is None:
            raise ApiError(409, str(self._refusal()), code="not_possible")
        return self.starter

    @property
    def _folder(self) -> Path:
        """The folder of all runs, in which new ones are made."""
        if self.shown is None:
            raise ApiError(409, str(self._refusal()), code="not_possible")
        return self.shown.parent

    def _recipes(self) -> dict[str, Path]:
        """Those of the package by their names, and those next to the run as recipes/NAME.toml."""
        recipes = dict(self.starter.recipes) if self.starter else {}
        if self.shown:
            recipes |= {f"{OWN}/{file.name}": file for file in sorted((self.shown.parent / OWN).glob("*.toml"))}
        return recipes

    def _find(self, body: RecipeRequest, cwd: str = "") -> tuple[Path, Wanted]:
        """The recipe's file, and what to type for it in a folder (the working directory)."""
        recipes = self._recipes()
        file = recipes.get(body.recipe)
        if file is None:
            there = ", ".join(recipes)
            raise ApiError(404, f"recipe {body.recipe[:100]}: there is none; there are {there}", code="no_such_recipe")
        named = "/" not in body.recipe and not Path(cwd, body.recipe).is_file()  # which the name would mean otherwise
        return file, Wanted(body.recipe if named else str(file), body.settings)

    def _problems(self, file: Path, wanted: Wanted) -> Sequence[str]:
        try:
            load_settings(self._starter.recipe, file, wanted.of_stages, values=wanted.of_run)
        except RecipeError as error:
            return error.problems
        return ()

    def _started_run(self, name: str) -> tuple[Path, Launch]:
        run = self._folder / name
        launch = read_launch(run) if NAME.fullmatch(name) else None
        if launch is None:
            raise ApiError(404, f"{name[:100]}: no run that was started from this page", code="no_such_run")
        return run, launch

    def _tables(self) -> dict[str, str]:
        """What each stage's table of settings is about."""
        fields = self.starter.recipe.model_fields if self.starter else {}
        return {
            name: (field.annotation.__doc__ or "").split("\n\n")[0]
            for name, field in fields.items()
            if name in STAGE_NAMES
        }


async def _plan(file: Path, wanted: Wanted) -> Response:
    paths = os.pathsep.join(path for path in sys.path if path)  # it finds this package however we found it
    process = subprocess.Popen(
        [sys.executable, "-m", "crawl2chat", *wanted.plan()], env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        printed, said = await asyncio.to_thread(process.communicate, timeout=PLAN_SECONDS)
    except subprocess.TimeoutExpired:
        raise ApiError(504, f"the plan was not ready after {PLAN_SECONDS} seconds", code="too_slow") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with those that measure for it
    if process.returncode:
        raise ApiError(409, said.strip() or f"crawl2chat plan ended with status {process.returncode}", code="no_plan")
    rows = [match.groups("") for line in printed.splitlines() if (match := PLAN_ROW.fullmatch(line))]
    brings_model = bool((_values(file) | wanted.of_run).get("model"))
    return JSONResponse({"rows": rows, "command": _typed(wanted.plan()), "brings_model": brings_model})


def _typed(arguments: Sequence[str]) -> str:
    """A command as one types it into a shell."""
    return shlex.join(["crawl2chat", *arguments])


def _as_typed(path: Path, cwd: Path | None = None) -> str:
    """A path as short as it can be typed in the working directory."""
    cwd = (cwd or Path.cwd()).resolve()
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) and path != cwd else str(path)


def _comment(file: Path) -> str:
    """The lines with which a recipe begins, and which say what it is for."""
    try:
        lines = read_text(file).splitlines()
    except (OSError, NotText):
        return ""
    comment = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in comment)[:MOST_COMMENT]


def _values(file: Path) -> dict[str, str]:
    """The settings that a recipe names, as they are typed; what is wrong with it is for `check` to say."""
    try:
        values = tomllib.loads(read_text(file))
    except (OSError, NotText, tomllib.TOMLDecodeError):
        return {}
    return {
        name: value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        for name, value in dotted(values)
    }


def _setting_in(problem: str, known: Collection[str]) -> str:
    """The setting that a problem begins with; nothing for one of a whole table, or of the recipe's file."""
    found = re.match(r"[\w.]+", problem)
    name = found[0] if found else ""
    while name and name not in known:  # a value within a list has a number behind the setting's name
        name = name.rpartition(".")[0]
    return name


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a run that any command made or has begun."""
    marks = (RECORD, RECIPE, *(f"{stage}/{mark}" for stage in STAGE_NAMES for mark in (MANIFEST, STARTED)))
    return not folder.name.startswith(".") and any((folder / mark).exists() for mark in marks)


def _order(described: Mapping[str, Any]) -> tuple[bool, float, str]:
    return described["state"] not in RUNNING, described["age"], described["name"]
