"""Doors for a notebook or a script: run a recipe, load a model, talk to it. The command line goes through them, too.

```python
from crawl2chat import load, run

results = run("laptop", "runs/laptop", until="pretrain", pretrain={"depth": 6})
print(results["pretrain"]["held_out_bits_per_byte"])

model = load("runs/laptop")
print(model.chat("Who are you?"))
print(model.generate("Chronicle of", max_tokens=20, temperature=0.8))
```

Everything heavy is imported when it is used.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from crawl2chat.stages.files import AnyPath, StageError

if TYPE_CHECKING:
    from crawl2chat.chat.talk import Talk
    from crawl2chat.chat.tools import AnyTool
    from crawl2chat.generate import Engine, Sampling
    from crawl2chat.model import WeightForm
    from crawl2chat.stages.figures import Figure
    from crawl2chat.stages.stage import Manifest
    from crawl2chat.tokenizer import Message, Tokenizer

    Tools = bool | Sequence[str] | Mapping[str, AnyTool]

RECIPE = "laptop"  # taken where none is named
CHAT_TOKENS = 200  # maximum length of an answer, unless another is asked for


@dataclass
class Results:
    """The stages of a run that are done, in their order: `results["sft"]["last_loss"]` is a `Figure`."""

    folder: Path
    manifests: dict[str, Manifest] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)  # stages that were made now; the others were done already

    def __getitem__(self, stage: str) -> dict[str, Figure]:
        """Return the figures of a stage by their names. Raises KeyError for a stage that the run did not take."""
        return {figure.name: figure for figure in self.manifests[stage].figure_list()}


def run(
    recipe: AnyPath = RECIPE,
    out: AnyPath | None = None,
    *,
    seed: int | None = None,
    first: str | None = None,
    force: bool = False,
    **settings: Any,
) -> Results:
    """Take a recipe through all its stages, as `crawl2chat run` does, skipping those that are done.

    recipe: a TOML file, or the name of a recipe of the package (laptop, pages, gpu …). out: the run's folder (default:
    runs/NAME). seed: for every stage whose seed the recipe does not set. first, force: run that stage and all later
    ones, or all stages, again. settings: over the recipe, as `until="sft"` or `pretrain={"depth": 6}`.
    Raises RecipeError with every problem of the settings, and StageError.
    """
    from crawl2chat.stages.pipeline import Recipe, run_pipeline
    from crawl2chat.stages.settings import load_settings

    file = find_recipe(recipe)
    results = Results(Path(out) if out is not None else Path("runs") / file.stem)
    taken = load_settings(Recipe, file, values=settings, seed=seed)
    with _script_hidden():
        for result in run_pipeline(taken, results.folder, first=first, force=force):
            results.manifests[result.stage.name] = result.manifest
            if result.ran:
                results.ran.add(result.stage.name)
    return results


@contextlib.contextmanager
def _script_hidden() -> Iterator[None]:
    """Let processes that are started in the block not execute the caller's script, which would run the recipe again."""
    main = sys.modules["__main__"].__dict__
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(hidden)


def find_recipe(recipe: AnyPath | None = None) -> Path:
    """Return a recipe's file: the one that is named, else the package's of that name, with or without `.toml`.

    Raises StageError that lists the recipes of the package.
    """
    named = Path(recipe or RECIPE)
    if named.is_file():
        return named
    files = package_recipes()
    if named.parent in (Path(), Path("recipes")) and named.suffix in ("", ".toml") and named.stem in files:
        return files[named.stem]
    raise StageError(
        f"recipe {named}: no such file, and no recipe of this name; there are {', '.join(sorted(files))}, "
        "or give a TOML file of your own (`crawl2chat run --settings` lists what it may hold)"
    )


def package_recipes() -> dict[str, Path]:
    """Return the recipes that the package carries, by their names."""
    package = Path(__file__).parent
    folders = [package / "recipes", package.parents[1] / "recipes"]  # installed, and in a checkout
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}


