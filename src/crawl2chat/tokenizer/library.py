"""Encodings by name: the public ones that are shipped, and those of folders and files."""

from functools import lru_cache
from pathlib import Path

from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.public import PUBLIC, load_public
from crawl2chat.tokenizer.tokenizer import TOKENIZER, read_encoding

STAGES = ("tokenizer", "pretrain")  # that leave one in a run's folder; the latter where the model was imported
MOST_LOADED = 8  # that of GPT-4o takes about 100 MB


@lru_cache(MOST_LOADED)
def open_encoding(place: str | Path) -> Encoding:
    """One of PUBLIC by its name (gpt2, or r50k_base as tiktoken calls it), else that of a folder or `tokenizer.json`.

    The folder may be a run's, a stage's or a model's. Raises StageError when there is none, and as `read_encoding`.
    """
    name = next((name for name, public in PUBLIC.items() if place in (name, public.file)), None)
    return load_public(name) if name else read_encoding(find_tokenizer(Path(place)))


def find_tokenizer(place: Path) -> Path:
    """The `tokenizer.json` of a run's, a stage's or a model's folder, or the file itself. Raises StageError."""
    folders = [place / stage for stage in STAGES if (place / stage).is_dir()]
    folder = [*folders, place][0]
    candidates = [folder, folder / TOKENIZER, folder / "model" / TOKENIZER]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        names = ", ".join(PUBLIC)
        raise StageError(f"{place}: no tokenizer.json in it; expected a folder or file that has one, or one of {names}")
    return found
