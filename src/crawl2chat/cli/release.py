"""The commands that take models out and in: export, its check, and import."""

import argparse
import re
from pathlib import Path

from crawl2chat.api import find_model, name_of
from crawl2chat.cli.arguments import Add, add_model, size
from crawl2chat.stages.disks import check_writable
from crawl2chat.stages.files import StageError


def licence(text: str) -> str:
    """A type for argparse: a licence's identifier in the form that hubs and SPDX write."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected an identifier such as apache-2.0 or cc-by-4.0; `other` for a licence of your own"
        )
    return text


def add_export(add: Add) -> None:
    export = add(
        "export", "write a model for transformers or llama.cpp", export_command,
        example="runs/laptop --out release --gguf model.gguf",
    )  # fmt: skip
    add_model(export)
    export.add_argument("--out", type=Path, metavar="DIR", help="a new folder: weights, tokenizer, model card")
    export.add_argument(
        "--gguf", type=Path, metavar="FILE", help="a single file for llama.cpp and programs built on it"
    )
    export.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16", "q8_0"),
        help="data type of the weights (default: as stored); q8_0 only for GGUF",
    )  # fmt: skip
    export.add_argument(
        "--max-shard-size", type=size, default="5GB", metavar="SIZE",
        help="maximum size of one weight file, such as 500MB (5GB)",
    )  # fmt: skip
    export.add_argument(
        "--name", metavar="NAME", help="the model's name in its card and in GGUF (default: from the folders)"
    )
    export.add_argument(
        "--license", type=licence, metavar="ID", help="licence to state in the card, such as apache-2.0 (none)"
    )
    export.add_argument(
        "--data-license", type=licence, metavar="ID", help="licence of the training data to state in the card"
    )
    export.add_argument(
        "--data-statement", type=Path, metavar="FILE", help="Markdown file to include as the card's data statement"
    )


def export_command(options: argparse.Namespace) -> int:
    from crawl2chat.model.huggingface import model_folder
    from crawl2chat.release.export import export_folder
    from crawl2chat.release.gguf_file import write_gguf
    from crawl2chat.release.verify import write_checksums

    if not options.out and not options.gguf:
        raise StageError("export: say where to: --out DIR for transformers, --gguf FILE for llama.cpp, or both")
    if options.out and options.dtype == "q8_0":
        raise StageError("export --dtype q8_0 is for --gguf FILE alone; leave --out away or take another type")
    for place in filter(None, (options.out, options.gguf)):
        check_writable(place)
    folder, _ = find_model(options.model, options.stage)
    name = options.name or name_of(options.model, folder)
    statement = _read_statement(options.data_statement)
    if options.out:
        export_folder(
            folder, options.out, name=name, dtype=options.dtype, shard_bytes=options.max_shard_size,
            licence=options.license, data_licence=options.data_license, statement=statement,
        )  # fmt: skip
        print(f"transformers: {options.out}")
    if options.gguf:
        kind = write_gguf(model_folder(folder), options.gguf, options.dtype, name=name, licence=options.license)
        if options.out and options.gguf.resolve().parent == options.out.resolve():
            write_checksums(options.out)  # now that the release has this file, too
        print(f"GGUF ({kind}): {options.gguf}")
    return 0


def _read_statement(file: Path | None) -> str | None:
    from crawl2chat.stages.text_files import NotText, read_text

    try:
        return read_text(file) if file else None
    except (OSError, NotText) as error:
        raise StageError(f"export --data-statement {file}: can't be read: {error}") from error


IMPORT_NOTES = """\
The model is checked (sizes, weights, tokenizer, chat template) and copied as it is to RUN/pretrain; every command
and stage then works on RUN. Not supported: mixtures of experts, models with vision or audio, quantised and pickled
weights, encoders.
Of an adapter (LoRA, rsLoRA, DoRA) the base is copied to RUN/pretrain/base, and the adapter to RUN/pretrain/model;
`export` merges them.
Names on the hub are downloaded by huggingface_hub into its cache; HF_HOME, HF_ENDPOINT and HF_TOKEN are honoured.
After a download that was cut, files that are complete are not downloaded again.

"""


def add_import(add: Add) -> None:
    imported = add(
        "import", "start a run from a model that exists: Llama, Mistral, Qwen2, Qwen3 and their like", import_command,
        example="HuggingFaceTB/SmolLM2-135M-Instruct --out runs/mine",
    )  # fmt: skip
    imported.add_argument(
        "checkpoint", metavar="MODEL",
        help="a folder in transformers' form or of a PEFT adapter, a GGUF file, or a name on the hub (ORG/NAME); "
        "a folder of that name comes first",
    )  # fmt: skip
    imported.epilog = f"{IMPORT_NOTES}{imported.epilog}"
    imported.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    imported.add_argument(
        "--base", metavar="MODEL",
        help="for an adapter: the model that it was trained on, as a folder, GGUF file or name on the hub "
        "(default: what its adapter_config.json names)",
    )  # fmt: skip
    imported.add_argument(
        "--revision", metavar="REVISION",
        help="for a name on the hub: a branch, a tag or a commit (default: the main branch)",
    )  # fmt: skip
    imported.add_argument(
        "--tools", action="store_true",
        help="for a chat template that offers no tools: make it offer them, in words, so that the model can be taught "
        "to call them",
    )  # fmt: skip


def import_command(options: argparse.Namespace) -> int:
    from crawl2chat.release.importing import import_model
    from crawl2chat.report import print_stage

    manifest, ran = import_model(
        options.checkpoint, options.out, revision=options.revision, base=options.base, tools=options.tools
    )
    print_stage(options.out / "pretrain", manifest, ran)
    return 0


def add_verify(add: Add) -> None:
    verify = add(
        "verify-release", "load an exported folder in transformers and compare the two", verify_command,
        example="release",
    )  # fmt: skip
    verify.add_argument("release", type=Path, metavar="DIR", help="a folder that `crawl2chat export --out` wrote")


def verify_command(options: argparse.Namespace) -> int:
    from crawl2chat.release.verify import verify_release

    checks = verify_release(options.release)
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{'ok' if check.ok else 'FAILED':8}{check.name:{width + 2}}{check.found}")
    return 0 if all(check.ok for check in checks) else 1
