"""The whole way: the recipe with a table a stage, and the run that takes the stages in order."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from crawl2chat.chat.settings import SftSettings
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.settings import PolicySettings, ReinforceSettings
from crawl2chat.stages.changes import differences, settings_that_count
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, hash_json
from crawl2chat.stages.settings import Settings, to_toml
from crawl2chat.stages.stage import Manifest, Stage, hash_path, read_manifest, run_stage
from crawl2chat.stages.user_code import source_file
from crawl2chat.tokenizer.settings import TokenizerSettings
from crawl2chat.train.settings import PretrainSettings, TrainSettings

STAGES = (
    Stage("crawl", (), "crawl2chat.crawl.stage:crawl"),
    Stage("refine", ("crawl",), "crawl2chat.refine.stage:refine"),
    Stage("tokenizer", ("refine",), "crawl2chat.tokenizer.stage:train_tokenizer"),
    Stage("pretrain", ("refine", "tokenizer"), "crawl2chat.train.pretrain:pretrain", on_all_ranks=True),
    Stage("base", ("crawl", "refine", "pretrain"), "crawl2chat.evals.base.stage:measure_base"),
    Stage("sft", ("crawl", "pretrain"), "crawl2chat.chat.sft:sft"),
    Stage("honesty", ("crawl", "refine", "pretrain", "sft"), "crawl2chat.honesty.stage:honesty"),
    Stage("reinforce", ("crawl", "honesty"), "crawl2chat.rl.stage:reinforce"),
    Stage("prefer", ("crawl", "reinforce"), "crawl2chat.rl.preferences.stage:prefer"),
)
BEFORE_PRETRAIN = ("crawl", "refine", "tokenizer")
# a checkpoint from outside brings its tokenizer; what it learned from, which base compares with, is not known
REPLACED_BY_IMPORT = ("tokenizer", "pretrain", "base")
STAGE_NAMES = tuple(stage.name for stage in STAGES)
StageName = Literal["crawl", "refine", "tokenizer", "pretrain", "base", "sft", "honesty", "reinforce", "prefer"]


class Recipe(Settings):
    """Everything that a run needs to know: one table a stage."""

    until: StageName = Field("prefer", description="last stage of the run")
    conversations: str | None = Field(
        None, description="file of conversations to fine-tune on; default: made from the fictional web"
    )
    crawl: CrawlSettings = CrawlSettings()
    refine: RefineSettings = RefineSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    pretrain: PretrainSettings = PretrainSettings()
    base: BaseSettings = BaseSettings()
    sft: SftSettings = SftSettings()
    honesty: HonestySettings = HonestySettings()
    reinforce: ReinforceSettings = ReinforceSettings()
    prefer: PreferSettings = PreferSettings()

    @model_validator(mode="after")
    def _tables_fit(self) -> "Recipe":
        last = STAGE_NAMES.index(self.until)
        for name in ("sft", "honesty"):
            table = getattr(self, name)
            if last >= STAGE_NAMES.index(name) and table.seq_len > self.pretrain.seq_len:
                raise ValueError(
                    f"{name}.seq_len = {table.seq_len} is more than the model's context, "
                    f"pretrain.seq_len = {self.pretrain.seq_len}"
                )
        if self.crawl.source == "tinyweb" or last < STAGE_NAMES.index("sft"):
            return self
        if not self.conversations:
            raise ValueError(
                f'crawl.source = "{self.crawl.source}" brings no conversations for sft; '
                "give --conversations FILE, or stop before it with --until pretrain"
            )
        if last > STAGE_NAMES.index("sft"):
            raise ValueError(
                f'crawl.source = "{self.crawl.source}" has no ledger of what is true, which {self.until} measures '
                "against; stop before it with --until sft"
            )
        return self


@dataclass(frozen=True)
class StageResult:
    """A stage of a run that is done: now, or by an earlier run that made the same."""

    stage: Stage
    manifest: Manifest
    ran: bool


@dataclass
class Step:
    """A stage as this run would take it, and what an earlier run or its own command left."""

    stage: Stage
    inputs: dict[str, Path]
    out: Path
    settings: Settings
    outside: dict[str, str]
    finished: Manifest | None
    asked: bool  # by --force or --from
    changed: list[str] = field(default_factory=list)  # what differs from the finished one

    @property
    def kept(self) -> bool:
        """Made by hand, or imported: this run does not touch it unless asked to."""
        return self.finished is not None and (self.finished.stage == "import" or self._by_hand)

    @property
    def _by_hand(self) -> bool:
        return self.finished is not None and self.finished.made_by_hand and not self.asked


def find_stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def outside_inputs(stage: Stage, settings: Settings) -> dict[str, str]:
    """Hashes of the files that a stage's settings name, so that a changed file counts as a changed input."""
    if isinstance(settings, CrawlSettings) and settings.source == "warc":
        from crawl2chat.crawl.stage import find_warcs

        return {"warc": hash_json(find_warcs(settings))}
    if isinstance(settings, RefineSettings):
        return _inputs_of_refine(settings)
    if isinstance(settings, ReinforceSettings) and settings.task:
        return {"task": hash_path(source_file(settings.task, "reinforce.task"))}
    if isinstance(settings, PreferSettings) and settings.rankings:
        return {"rankings": _hash_named(settings.rankings, "prefer.rankings", "a store that `crawl2chat rank` wrote")}
    return {}


