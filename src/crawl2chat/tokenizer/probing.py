"""A guard against tokenizers that would take for ever, or all memory, over some texts.

A `tokenizer.json` holds regular expressions, which can take time that doubles with every character, and replacements,
which can double a text again and again. The libraries that run them can't be interrupted. So what is not known is tried
on texts of many kinds in a process of its own, with limits, before anything is encoded here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer.huggingface import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, read_content, split_pattern

KNOWN = {GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN}

SECONDS, MEGABYTES = 5, 1500  # of processor time and memory; ordinary expressions take a tenth
PATIENCE = 12  # times as long by the clock, on a machine that is shared
LONGEST = 2_000  # characters of an expression; those of published tokenizers have some hundreds
MOST_PUT_IN = 8  # characters that normalizers put into a text; SentencePiece's need two
RUN = 2_000  # characters of a text
MOST_TEXTS = 600
ORDINARY = "aA1٣éß東ぁ한🙂 \t\n\r_.,-'\"#/(<ſ\u0301\u00a0\u3000\u200d\ufeff"
PROGRAM = """
import json, resource, sys
seconds, megabytes = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
try:
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
except (ValueError, OSError):  # macOS has no such limit
    pass
import tiktoken, tokenizers
content, pattern, texts = json.load(sys.stdin)
library = tokenizers.Tokenizer.from_str(json.dumps(content))
encoders = [lambda text: library.encode(text, add_special_tokens=False)]
if pattern:
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("probe", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    encoders.append(encoding.encode_ordinary)
for text in texts:
    for encode in encoders:
        encode(text)
"""


def check_rules(file: Path) -> None:
    """Try what a `tokenizer.json` does to a text before it looks up tokens, unless all its expressions are known ones.

    Raises StageError for what takes too long, takes too much memory, or crashes.
    """
    content = read_content(file)
    parts = {name: content.get(name) for name in ("normalizer", "pre_tokenizer")}
    try:
        pattern = split_pattern(parts["pre_tokenizer"])  # what tiktoken splits by
    except (AttributeError, TypeError):
        pattern = None
    expressions = {value for key, value in _entries(parts) if key == "Regex" and isinstance(value, str)}
    put_in = sum(len(str(value)) for key, value in _entries(parts) if key in ("content", "prepend"))
    if expressions <= KNOWN and put_in <= MOST_PUT_IN:
        return
    if too_long := next((e for e in expressions if len(e) > LONGEST), None):
        found = f"a regular expression of {len(too_long):,} characters, which begins with {too_long[:60]!r}"
        raise StageError(f"{file}: has {found}; expected at most {LONGEST:,}")
    vocabulary = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "a"}, "version": "1.0"}
    asked = [vocabulary | parts, pattern, list(_texts(expressions))]
    command = [sys.executable, "-P", "-c", PROGRAM, str(SECONDS), str(MEGABYTES)]
    try:
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=SECONDS * PATIENCE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        reason = f"take more than {SECONDS * PATIENCE} seconds"
    else:
        if not done.returncode:
            return
        last = done.stderr.strip().rpartition("\n")[2][:200]
        reason = f"fail ({last})" if done.returncode > 0 else f"take more than {SECONDS} s or {MEGABYTES} MB"
    shown = ", ".join(repr(e if len(e) <= 60 else e[:60] + "…") for e in sorted(expressions)[:3]) or "its normalizer"
    raise StageError(f"{file}: its rules {reason} over texts of {RUN:,} characters, so it can't be used: {shown}")


def _entries(part: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield key, value
        yield from _entries(value)


def _texts(expressions: set[str]) -> Iterator[str]:
    """Long runs: of characters of many kinds, and of all that occurs together in an expression; ended otherwise."""
    pieces = dict.fromkeys(ORDINARY)
    for size in (1, 2, 3):
        for expression in sorted(expressions):
            pieces |= dict.fromkeys(expression[i : i + size] for i in range(len(expression) - size + 1))
    ending = "\0!" + "".join(sorted(expressions))[:LONGEST]  # with all that an expression might look for first
    for piece in list(pieces)[:MOST_TEXTS]:
        yield piece * (RUN // len(piece)) + ending
