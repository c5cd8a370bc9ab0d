"""Import: somebody else's checkpoint becomes a run's base model, copied byte for byte and checked."""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from pydantic import Field

from crawl2chat.model.adapters import CONFIG as ADAPTER
from crawl2chat.model.adapters import LINK, AdaptedWeights, has_adapter, hash_weights, read_adapter
from crawl2chat.model.adapters import WEIGHTS as ADAPTER_WEIGHTS
from crawl2chat.model.huggingface import on_meta, open_weights, read_config
from crawl2chat.model.weights import INDEX, ONE_FILE, check_finite, weight_files
from crawl2chat.release.hub import download, is_hub_name
from crawl2chat.release.vocabularies import VOCABULARIES, make_tokenizer
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, read_json_object, write_json
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.stage import Manifest, Stage, run_stage
from crawl2chat.stages.text_files import LFS_POINTER, read_text, what_is_wrong
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.huggingface import FILES as TOKENIZER_FILES
from crawl2chat.tokenizer.huggingface import NO_LENGTHS, TEMPLATE, TOKENIZER
from crawl2chat.tokenizer.probing import check_rules
from crawl2chat.tokenizer.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, PLAIN_TEMPLATE, Message
from crawl2chat.tokenizer.tools_in_words import with_tools

IMPORT = Stage("import", ("checkpoint",), "crawl2chat.release.importing:import_checkpoint", optional=("base",))
COPIED = (  # in addition to the weights: what describes the model, its tokenizer, and what may be done with it
    "config.json", "generation_config.json", "*.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja", "README.md", "LICENSE*", "NOTICE*",
)  # fmt: skip
DOWNLOADED = [*COPIED, "*.safetensors", ADAPTER]
TEXTS = (
    "The miller's daughter can't say whether it's 1842 or 12,345.67; they've gone.",
    "  two  spaces\tand tabs\n\n\nempty lines \r\n and a trailing space ",
    "def f(x: int) -> dict[str, int]:\n    return {'x': x**2, \"y\": -1}  # why\n",
    "„Straße“, naïve café, Ångström, e\u0301 and ﬁ: ΑΒΓ, Привет, שלום, مرحبا, नमस्ते, 東京, 한국어",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 \u200b\ufeff\u00a0\u3000 x² ½ Ⅷ ١٢٣ ©®™",
    "https://example.org/a?b=1&c=%20#d <p class='x'>$$$ --- *** ... !!!???",
    " ".join(CONTROL_TOKENS),
    "DON'T I'LL we'd 'S ſ's 'Tis",
)
CONVERSATIONS: tuple[list[Message], ...] = (
    [{"role": "user", "content": "Hello?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
    [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Who?"},
    ],
)


class ImportSettings(Settings):
    """Where an imported model came from."""

    source: str = Field("", description="the name of the folder that it was copied from, or ORG/NAME@COMMIT on the hub")
    tools: bool = Field(False, description="whether its chat template is made to offer tools, in words")


def import_model(
    checkpoint: AnyPath, run: AnyPath, *, revision: str | None = None, base: AnyPath | None = None, tools: bool = False
) -> tuple[Manifest, bool]:
    """Make a model the base model of `run` (`run/pretrain`), unless it is that already.

    checkpoint: a folder in transformers' form, one with PEFT's adapter, or a GGUF file; if there is no such folder, a
    name on the hub, whose files are downloaded. revision: of a name on the hub. base: the model that an adapter is for,
    in any of these forms; by default the one that the adapter's own files name. tools: make a chat template that
    offers no tools offer them, in words (`tokenizer.tools_in_words`).
    Returns the manifest and whether there was anything to do.
    Raises StageError for anything but a complete model of a supported family with a tokenizer whose ids are ours.
    """
    run = Path(run)
    with contextlib.ExitStack() as stack:
        place, source = _find(checkpoint, run, stack, revision)
        inputs = {"checkpoint": place}
        if _is_adapter(place):
            inputs["base"], its_source = _find(base or _base_of(place), run, stack)
            source = f"{source} on {its_source}"
            if _is_adapter(inputs["base"]):
                raise StageError(f"{inputs['base']}: is an adapter, too; export it, and give the export as --base")
        elif base:
            raise StageError(f"import: {checkpoint} is a whole model; --base is for adapters alone")
        whole = inputs.get("base", place)
        if not (whole / "config.json").is_file():  # before the hours that hashing any folder might take
            raise StageError(_no_config(whole))
        return run_stage(IMPORT, inputs, run / "pretrain", ImportSettings(source=source, tools=tools))


def _find(what: AnyPath, run: Path, stack: contextlib.ExitStack, revision: str | None = None) -> tuple[Path, str]:
    """The folder of a model in transformers' form, and what a manifest calls it."""
    path = Path(what)
    if path.is_dir():
        if revision is not None:
            raise StageError(f"import: {path} is a folder here; --revision is for names on the hub alone")
        inner = path / "model"
        place = inner if not (path / "config.json").exists() and (inner / "config.json").is_file() else path
        return place, path.resolve().name
    if path.is_file():
        return _convert_gguf(path, run, stack), path.name
    if is_hub_name(str(what)) and not path.parent.exists():
        folder = download(str(what), DOWNLOADED, revision=revision)
        if not (folder / TOKENIZER).exists():
            folder = download(str(what), [*DOWNLOADED, *VOCABULARIES], revision=revision)
        return folder, f"{what}@{folder.name}"
    raise StageError(f"import: {path} is not a folder")


def _convert_gguf(file: Path, run: Path, stack: contextlib.ExitStack) -> Path:
    """A temporary folder with the model of a GGUF file."""
    from crawl2chat.release.gguf_reading import convert_gguf

    if file.suffix != ".gguf":
        wrong = what_is_wrong(file) or "is a file"
        raise StageError(f"{file}: {wrong}; expected a folder, a GGUF file, or a name on the hub")
    run.mkdir(parents=True, exist_ok=True)
    converted = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=run, prefix=".gguf-"))) / "model"
    convert_gguf(file, converted)
    return converted


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).is_file() and not (folder / ONE_FILE).exists() and not (folder / INDEX).exists()


