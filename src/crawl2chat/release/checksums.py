"""What a release's files were when it was made: SHA256SUMS, which `sha256sum -c` reads, too."""

import re
from pathlib import Path

from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import hash_path
from crawl2chat.stages.text_files import NotText, read_text

SUMS = "SHA256SUMS"
OWN_WORDS = "README.md"  # the card, which people go on writing


def write_checksums(folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.name not in (SUMS, OWN_WORDS))
    (folder / SUMS).write_text("".join(f"{hash_path(file)}  {file.name}\n" for file in files), encoding="utf-8")


def check_checksums(folder: Path) -> str:
    """Raises StageError for files that changed, went or came since the release was made, and where no list is there."""
    try:
        lines = read_text(folder / SUMS).splitlines()
    except (OSError, NotText) as error:
        raise StageError(f"{SUMS} can't be read, so whether files have changed is not known: {error}") from error
    listed, changed = {SUMS, OWN_WORDS}, []
    for line in lines:
        found = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if not found:
            raise StageError(f"{SUMS} has the line {line!r}; expected a sha256, two blanks and a file's name")
        file = folder / found[2]
        listed.add(file.name)
        if not file.is_file() or hash_path(file) != found[1]:
            changed.append(found[2])
    if changed:
        raise StageError(f"not as they were exported: {', '.join(changed)}; export or download them anew")
    # what a hub or an editor keeps in a folder begins with a dot
    added = sorted(file.name for file in folder.iterdir() if file.name not in listed and file.name[0] != ".")
    if added:
        raise StageError(f"not exported, and loaders may take it for a part: {', '.join(added)}; remove it")
    return f"{len(lines)} files as they were exported; {OWN_WORDS} is not among them, as people go on writing it"
