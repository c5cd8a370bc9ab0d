"""What a base model writes, for people to read: at the end, and while it trains."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.stages.files import atomic_write
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments
from crawl2chat.train.metrics import read_metrics


def write_samples(
    model: Transformer, tokenizer: Tokenizer, held_out: TokenizedDocuments, file: Path, seed: int
) -> None:
    """Documents out of nothing, and continuations of held-out beginnings."""
    context = model.config.max_position_embeddings
    sampling = Sampling(temperature=0.8, top_p=0.95, max_tokens=min(120, context // 2), seed=seed)
    prompts = [[tokenizer.end_of_text]] * 4 + _beginnings(held_out, 4, min(32, context // 4))
    _write(file, _continue(model, tokenizer, prompts, sampling))


def add_samples(model: Transformer, tokenizer: Tokenizer, held_out: TokenizedDocuments, file: Path, step: int) -> None:
    """Add greedy continuations of three held-out beginnings, always the same: one sees the model learn.

    What the file holds of this step and later ones was written before a kill, and goes.
    """
    context = model.config.max_position_embeddings
    sampling = Sampling(temperature=0, max_tokens=min(24, context // 2))  # written greedily, more soon repeats itself
    prompts = _beginnings(held_out, 3, min(16, context // 4)) or [[tokenizer.end_of_text]]
    before = [row for row in read_metrics(file) if row["step"] < step]
    _write(file, [*before, *({"step": step} | row for row in _continue(model, tokenizer, prompts, sampling))])


def _beginnings(documents: TokenizedDocuments, n: int, tokens: int) -> list[list[int]]:
    return [documents[i][:tokens].tolist() for i in range(min(n, len(documents)))]


@torch.inference_mode()
def _continue(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> list[dict[str, Any]]:
    completions = Engine(model, tokenizer).generate(prompts, sampling)
    return [
        {"prompt": tokenizer.decode(prompt[1:]), "continuation": completion.text}  # but for the end-of-text token
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_write(file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