@dataclass
class Model:
    """A model to generate with: its engine, where it is from, and which stage made it, if one did."""

    engine: Engine
    folder: Path
    stage: str | None

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer

    @property
    def is_base(self) -> bool:
        """Whether it continues texts and has never seen a conversation."""
        return self.stage == "pretrain"

    @overload
    def generate(self, prompts: str, **sampling: Any) -> str: ...

    @overload
    def generate(self, prompts: Sequence[str], **sampling: Any) -> list[str]: ...

    def generate(self, prompts: str | Sequence[str], **sampling: Any) -> str | list[str]:
        """Continue a text, or several as one batch; returns what the model adds to each.

        sampling: fields of `generate.Sampling`, such as `temperature=0.8, max_tokens=20, stop=("\\n",)`.
        Raises ValueError for impossible settings and for a prompt that leaves no room in the context.
        """
        from crawl2chat.generate import Sampling

        several = [prompts] if isinstance(prompts, str) else list(prompts)
        texts = [completion.text for completion in self.engine.generate(several, Sampling(**sampling))]
        return texts[0] if isinstance(prompts, str) else texts

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        system: str | None = None,
        tools: Tools = False,
        documents: AnyPath | None = None,
        write: Callable[[str], object] = lambda text: None,
        **sampling: Any,
    ) -> str:
        """Return the answer to a question, or to a conversation that ends with one.

        messages: a text, or `[{"role": "user", "content": …}, …]`. system: a system message at the beginning.
        tools: True for a search and, if the model can call it, the calculator; or their names
        (`chat.toolbox.BUILT_IN`); or functions by name that get what was asked and a call's arguments, and return text.
        documents: what the search looks in (default: the run's).
        write: is called with each piece of text as it is written.
        sampling: fields of `generate.Sampling`; at temperature 0, the default, equal questions get equal answers.
        A base model is shown a page on which a helper answers.
        Raises StageError for tools that the model can't have, and ValueError for impossible settings and for messages
        that leave no room in the context.
        """
        from crawl2chat.chat.tools import final_text
        from crawl2chat.generate import Sampling

        talk = start_talk(
            self, Sampling(**{"temperature": 0.0, "max_tokens": CHAT_TOKENS} | sampling), tools, documents
        )
        said: list[Message] = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        return final_text(talk.answer([*talk.opening(system), *said], write).messages)


def load(
    place: AnyPath,
    stage: str | None = None,
    *,
    context: int | None = None,
    max_batch: int | None = None,
    memory: int | None = None,
    weights: WeightForm | None = None,
) -> Model:
    """Load a model to generate with, not to train.

    place: a run's folder, a stage's, or one in Hugging Face's form. stage: which of a run's models ("base", "sft" …;
    default: the best assistant by its check-up). context: maximum length of prompt plus answer; max_batch: texts at a
    time; memory: bytes for their keys and values. weights: the form in which matrices are kept, "float32", "bfloat16"
    or "int8" (default: as they are stored).
    Raises StageError if the model does not exist.
    """
    folder, made_by = find_model(Path(place), stage)
    engine = read_engine(folder, context=context, max_batch=max_batch, memory=memory, weights=weights)
    return Model(engine, folder, made_by)


def start_talk(
    model: Model,
    sampling: Sampling,
    tools: Tools = False,
    documents: AnyPath | None = None,
    *,
    vectors: AnyPath | None = None,
    always: bool = False,
) -> Talk:
    """Return the way to ask a model.

    tools: as `Model.chat` takes them. documents: what a search looks in (default: the run's). vectors: a folder with
    embeddings of model2vec's, to rank by as well. always: look each question up before the model reads it; so it is
    for a model whose chat template offers no tools.
    Raises StageError for tools that the model can't have, and for a search without documents.
    """
    from crawl2chat.chat.talk import Talk
    from crawl2chat.chat.tools import offer_form, taught_offer
    from crawl2chat.honesty.search import find_documents, find_tools

    form = offer_form(model.stage, taught_offer(model.folder / "conversations.jsonl"), model.tokenizer)
    if tools and model.is_base:
        raise StageError("tools: a base model can't call any; take a later stage")
    if isinstance(tools, Mapping):
        return Talk(model.engine, sampling, base=model.is_base, tools=tools, offers=form or "names")
    every = ["search"] if form is None else ["search", "calculator"]
    names = every if tools is True else list(tools or ())
    reads = None
    if always or (form is None and "search" in names):
        reads = find_documents(model.folder, documents, vectors)
        names = [name for name in names if name != "search"]
    if names and form is None:
        raise StageError(f"tools: this model's chat template offers none, so it can't be given {', '.join(names)}")
    chosen, address = find_tools(model.folder, names, form, documents, vectors)
    return Talk(
        model.engine, sampling, base=model.is_base, tools=chosen, offers=form, address=address, reads=reads
    )  # fmt: skip


