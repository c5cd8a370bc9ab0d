"""Files that are not what their names say: another format, or a download or a clone that went wrong."""

from pathlib import Path

LFS_POINTER = b"version https://git-lfs"
FORMATS = {  # by their first bytes: what it is, and what to do
    LFS_POINTER: "a Git LFS pointer, not the file itself; run `git lfs pull`",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; decompress it with `zstd -d`",
    b"BZh": "compressed with bzip2; decompress it with `bunzip2`",
    b"\xfd7zXZ": "compressed with xz; decompress it with `unxz`",
    b"PAR1": "Parquet",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
}
PICKLE = "is a PyTorch checkpoint, not safetensors; load it with transformers and save it again with save_pretrained"
MODELS = {  # what such a beginning means in a model's folder
    LFS_POINTER: "is a Git LFS pointer, not the file: run git lfs pull in its folder, or hf download NAME",
    b"PK\x03\x04": PICKLE,
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9": PICKLE,  # the magic number of PyTorch before 1.6
    b"GGUF": "is a GGUF file, not a model in the form of transformers",
}
SHOWN = 60  # bytes of a text


def format_of(head: bytes) -> str | None:
    """The well-known format of content that begins so, and what to do with it; None for text and others."""
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    return next((name for magic, name in FORMATS.items() if head.startswith(magic)), None)


def what_is_wrong(file: Path) -> str | None:
    """What a file is instead of a model's file and what to do, if that can be seen from how it begins.

    None for what may be JSON or safetensors. Raises OSError where it can't be read.
    """
    with open(file, "rb") as content:
        beginning = content.read(200)
    if not beginning:
        return "is empty: download it again"
    for mark, meaning in MODELS.items():
        if beginning.startswith(mark):
            return meaning
    shown = beginning[:SHOWN].decode("ascii", "replace").strip()
    if shown.lower().startswith(("<!doctype", "<html", "<?xml")):
        return f"is a web page, perhaps that of an error: it begins with {shown!r}; download it again"
    if shown.isprintable() and "\ufffd" not in shown and shown[:1] not in ("{", "["):
        return f"is a text that begins with {shown!r}, perhaps a server's error; download it again"
    return None
