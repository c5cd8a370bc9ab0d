"""The whole way: the recipe with one table per stage, and the run that takes the stages in order."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from crawl2chat.chat.settings import SftSettings
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.stages.checks import check_inputs, check_settings, check_sources, outside_inputs
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.stages.settings import Settings, to_toml
from crawl2chat.stages.stage import (
    Manifest,
    Stage,
    differences,
    hash_path,
    input_name,
    read_manifest,
    run_stage,
    settings_that_count,
    with_defaults,
)
from crawl2chat.stages.table import (
    BEFORE_PRETRAIN,
    FILES,
    REPLACED_BY_IMPORT,
    STAGE_NAMES,
    STAGES,
    SYNTHESIZED,
    find_stage,
)
from crawl2chat.stages.user_code import source_file
from crawl2chat.synthesis.settings import SynthesizeSettings
from crawl2chat.tokenizer.stage import TokenizerSettings
from crawl2chat.train.settings import PretrainSettings

__all__ = ["STAGES", "STAGE_NAMES", "Recipe", "find_stage", "run_pipeline"]


def _is_stage(name: str) -> str:
    if name not in STAGE_NAMES:
        raise ValueError(f"must be one of {', '.join(STAGE_NAMES)}")
    return name


StageName = Annotated[str, AfterValidator(_is_stage)]
BY_DEFAULT = "default: the made-up web's, if it is the source"  # of files


class Recipe(Settings):
    """Everything that a run needs to know: files for the stages after pretraining, and one table per stage."""

    until: StageName = Field("prefer", description="last stage of the run")
    model: str | None = Field(
        None,
        description="model to begin with in place of pretraining one: a folder, a GGUF file, or ORG/NAME on the hub, "
        "as `crawl2chat import` takes it",
    )
    conversations: str | None = Field(None, description=f"file of conversations for the stage sft; {BY_DEFAULT}")
    questions: str | None = Field(
        None, description=f"file of questions for the stage honesty, which sft also measures with; {BY_DEFAULT}"
    )
    problems: str | None = Field(
        None, description=f"file of problems for the stage reinforce; sft and honesty measure with it; {BY_DEFAULT}"
    )
    prompts: str | None = Field(None, description=f"file of prompts for the stage prefer; {BY_DEFAULT}")
    crawl: CrawlSettings = CrawlSettings()
    refine: RefineSettings = RefineSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    pretrain: PretrainSettings = PretrainSettings()
    base: BaseSettings = BaseSettings()
    synthesize: SynthesizeSettings = SynthesizeSettings()
    sft: SftSettings = SftSettings()
    honesty: HonestySettings = HonestySettings()
    reinforce: ReinforceSettings = ReinforceSettings()
    prefer: PreferSettings = PreferSettings()

    def file_of(self, kind: str, folder: Path) -> Path | None:
        """The file of a kind such as "questions": the one that is named, or one that the run makes in its folder."""
        if named := getattr(self, kind):
            return Path(named).expanduser()
        if kind in SYNTHESIZED and self.synthesizes:
            return folder / "synthesize" / f"{kind}.jsonl"
        return folder / "crawl" / f"{kind}.jsonl" if self.crawl.source == "tinyweb" else None

    @property
    def synthesizes(self) -> bool:
        """Whether a model that is brought writes the questions or conversations that the recipe does not name."""
        brought = bool(self.model or self.synthesize.url) and self.crawl.source not in ("tinyweb", "none")
        return brought and not all(getattr(self, kind) for kind in SYNTHESIZED)

    def input_of(self, stage: Stage, kind: str, folder: Path) -> Path | None:
        """The file of a kind that a stage reads; code that `reinforce.task` names stands in for a file of problems."""
        if stage.name == "reinforce" and kind == "problems" and self.reinforce.task and not self.file_of(kind, folder):
            return source_file(self.reinforce.task, "reinforce.task")
        return self.file_of(kind, folder)

    def left_out(self) -> dict[str, str]:
        """The stages that this recipe brings no file for, and the kind of file that would bring each in."""
        wanted = STAGES[: STAGE_NAMES.index(self.until) + 1]
        return {s.name: n for s in wanted for n in s.inputs if n in FILES and not self.input_of(s, n, Path())}


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
    _import_model(recipe, folder)
    steps = plan_steps(recipe, folder, first=first, force=force)
    imported = any(step.finished is not None and step.finished.stage == "import" for step in steps)
    _check_lengths(recipe, folder / "pretrain" if imported else None)
    check_files(recipe)
    for step in steps:
        if not step.kept and (step.asked or step.changed or not step.finished):
            check_settings(step.stage, step.settings)
            check_sources(step.settings)
    for line in (*announce(steps), *announce_left_out(recipe)):
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
    if recipe.crawl.source == "none" and not imported:
        raise StageError(
            f"crawl.source = none: {folder} holds no imported model to begin with; `crawl2chat import MODEL --out "
            f"{folder}` brings one"
        )
    left_out = recipe.left_out()
    last = STAGE_NAMES.index(recipe.until)
    again_from = 0 if force else STAGE_NAMES.index(first) if first else len(STAGES)
    steps: list[Step] = []
    model = "pretrain"  # whose model the next stage goes on with
    for i, stage in enumerate(STAGES[: last + 1]):
        if recipe.crawl.source == "none" and stage.name in ("crawl", "refine"):
            continue
        if stage.name == "synthesize" and not recipe.synthesizes:
            continue
        if stage.name in left_out or (imported and stage.name in REPLACED_BY_IMPORT and stage.name != "pretrain"):
            continue
        stage, inputs = _with_inputs(stage, recipe, folder, model)
        if imported and stage.name == "pretrain":
            inputs = {}
        out, settings = folder / stage.name, getattr(recipe, stage.name)
        outside = outside_inputs(settings)
        steps.append(Step(stage, inputs, out, settings, outside, read_manifest(out), asked=i >= again_from))
        model = stage.name if stage.makes else model
    steps = _without_unread(steps, recipe)
    _compare(steps)
    return steps


def _import_model(recipe: Recipe, folder: Path) -> None:
    """Make the model that the recipe names the base model of the run, unless it is that already by its name."""
    if not recipe.model:
        return
    from crawl2chat.release.importing import import_model

    place, manifest = Path(recipe.model).expanduser(), read_manifest(folder / "pretrain")
    source = str(manifest.settings["source"]) if manifest and manifest.stage == "import" else ""
    if source.split("@")[0] not in (recipe.model, place.resolve().name):
        import_model(place, folder)


def _check_lengths(recipe: Recipe, imported: Path | None) -> None:
    """Raise StageError if a stage is to train on longer rows than the model reads, be it the recipe's or imported."""
    context, source = recipe.pretrain.seq_len, "pretrain.seq_len"
    if imported:
        from crawl2chat.model.huggingface import model_folder, read_config

        folder = model_folder(imported)
        context, source = read_config(folder).max_position_embeddings, f"that of {folder}"
    left_out = recipe.left_out()
    too_long = [
        f"{name}.seq_len = {getattr(recipe, name).seq_len} is more than the model's context, {source} = {context}"
        for name in STAGE_NAMES[: STAGE_NAMES.index(recipe.until) + 1]
        if name in ("sft", "honesty") and name not in left_out and getattr(recipe, name).seq_len > context
    ]
    if too_long:
        raise StageError("; ".join(too_long))


