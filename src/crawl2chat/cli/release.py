"""What the commands do that take models out and in: export, its check, and import."""

import argparse
from pathlib import Path

from crawl2chat.cli.run import find_model, name_of
from crawl2chat.stages.disks import check_writable


def export_command(options: argparse.Namespace) -> int:
    from crawl2chat.model.huggingface import model_folder
    from crawl2chat.release.export import export_folder
    from crawl2chat.release.gguf_file import write_gguf
    from crawl2chat.release.verify import write_checksums
    from crawl2chat.stages.files import StageError

    if not options.out and not options.gguf:
        raise StageError("export: say where to: --out DIR for transformers, --gguf FILE for llama.cpp, or both")
    if options.out and options.dtype == "q8_0":
        raise StageError("export --dtype q8_0 is for --gguf FILE alone; leave --out away or take another type")
    for place in filter(None, (options.out, options.gguf)):
        check_writable(place)
    folder, _ = find_model(options)
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
    from crawl2chat.stages.files import StageError
    from crawl2chat.stages.text_files import NotText, read_text

    try:
        return read_text(file) if file else None
    except (OSError, NotText) as error:
        raise StageError(f"export --data-statement {file}: can't be read: {error}") from error


def import_command(options: argparse.Namespace) -> int:
    from crawl2chat.release.importing import import_model
    from crawl2chat.report import print_stage

    manifest, ran = import_model(options.checkpoint, options.out)
    print_stage(options.out / "pretrain", manifest, ran)
    return 0


def verify_command(options: argparse.Namespace) -> int:
    from crawl2chat.release.verify import verify_release

    checks = verify_release(options.release)
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{'ok' if check.ok else 'FAILED':8}{check.name:{width + 2}}{check.found}")
    return 0 if all(check.ok for check in checks) else 1