def find_model(run: Path, stage: str | None = None) -> tuple[Path, str | None]:
    """Return the folder of a model and the stage that made it, if one did ("import" for one from outside).

    Of a run without `stage`: the best assistant by its check-ups, or its base model where no assistant was trained.
    Raises StageError where there is none, or one that was made from an earlier state of the run.
    """
    from crawl2chat.chat.assistant import assistants, best_of
    from crawl2chat.stages.stage import is_current, read_manifest
    from crawl2chat.stages.table import CHAT_STAGES

    if run.is_file():
        raise StageError(
            f"{run}: is a file; expected a run's folder, such as runs/laptop, or a model's (config.json, safetensors)"
            + (" (GGUF files are not read)" if run.suffix == ".gguf" else "")
        )
    if not run.is_dir():
        raise StageError(f"{run}: there is no such folder; expected a run's, such as runs/laptop, or a model's")
    if stage:
        folder = run / ("pretrain" if stage == "base" else stage)
        manifest = read_manifest(folder)
        if not manifest:
            raise StageError(f"{run}: has no finished model of the stage {stage}")
        if not is_current(run, manifest):
            raise StageError(
                f"{folder}: made from an earlier state of the run; run it again, or name this folder itself"
            )
        return folder, manifest.stage
    choices = assistants(run)
    for name in CHAT_STAGES:
        if read_manifest(run / name) and all(choice.folder.name != name for choice in choices):
            print(f"{run / name}: made from an earlier state of the run, so left out", file=sys.stderr)
    if best := best_of(choices):
        if best.folder != choices[-1].folder:
            scores = ", ".join(f"{choice.folder.name} {choice.score:.0%}" for choice in choices if choice.score)
            print(
                f"(the stage {best.folder.name}, the best assistant by the run's check-ups: {scores})", file=sys.stderr
            )
        return best.folder, best.manifest.stage
    base = read_manifest(run / "pretrain")
    if base and is_current(run, base):
        return run / "pretrain", base.stage
    manifest = read_manifest(run)
    return run, manifest.stage if manifest else None


def name_of(run: Path, folder: Path) -> str:
    """Return what a model is called after its folders, such as laptop-sft."""
    return "-".join(dict.fromkeys([run.resolve().name, folder.resolve().name]))


def read_engine(
    folder: Path,
    *,
    context: int | None = None,
    max_batch: int | None = None,
    memory: int | None = None,
    weights: WeightForm | None = None,
    keep_model: bool = False,
) -> Engine:
    """Return the engine of the model in a folder, with these limits where they are given; to generate with.

    weights: as in `load`. keep_model: leave its model whole next to the engine's own copy of the matrices, to look
    into.
    Raises StageError for a limit that the model can't have.
    """
    from crawl2chat.generate import Engine
    from crawl2chat.model import load_to_generate
    from crawl2chat.tokenizer import Tokenizer

    model, form = load_to_generate(folder, weights, keep_model=keep_model)
    limits = {"context": context, "max_batch": max_batch, "memory": memory}
    given: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    try:
        return Engine(model, Tokenizer.load(folder), empties_model=not keep_model, weights=form, **given)
    except ValueError as error:
        raise StageError(str(error)) from error