def _with_inputs(stage: Stage, recipe: Recipe, folder: Path, model: str) -> tuple[Stage, dict[str, Path]]:
    """The stage with the name of the model that it goes on with, and where its inputs are."""
    stage = replace(stage, inputs=tuple(model if name == "model" else name for name in stage.inputs))
    inputs: dict[str, Path] = {}
    own = any(
        getattr(recipe, name) for name in stage.inputs if name in FILES
    )  # then the made-up web's don't go with it
    for name in (*stage.inputs, *stage.optional):
        if name == "refine" and recipe.crawl.source == "none":
            continue
        if stage.name == "synthesize" and name == "pretrain" and recipe.synthesize.url:
            continue  # a model on a server writes
        file = recipe.input_of(stage, name, folder) if name in FILES else folder / name
        if file and not (own and name in FILES and not getattr(recipe, name)):
            inputs[name] = file
    return stage, inputs | files_beside(inputs, made=recipe.crawl.source == "tinyweb" and folder / "crawl")


def files_beside(inputs: Mapping[str, Path], made: Path | Literal[False] = False) -> dict[str, Path]:
    """Files that stages find by themselves next to their inputs, and so count as inputs: refusals, and a taste.

    made: a folder of which they are going to be made, if they are not there yet.
    """
    beside = {FILES[name]: path.parent / FILES[name] for name, path in inputs.items() if FILES.get(name)}
    return {name: path for name, path in beside.items() if path.is_file() or path.parent == made}


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
            read.update(
                path.name if path.parent == step.out.parent else path.parent.name for path in step.inputs.values()
            )
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
        called = {input_name(name, path, step.out): path for name, path in step.inputs.items()}
        remade = [name for name, path in called.items() if path in to_make or path.parent in to_make]
        known = {name: hash_path(path) for name, path in called.items() if name not in remade and path.exists()}
        was = with_defaults(vars(step.finished), step.settings) | {
            "inputs": {n: h for n, h in step.finished.inputs.items() if n not in remade}
        }
        wanted = {
            "stage": step.stage.name, "settings": settings_that_count(step.settings), "inputs": known | step.outside
        }  # fmt: skip
        step.changed = differences(was, wanted)
        step.changed += [f"inputs.{name} (made in this run)" for name in remade]
        if step.changed and not step.kept:
            to_make.add(step.out)


def announce(steps: list[Step]) -> Iterator[str]:
    """What becomes of finished stages that are not as the recipe would have them, one line each."""
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


def announce_left_out(recipe: Recipe) -> Iterator[str]:
    """Files that no stage of this run reads; and stages left out, with the files that would bring them in."""
    wanted = STAGES[: STAGE_NAMES.index(recipe.until) + 1]
    read = {name for stage in wanted for name in (*stage.inputs, *stage.optional)}
    if unread := [f"{kind} = {getattr(recipe, kind)}" for kind in FILES if getattr(recipe, kind) and kind not in read]:
        yield f"not read, since the run ends with {recipe.until} (--until): {', '.join(unread)}"
    left_out = recipe.left_out()
    if left_out:
        stages = ", ".join(f"{stage} (needs --{kind} FILE)" for stage, kind in left_out.items())
        yield f"left out, since the recipe names no file for them: {stages}"


def check_files(recipe: Recipe) -> None:
    """Read the files that the recipe names, so that what is wrong with one shows before any work.

    Raises StageError that names the file, the lines and what was expected.
    """
    for stage in STAGES[: STAGE_NAMES.index(recipe.until) + 1]:
        if stage.name not in recipe.left_out():
            kinds = [kind for kind in FILES if kind in (*stage.inputs, *stage.optional)]
            made = FILES if recipe.crawl.source == "tinyweb" else SYNTHESIZED if recipe.synthesizes else ()
            brought = [kind for kind in kinds if getattr(recipe, kind) or kind not in made]
            files = {kind: recipe.input_of(stage, kind, Path()) for kind in brought}
            named = {kind: file for kind, file in files.items() if file}
            check_inputs(stage, named, getattr(recipe, stage.name))


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
