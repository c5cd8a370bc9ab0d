"""What a release's files were when it was made: SHA256SUMS, which `sha256sum -c` reads, too."""

import re
from pathlib import Path

from crawl2chat.run import StageError, hash_path

SUMS = "SHA256SUMS"
OWN_WORDS = "README.md"  # the card, which people go on writing


def write_checksums(folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.name not in (SUMS, OWN_WORDS))
    (folder / SUMS).write_text("".join(f"{hash_path(file)}  {file.name}\n" for file in files), encoding="utf-8")


def check_checksums(folder: Path) -> str:
    """Raises StageError for files that are others than when the release was made, and where nothing says what."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{SUMS} can't be read, so whether files have changed is not known: {error}") from error
    changed = []
    for line in lines:
        found = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if not found:
            raise StageError(f"{SUMS} has the line {line!r}; expected a sha256, two blanks and a file's name")
        file = folder / found[2]
        if not file.is_file() or hash_path(file) != found[1]:
            changed.append(found[2])
    if changed:
        raise StageError(f"not as they were exported: {', '.join(changed)}; export or download them anew")
    return f"{len(lines)} files as they were exported"
