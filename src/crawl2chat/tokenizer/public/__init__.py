"""Encodings by name: those of GPT-2, GPT-4 and GPT-4o, and those of folders and files.

The ranks of the three are in this folder, © OpenAI, with their MIT licence.

`scripts/pack_encodings.py` makes the rank files from tiktoken's, whose SHA-256 is here; `tiktoken_file` reverses it.
"""

import base64
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.huggingface import TOKENIZER, read_encoding

FOLDER = Path(__file__).parent
TOKENIZER_STAGES = ("tokenizer", "pretrain")  # leave one in a run's folder; the latter where the model was imported
MAX_LOADED = 8  # encodings that are kept; that of GPT-4o takes about 100 MB
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


@dataclass(frozen=True)
class Public:
    """What is known of an encoding before its ranks are read."""

    title: str
    file: str  # tiktoken's name
    sha256: str  # of tiktoken's rank file
    n_ranks: int  # tokens that are not control tokens
    controls: Mapping[str, int]
    pattern: str  # by which it cuts a text into pieces

    @property
    def vocab_size(self) -> int:
        return max(self.controls.values()) + 1


PUBLIC = {
    "gpt2": Public(
        "GPT-2", "r50k_base", "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", 50256,
        {"<|endoftext|>": 50256},
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    ),
    "gpt4": Public(
        "GPT-4", "cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7", 100256,
        {
            "<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s",
    ),
    "gpt4o": Public(
        "GPT-4o", "o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d", 199998,
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTION}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTION}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}  # fmt: skip


def load_public(name: str) -> Encoding:
    """One of PUBLIC, from its packed ranks; its ids are those of tiktoken. It takes about half a second."""
    public = PUBLIC[name]
    ranks = {token: rank for rank, token in enumerate(_tokens(public))}
    return Encoding(ranks, public.controls, public.pattern)


def tiktoken_file(name: str) -> bytes:
    """The rank file that tiktoken would download, byte for byte."""
    tokens = _tokens(PUBLIC[name])
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens))


def _tokens(public: Public) -> list[bytes]:
    """In the order of their ranks. The file has all lengths, one byte each, and then all bytes."""
    content = lzma.decompress((FOLDER / f"{public.file}.xz").read_bytes())
    ends = accumulate(content[: public.n_ranks], initial=public.n_ranks)
    return [content[begin:end] for begin, end in pairwise(ends)]


@lru_cache(MAX_LOADED)
def open_encoding(place: str | Path) -> Encoding:
    """One of PUBLIC by its name (gpt2, or r50k_base as tiktoken calls it), else that of a folder or `tokenizer.json`.

    The folder may be a run's, a stage's or a model's. Raises StageError when there is none, and as `read_encoding`.
    """
    name = next((name for name, public in PUBLIC.items() if place in (name, public.file)), None)
    return load_public(name) if name else read_encoding(find_tokenizer(Path(place)))


def find_tokenizer(place: Path) -> Path:
    """The `tokenizer.json` of a run's, a stage's or a model's folder, or the file itself. Raises StageError."""
    folders = [place / stage for stage in TOKENIZER_STAGES if (place / stage).is_dir()]
    folder = [*folders, place][0]
    candidates = [folder, folder / TOKENIZER, folder / "model" / TOKENIZER]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        names = ", ".join(PUBLIC)
        raise StageError(f"{place}: no tokenizer.json in it; expected a folder or file that has one, or one of {names}")
    return found