def _base_of(adapter: Path) -> Path | str:
    """Where an adapter's own files say that its base is."""
    if has_adapter(adapter):  # made here, with a link
        return read_adapter(adapter).base or ""
    named = read_json_object(adapter / ADAPTER).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise StageError(f"{adapter / ADAPTER}: names no base_model_name_or_path; give --base FOLDER")
    places = [Path(named), adapter / named]
    place = next((place for place in places if place.exists()), None)
    if place is None and not is_hub_name(named):
        raise StageError(f"{adapter / ADAPTER}: its base {named[:200]} is not here; give --base FOLDER")
    return place or named


def import_checkpoint(
    checkpoint: Path, out: Path, settings: ImportSettings, *, base: Path | None = None
) -> list[Figure]:
    """Check a checkpoint and copy it to `out/model`; of an adapter the base to `out/base`.

    A stage's function; `import_model` runs it.
    """
    whole = base or checkpoint
    found = _descriptions(whole)
    if base:
        own = _descriptions(checkpoint)
        if TOKENIZER in own:  # with its own tokens or template; then nothing is mixed
            found = {name: file for name, file in found.items() if name not in TOKENIZER_FILES}
        found |= {name: file for name, file in own.items() if name != "config.json"}
    config = read_config(whole)
    weights = open_weights(whole, config)
    for name, tensor in weights.items():
        check_finite(whole, name, tensor)
    if base:
        AdaptedWeights(weights, read_adapter(checkpoint))
    with contextlib.ExitStack() as stack:
        if TOKENIZER not in found:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for name in {*TOKENIZER_FILES, "config.json", "generation_config.json"} & found.keys():
                shutil.copyfile(found[name], made / name)
            make_tokenizer(whole, made)
            found |= {file.name: file for file in made.iterdir()}
        check_rules(found[TOKENIZER])
        tokenizer = Tokenizer.load(found[TOKENIZER].parent)
        if tokenizer.vocab_size > config.vocab_size:
            raise StageError(
                f"{found[TOKENIZER].parent}: its tokenizer has {tokenizer.vocab_size} tokens, its model only "
                f"{config.vocab_size}"
            )
        n_checked = check_ids(found[TOKENIZER], tokenizer)
        _check_template(found[TOKENIZER].parent, tokenizer)
        if settings.tools:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            found[TEMPLATE] = _offering_tools(tokenizer, checkpoint, made / TEMPLATE)
        for file in found.values():
            if file.read_bytes().startswith(LFS_POINTER):
                raise StageError(f"{file}: {what_is_wrong(file)}")
        if base:
            _copy([*_descriptions(base).values(), *weight_files(base)], out / "base")
            described = [*found.values(), checkpoint / ADAPTER, checkpoint / ADAPTER_WEIGHTS]
            _copy(described, out / "model", link={"folder": "../base", "weights": hash_weights(out / "base")})
        else:
            _copy([*found.values(), *weight_files(checkpoint)], out / "model")
    return [
        Figure("parameters", on_meta(config).n_parameters()),
        Figure("bytes", sum(file.stat().st_size for file in weight_files(whole)), "bytes"),
        Figure("tensors", len(weights.shapes)),
        Figure("context", config.max_position_embeddings, "tokens"),
        Figure("vocab_size", tokenizer.vocab_size, "tokens"),
        Figure("texts_tokenized_alike", n_checked, "texts"),
    ]


