"""Is an exported folder a release that others can use: complete, sound, and in transformers what it is here?"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl2chat.model import load_model
from crawl2chat.model.huggingface import open_weights, read_config, read_json_object
from crawl2chat.model.weights import check_finite, weight_files
from crawl2chat.release import verify_alike
from crawl2chat.release.card_data import STATEMENT, listed, stated_licence
from crawl2chat.release.checksums import check_checksums
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CONFIG, TOKENIZER

FILES = ("config.json", "generation_config.json", TOKENIZER, CONFIG, "README.md")


@dataclass(frozen=True)
class Check:
    """A point of the release: whether it holds, and what was found, or what is wrong and what to do."""

    name: str
    ok: bool
    found: str


def verify_release(folder: AnyPath) -> list[Check]:
    """Check what the folder holds, then load it here and in transformers and compare, all in float32.

    A broken config or broken weights are not compared. Needs memory for two models.
    Raises StageError for no folder, and without the package transformers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StageError(f"{folder}: there is no such folder; expected what `crawl2chat export --out` wrote")
    transformers = verify_alike.package()
    checks = [
        _check("files", check_files, folder),
        _check("checksums", check_checksums, folder),
        _check("config", check_config, folder),
        _check("weights", check_weights, folder),
        _check("generation config", check_generation_config, folder),
        _check("card", check_card, folder),
    ]
    broken = [check.name for check in checks if not check.ok and check.name in ("config", "weights")]
    if broken:
        return [*checks, Check("in transformers", False, f"not compared, as {' and '.join(broken)} failed")]
    try:
        tokenizer, their_tokenizer = Tokenizer.load(folder), verify_alike.load_tokenizer(transformers, folder)
        model, their_model = load_model(folder), verify_alike.load_theirs(transformers, folder)
    except StageError as error:
        return [*checks, Check("in transformers", False, f"{error}; so nothing is compared")]
    return [
        *checks,
        Check("in transformers", True, f"{type(their_model).__name__} of version {transformers.__version__}"),
        _check("ids of texts", verify_alike.check_ids, tokenizer, their_tokenizer),
        _check("control tokens", verify_alike.check_control_tokens, tokenizer, their_tokenizer),
        _check("chat template", verify_alike.check_chats, tokenizer, their_tokenizer),
        _check("logits", verify_alike.check_logits, model, their_model, tokenizer),
        _check("greedy generation", verify_alike.check_generations, model, their_model, tokenizer),
    ]


def check_files(folder: Path) -> str:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise StageError(f"missing: {', '.join(missing)}; export the model anew")
    files = weight_files(folder)
    n_bytes = sum(file.stat().st_size for file in files)
    return f"{', '.join(FILES)}, {len(files)} of weights with {n_bytes:,} bytes"


def check_config(folder: Path) -> str:
    """A shape that is possible, and room for each id of the tokenizer."""
    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise StageError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, config.json a vocabulary of {config.vocab_size:,}; "
            "they are of two models"
        )
    return (
        f"{config.num_hidden_layers} layers, {config.hidden_size} wide, context {config.max_position_embeddings}, "
        f"{tokenizer.vocab_size:,} tokens in a vocabulary of {config.vocab_size:,}"
    )


def check_weights(folder: Path) -> str:
    """Names and shapes as the config has them, one type, the one that the config names, and numbers alone."""
    weights = open_weights(folder, read_config(folder))
    types = {str(dtype).removeprefix("torch.") for dtype in weights.dtypes.values()}
    content = read_json_object(folder / "config.json")
    stated = content.get("dtype") or content.get("torch_dtype")
    if types != {str(stated)}:
        raise StageError(f"tensors are of type {', '.join(sorted(types))}, config.json says {stated}")
    for name, tensor in weights.items():
        check_finite(folder, name, tensor)
    return f"{len(weights.shapes)} tensors of {stated}, all as config.json has them, all finite"


def check_generation_config(folder: Path) -> str:
    """Whoever generates with it must stop where the model was taught to."""
    content, tokenizer = read_json_object(folder / "generation_config.json"), Tokenizer.load(folder)
    stated = content.get("eos_token_id")
    ends = stated if isinstance(stated, list) else [stated]
    if tokenizer.eos_id not in ends or any(end not in sorted(tokenizer.stop_ids) for end in ends):
        raise StageError(
            f"eos_token_id is {stated}; expected {tokenizer.eos_id}, the tokenizer's eos_token, and nothing but "
            f"what ends a text or a turn, {sorted(tokenizer.stop_ids)}"
        )
    pad = content.get("pad_token_id")
    if pad is not None and not (isinstance(pad, int) and 0 <= pad < tokenizer.vocab_size):
        raise StageError(f"pad_token_id is {pad!r}, which is no id of the tokenizer")
    return f"ends with {ends}, padded with {pad}"


def check_card(folder: Path) -> str:
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"README.md can't be read: {error}") from error
    if not re.match(r"---\n.*?\n---\n", card, re.DOTALL):
        raise StageError("README.md begins with no front matter (---), which hubs read")
    licence = stated_licence([folder]).get("license")
    if not licence:
        raise StageError("README.md states no licence; export with --license ID")
    if not card.partition(f"\n{STATEMENT}\n")[2].partition("\n## ")[0].strip():
        raise StageError("README.md says nothing of the data; export with --data-license ID, --data-statement FILE")
    return f"licence {listed(licence)}, data statement, {len(card):,} characters"


def _check(name: str, check: Callable[..., str], *arguments: Any) -> Check:
    try:
        return Check(name, True, check(*arguments))
    except StageError as error:
        return Check(name, False, str(error))
