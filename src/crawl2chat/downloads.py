"""Files of a model that are not what their names say, because a download or a clone went wrong."""

from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/"
PICKLE = "is a PyTorch checkpoint, not safetensors; load it with transformers and save it again with save_pretrained"
KNOWN = {  # by their first bytes
    LFS_POINTER: "is a Git LFS pointer, not the file: run git lfs pull in its folder, or hf download NAME",
    b"PK\x03\x04": PICKLE,
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9": PICKLE,  # the magic number of PyTorch before 1.6
    b"GGUF": "is a GGUF file, not a model in the form of transformers",
}
SHOWN = 60  # bytes of a text


def what_is_wrong(file: Path) -> str | None:
    """What a file is instead of a model's file and what to do, if that can be seen from how it begins.

    None for what may be JSON or safetensors. Raises OSError where it can't be read.
    """
    with open(file, "rb") as content:
        beginning = content.read(200)
    if not beginning:
        return "is empty: download it again"
    for mark, meaning in KNOWN.items():
        if beginning.startswith(mark):
            return meaning
    shown = beginning[:SHOWN].decode("ascii", "replace").strip()
    if shown.lower().startswith(("<!doctype", "<html", "<?xml")):
        return f"is a web page, perhaps that of an error: it begins with {shown!r}; download it again"
    if shown.isprintable() and "\ufffd" not in shown and shown[:1] not in ("{", "["):
        return f"is a text that begins with {shown!r}, perhaps a server's error; download it again"
    return None