def _descriptions(folder: Path) -> dict[str, Path]:
    """The files that are copied in addition to the weights, by their names."""
    found = {file.name: file for pattern in COPIED for file in sorted(folder.glob(pattern)) if file.is_file()}
    for file in found.values():
        _check_within(folder, file)
    return found


def _copy(files: Iterable[Path], folder: Path, *, link: dict[str, str] | None = None) -> None:
    with atomic_write(folder) as temporary:
        temporary.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, temporary / file.name)
        if link:
            write_json(temporary / LINK, link)


def check_ids(file: Path, tokenizer: Tokenizer) -> int:
    """Compare our ids with those of the library that transformers encodes with; returns the number of texts.

    Texts: some in many scripts, and every token of the vocabulary that is text. Control tokens are left out of
    their tokenizer, as it would find them within text, and so are truncation and padding, which fine-tuning leaves in
    the file and which say nothing about ids. Raises StageError at the first text that differs.
    """
    content = json.loads(read_text(file)) | {"post_processor": None} | NO_LENGTHS
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in tokenizer.controls]
    try:
        theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises nothing narrower
        raise StageError(f"{file}: the tokenizers package can't read it: {error}") from error
    vocabulary = (token.decode("utf-8", errors="replace") for token in tokenizer.ranks)
    texts = [*TEXTS, *(text for text in vocabulary if "\ufffd" not in text)]
    encoded = theirs.encode_batch(texts, add_special_tokens=False)
    for text, expected, ours in zip(texts, encoded, tokenizer.encode_batch(texts), strict=True):
        if expected.ids != ours:
            raise StageError(
                f"{file}: {text!r} is {expected.ids} to the tokenizers package and {ours} here; "
                "this tokenizer can't be used"
            )
    return len(texts)


def _check_template(checkpoint: Path, tokenizer: Tokenizer) -> None:
    """Render a conversation, and say what a chat template can't do. Raises StageError for a template that fails."""
    if tokenizer.chat_template in (CHAT_TEMPLATE, PLAIN_TEMPLATE) and not has_template(tokenizer):
        form = "ChatML" if tokenizer.chat_template == CHAT_TEMPLATE else "plain text (User: … Assistant: …)"
        print(f"import: the model has no chat template, so conversations are written as {form}", file=sys.stderr)
        return
    alone, with_system, longer = CONVERSATIONS
    try:
        tokenizer.encode_chat(alone, add_generation_prompt=True)
        tokenizer.encode_chat(longer)
    except ValueError as error:
        raise StageError(f"{checkpoint}: {error}") from error
    try:
        tokenizer.encode_chat(with_system, add_generation_prompt=True)
    except ValueError as error:
        print(f"import: its chat template takes no system message ({error})", file=sys.stderr)


def _offering_tools(tokenizer: Tokenizer, checkpoint: Path, file: Path) -> Path:
    """Write the tokenizer's chat template to a file, made to offer tools. Raises StageError if it already does."""
    if tokenizer.template.reads_tools:
        raise StageError(f"{checkpoint}: its chat template offers tools already; leave --tools out")
    file.write_text(with_tools(tokenizer.chat_template), encoding="utf-8")
    return file


def has_template(tokenizer: Tokenizer) -> bool:
    """Whether the files that a tokenizer was read from hold a chat template."""
    return TEMPLATE in tokenizer.files or bool(tokenizer.config.get("chat_template"))


def _check_within(folder: Path, file: Path) -> None:
    """Raise StageError for a link to a file outside the folder, which an export would publish.

    The hub's cache is made of links to `blobs` next to its snapshots. Weights may lie anywhere: they are checked to be
    a model's.
    """
    target, allowed = file.resolve(), [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        allowed.append(folder.resolve().parent.parent / "blobs")
    if not any(target.is_relative_to(place) for place in allowed):
        raise StageError(
            f"{file}: is a link to {target}, outside its folder, and would be copied; put the file itself there"
        )


def _no_config(checkpoint: Path) -> str:
    message = f"{checkpoint}: no config.json in it; expected a model in the form of transformers"
    if files := sorted(checkpoint.glob("*.gguf")):
        return message + f", found {files[0].name}"
    return message
