"""Import: somebody else's checkpoint becomes a run's base model, copied byte for byte and checked."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from crawl2chat.model.huggingface import on_meta, open_weights, read_config
from crawl2chat.model.weights import check_finite, weight_files
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.stage import Manifest, Stage, run_stage
from crawl2chat.stages.text_files import LFS_POINTER, read_text, what_is_wrong
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS, NO_LENGTHS, TOKENIZER, Message

IMPORT = Stage("import", ("checkpoint",), "crawl2chat.release.importing:import_checkpoint")
COPIED = (  # in addition to the weights: what describes the model, its tokenizer, and what may be done with it
    "config.json", "generation_config.json", "*.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja", "README.md", "LICENSE*", "NOTICE*",
)  # fmt: skip
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

    source: str = Field(description="the name of the folder that it was copied from")


def import_model(checkpoint: AnyPath, run: AnyPath) -> tuple[Manifest, bool]:
    """Make a folder in transformers' form the base model of `run` (`run/pretrain`), unless it is that already.

    Returns the manifest and whether there was anything to do. Raises StageError for anything but a complete dense
    Qwen3 with a tokenizer whose ids are ours.
    """
    checkpoint, run = Path(checkpoint), Path(run)
    if not checkpoint.is_dir():
        raise StageError(_no_folder(checkpoint))
    settings = ImportSettings(source=checkpoint.resolve().name)
    return run_stage(IMPORT, {"checkpoint": checkpoint}, run / "pretrain", settings)


def import_checkpoint(checkpoint: Path, out: Path, settings: ImportSettings) -> list[Figure]:
    """Check a checkpoint and copy it to `out/model`. A stage's function; `import_model` runs it."""
    if not (checkpoint / "config.json").exists():
        raise StageError(f"{checkpoint}: no config.json in it; expected a model in the form of transformers")
    config = read_config(checkpoint)
    weights = open_weights(checkpoint, config)
    for name, tensor in weights.items():
        check_finite(checkpoint, name, tensor)
    if not (checkpoint / TOKENIZER).exists():
        raise StageError(
            f"{checkpoint}: no {TOKENIZER} in it; make one with transformers: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    tokenizer = Tokenizer.load(checkpoint)
    if tokenizer.vocab_size > config.vocab_size:
        raise StageError(
            f"{checkpoint}: its tokenizer has {tokenizer.vocab_size} tokens, its model only {config.vocab_size}"
        )
    n_checked = check_ids(checkpoint / TOKENIZER, tokenizer)
    departure = departure_from_chatml(tokenizer)
    if departure:
        print(f"import: its chat template {departure}; chat and training here write plain ChatML", file=sys.stderr)
    found = [file for pattern in COPIED for file in sorted(checkpoint.glob(pattern)) if file.is_file()]
    for file in found:
        if file.read_bytes().startswith(LFS_POINTER):
            raise StageError(f"{file}: {what_is_wrong(file)}")
    with atomic_write(out / "model") as temporary:
        temporary.mkdir(parents=True)
        for file in [*found, *weight_files(checkpoint)]:
            shutil.copyfile(file, temporary / file.name)
    return [
        Figure("parameters", on_meta(config).n_parameters()),
        Figure("bytes", sum(file.stat().st_size for file in weight_files(checkpoint)), "bytes"),
        Figure("tensors", len(weights.shapes)),
        Figure("context", config.max_position_embeddings, "tokens"),
        Figure("vocab_size", tokenizer.vocab_size, "tokens"),
        Figure("texts_tokenized_alike", n_checked, "texts"),
    ]


def check_ids(file: Path, tokenizer: Tokenizer) -> int:
    """Compare our ids with those of the library that transformers encodes with; returns the number of texts.

    Texts: some in many scripts, and every token of the vocabulary that is text. Control tokens are left out of
    their tokenizer, as it would find them within text, and so are truncation and padding, which fine-tuning leaves in
    the file and which say nothing about ids. Raises StageError at the first text that differs.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise StageError(
            "import checks ids against the package tokenizers: pip install 'crawl2chat[import]'"
        ) from error
    content = json.loads(read_text(file)) | {"added_tokens": [], "post_processor": None} | NO_LENGTHS
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


def render(template: str, messages: list[Message], *, add_generation_prompt: bool) -> str:
    """Return the text that transformers would render. Raises jinja2.TemplateError, or any error of the template."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # a template from elsewhere is code from elsewhere

    class Generation(Extension):
        """transformers' tag around what a mask for training should cover; the text within is text."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)  # Jinja's own is for HTML

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    return environment.from_string(template).render(messages=messages, add_generation_prompt=add_generation_prompt)


def departure_from_chatml(tokenizer: Tokenizer) -> str:
    """Return how the template's text of plain conversations differs from that of our ids; empty if it does not."""
    for messages in CONVERSATIONS:
        expected = tokenizer.decode(tokenizer.encode_chat(messages, add_generation_prompt=True)[0])
        try:
            rendered = render(tokenizer.chat_template, messages, add_generation_prompt=True)
        except Exception as error:  # a template is a program, which may fail in any way
            return f"can't be rendered ({error})"
        if rendered != expected:
            return f"renders {rendered!r} where ChatML is {expected!r}"
    return ""


def _no_folder(checkpoint: Path) -> str:
    message = f"import: {checkpoint} is no folder"
    if len(checkpoint.parts) == 2 and not checkpoint.parent.exists():
        name = checkpoint.name
        message += (
            f"; crawl2chat fetches nothing from the hub. If it is a name there: "
            f"hf download {checkpoint} --local-dir {name}, then crawl2chat import {name} --out RUN"
        )
    return message
