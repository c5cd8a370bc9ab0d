"""The whole way: the recipe with a table a stage, and the run that takes the stages in order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from crawl2chat.chat.settings import SftSettings
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.evals.settings import BaseSettings
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.prefer.settings import PreferSettings
from crawl2chat.recipe import Settings, to_toml
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.reinforce.settings import ReinforceSettings
from crawl2chat.run import Manifest, Stage, StageError, hash_json, hash_path, read_manifest, replacing, run_stage
from crawl2chat.tokens.settings import TokenizerSettings
from crawl2chat.train.settings import PretrainSettings

STAGES = (
    Stage("crawl", (), "crawl2chat.crawl.stage:crawl"),
    Stage("refine", ("crawl",), "crawl2chat.refine.stage:refine"),
    Stage("tokenizer", ("refine",), "crawl2chat.tokens.stage:train_tokenizer"),
    Stage("pretrain", ("refine", "tokenizer"), "crawl2chat.train.pretrain:pretrain", on_all_ranks=True),
    Stage("base", ("crawl", "refine", "pretrain"), "crawl2chat.evals.stage:measure_base"),
    Stage("sft", ("crawl", "pretrain"), "crawl2chat.chat.sft:sft"),
    Stage("honesty", ("crawl", "refine", "pretrain", "sft"), "crawl2chat.honesty.stage:honesty"),
    Stage("reinforce", ("crawl", "honesty"), "crawl2chat.reinforce.stage:reinforce"),
    Stage("prefer", ("crawl", "reinforce"), "crawl2chat.prefer.stage:prefer"),
)
# a checkpoint from outside brings its tokenizer; what it learned from, which base compares with, is not known
REPLACED_BY_IMPORT = ("tokenizer", "pretrain", "base")
STAGE_NAMES = tuple(stage.name for stage in STAGES)
StageName = Literal["crawl", "refine", "tokenizer", "pretrain", "base", "sft", "honesty", "reinforce", "prefer"]


class Recipe(Settings):
    """Everything that a run needs to know: one table a stage."""

    until: StageName = Field("prefer", description="the last stage of the run")
    conversations: str | None = Field(
        None, description="JSON lines of conversations to fine-tune on; default: made from the fictional web"
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


def find_stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def outside_inputs(stage: Stage, settings: Settings) -> dict[str, str]:
    """Hashes of the files that a stage's settings name, so that a changed file counts as a changed input."""
    if isinstance(settings, CrawlSettings) and settings.source == "warc":
        from crawl2chat.crawl.stage import find_warcs

        return {"warc": hash_json(find_warcs(settings))}
    if isinstance(settings, RefineSettings):
        return _inputs_of_refine(settings)
    if isinstance(settings, PreferSettings) and settings.rankings:
        return {"rankings": _hash_named(settings.rankings, "prefer.rankings", "a store that `crawl2chat rank` wrote")}
    return {}


def _inputs_of_refine(settings: RefineSettings) -> dict[str, str]:
    hashes = {}
    if settings.blocklist:
        hashes["blocklist"] = _hash_named(settings.blocklist, "refine.blocklist", "one host a line")
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


def run_pipeline(
    recipe: Recipe, folder: Path, *, first: str | None = None, force: bool = False
) -> Iterator[StageResult]:
    """Run the stages into `folder`, one at a time; yields each as it is done.

    Stages whose settings and inputs have not changed are skipped. `first` runs that stage and all later ones
    anew; `force` runs all anew. Files that the recipe names are looked for before any work.
    A base model that was imported into `folder` stays, and no tokenizer is made.
    """
    imported = _imported_base(folder, first)
    if recipe.conversations:
        from crawl2chat.chat.conversations import read_conversations

        read_conversations(Path(recipe.conversations))
    outside = {stage.name: outside_inputs(stage, getattr(recipe, stage.name)) for stage in STAGES}
    with replacing(folder / "recipe.toml") as temporary:
        temporary.write_text(to_toml(recipe), encoding="utf-8")
    last = STAGE_NAMES.index(recipe.until)
    anew_from = 0 if force else STAGE_NAMES.index(first) if first else len(STAGES)
    for i, stage in enumerate(STAGES[: last + 1]):
        if imported and stage.name in REPLACED_BY_IMPORT:
            if stage.name == "pretrain":
                yield StageResult(stage, imported, False)
            continue
        inputs = {name: folder / name for name in stage.inputs}
        if stage.name == "sft" and recipe.conversations:
            stage = replace(stage, inputs=("conversations", "pretrain"))
            inputs = {"conversations": Path(recipe.conversations), "pretrain": folder / "pretrain"}
        settings = getattr(recipe, stage.name)
        manifest, ran = run_stage(
            stage, inputs, folder / stage.name, settings, outside=outside[stage.name], force=i >= anew_from
        )
        yield StageResult(stage, manifest, ran)


def _imported_base(folder: Path, first: str | None) -> Manifest | None:
    """The manifest of the base model that `crawl2chat import` left in a run's folder, if it did."""
    manifest = read_manifest(folder / "pretrain")
    if manifest is None or manifest.stage != "import":
        return None
    if first in REPLACED_BY_IMPORT:
        raise StageError(
            f"{folder / 'pretrain'}: holds an imported model, so --from {first} has nothing to do; "
            "take --from sft, or --out another folder"
        )
    return manifest