def _inputs_of_refine(settings: RefineSettings) -> dict[str, str]:
    hashes = {}
    for i, path in enumerate(settings.blocklist):
        hashes[f"blocklist.{i}"] = _hash_named(path, "refine.blocklist", "one host per line")
    for i, reference in enumerate(settings.extra):
        hashes[f"extra.{i}"] = hash_path(source_file(reference, "refine.extra"))
    for i, path in enumerate(settings.decontaminate.against):
        hashes[f"against.{i}"] = _hash_named(path, "refine.decontaminate.against", "a file of test questions")
    if settings.classifier.model:
        folder = Path(settings.classifier.model).expanduser()
        if not folder.is_dir():
            raise StageError(f"refine.classifier.model = {folder}: no such folder; `crawl2chat classify` makes one")
        hashes["classifier"] = hash_path(folder)
    return hashes


def _hash_named(path: str, setting: str, expected: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise StageError(f"{setting} = {path}: no such file; expected {expected}")
    return hash_path(file)


def check_settings(stage: Stage, settings: Settings) -> None:
    """Notice, before any work, what would end a stage late: a file of the wrong kind, a library that is missing.

    Raises StageError with the setting's name, what was found and what was expected.
    """
    track = getattr(settings, "track", "none")
    if track != "none" and importlib.util.find_spec(track) is None:
        raise StageError(
            f"{stage.name}.track = {track}: not installed; pip install 'crawl2chat[{track}]', "
            f"or take {stage.name}.track = none"
        )
    if isinstance(settings, TrainSettings | PolicySettings) and settings.device == "cuda":
        from crawl2chat.train.devices import choose_device

        choose_device(settings)
    if isinstance(settings, RefineSettings):
        from crawl2chat.refine.stage import check_refine

        check_refine(settings)
    if isinstance(settings, PreferSettings) and settings.rankings:
        from crawl2chat.rl.preferences.collect import read_rankings

        read_rankings(Path(settings.rankings).expanduser())


def check_sources(settings: Settings) -> None:
    """Look at the WARC files that a crawl names and try some of its addresses, before an earlier crawl makes way.

    Raises StageError for a file of another format and for an address that can't be reached.
    """
    if isinstance(settings, CrawlSettings) and settings.source == "warc":
        from crawl2chat.crawl.stage import check_warcs

        check_warcs(settings)


def run_pipeline(
    recipe: Recipe, folder: AnyPath, *, first: str | None = None, force: bool = False
) -> Iterator[StageResult]:
    """Run the stages into `folder`, one at a time; yields each as it is done.

    Stages whose settings and inputs have not changed are skipped. `first` runs that stage and all later ones
    again; `force` runs all again. Says first which finished stages it will make again and why. A stage that was made
    by its own command stays unless `first` or `force` asks for it, and so does a base model that was imported.
    Files, trackers and libraries that the recipe names are checked before any work; raises StageError.
    """
    folder = Path(folder)
    steps = plan_steps(recipe, folder, first=first, force=force)
    if recipe.conversations:
        from crawl2chat.chat.conversations import read_conversations

        read_conversations(Path(recipe.conversations).expanduser())
    for step in steps:
        if not step.kept and (step.asked or step.changed or not step.finished):
            check_settings(step.stage, step.settings)
            check_sources(step.settings)
    for line in announce(steps):
        print(line, file=sys.stderr)
    with atomic_write(folder / "recipe.toml") as temporary:
        temporary.write_text(to_toml(recipe), encoding="utf-8")
    for step in steps:
        if step.kept and step.finished:
            yield StageResult(step.stage, step.finished, False)
            continue
        manifest, ran = run_stage(
            step.stage, step.inputs, step.out, step.settings, outside=step.outside, force=step.asked
        )
        yield StageResult(step.stage, manifest, ran)


def plan_steps(recipe: Recipe, folder: Path, *, first: str | None = None, force: bool = False) -> list[Step]:
    """The stages that a run of this recipe takes in `folder`, and what differs from the finished ones there.

    Only what a later stage of the run reads is crawled, refined and tokenized, unless the recipe ends there or names
    pages of its own. Raises StageError for files that are named and missing.
    """
    imported = _is_imported(folder, first)
    last = STAGE_NAMES.index(recipe.until)
    again_from = 0 if force else STAGE_NAMES.index(first) if first else len(STAGES)
    steps: list[Step] = []
    for i, stage in enumerate(STAGES[: last + 1]):
        if imported and stage.name in REPLACED_BY_IMPORT and stage.name != "pretrain":
            continue
        inputs = {} if imported and stage.name == "pretrain" else {name: folder / name for name in stage.inputs}
        if stage.name == "sft" and recipe.conversations:
            stage = from_conversations(stage)
            inputs = {"conversations": Path(recipe.conversations).expanduser(), "pretrain": folder / "pretrain"}
        out, settings = folder / stage.name, getattr(recipe, stage.name)
        outside = outside_inputs(stage, settings)
        steps.append(Step(stage, inputs, out, settings, outside, read_manifest(out), asked=i >= again_from))
    steps = _without_unread(steps, recipe)
    _compare(steps)
    return steps


def from_conversations(sft: Stage) -> Stage:
    """The stage sft when it reads a file instead of a crawl folder, so that the manifest calls it what it is."""
    return replace(sft, inputs=("conversations", "pretrain"))


def _without_unread(steps: list[Step], recipe: Recipe) -> list[Step]:
    """Leave out crawl, refine and tokenizer where every later stage that would read them is kept as it is."""
    needed: list[Step] = []
    read: set[str] = set()
    for step in reversed(steps):
        name = step.stage.name
        of_own_pages = name != "tokenizer" and recipe.crawl.source != "tinyweb"
        if name in BEFORE_PRETRAIN and not (name in read or name == recipe.until or of_own_pages):
            continue
        needed.append(step)
        if not step.kept:
            read.update(step.inputs)
    return needed[::-1]


def _compare(steps: list[Step]) -> None:
    """Note what has changed since each finished stage; what an input will be is not known before it is made."""
    to_make: set[Path] = set()
    for step in steps:
        if step.finished is None or step.asked:
            to_make.add(step.out)
            continue
        if step.finished.stage == "import":
            continue
        remade = [name for name, path in step.inputs.items() if path in to_make]
        known = {name: hash_path(path) for name, path in step.inputs.items() if name not in remade and path.exists()}
        was = vars(step.finished) | {"inputs": {n: h for n, h in step.finished.inputs.items() if n not in remade}}
        wanted = {
            "stage": step.stage.name, "settings": settings_that_count(step.settings), "inputs": known | step.outside
        }  # fmt: skip
        step.changed = differences(was, wanted)
        step.changed += [f"inputs.{name} (made in this run)" for name in remade]
        if step.changed and not step.kept:
            to_make.add(step.out)


def announce(steps: list[Step]) -> Iterator[str]:
    """What becomes of finished stages that are not as the recipe would have them, a line each."""
    for step in steps:
        name = step.stage.name
        if step.finished and step.asked:
            yield f"{name}: finished, and will be made again, as asked"
        elif step.kept and step.changed:
            yield (
                f"{name}: made by hand with `crawl2chat {name}`, so it stays as it is, though it differs in "
                f"{', '.join(step.changed)}; --from {name} makes it again"
            )
        elif step.changed and all("(made in this run)" in change for change in step.changed):
            yield f"{name}: finished, and will be made again if what it reads comes out different"
        elif step.changed:
            yield f"{name}: finished, and will be made again, since these changed: {', '.join(step.changed)}"


def _is_imported(folder: Path, first: str | None) -> bool:
    """Whether `crawl2chat import` left its base model in a run's folder."""
    manifest = read_manifest(folder / "pretrain")
    if manifest is None or manifest.stage != "import":
        return False
    if first in REPLACED_BY_IMPORT:
        raise StageError(
            f"{folder / 'pretrain'}: holds an imported model, so --from {first} has nothing to do; "
            "take --from sft, or --out another folder"
        )
    return True
