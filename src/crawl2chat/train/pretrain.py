"""The pretraining stage: documents and a tokenizer in, a base model out."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from crawl2chat.evals.base.induction import measure_induction, most_repetitive
from crawl2chat.evals.bits_per_byte import bits_per_byte, unigram_bits_per_byte
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer, load_model, save_model
from crawl2chat.parallel import torchrun
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, write_jsonl
from crawl2chat.stages.stage import METRICS, SAMPLES_DURING
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments
from crawl2chat.tokenizer.tokenize import tokenize
from crawl2chat.train.data import DocumentBatches
from crawl2chat.train.devices import choose_device
from crawl2chat.train.distributed import process_group
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics, typical_speed
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.settings import PretrainSettings
from crawl2chat.train.utilisation import utilisation_figures

TOKENS_PER_PARAMETER = 10  # default length of training
EVALUATED_WHILE_TRAINING = 100_000  # tokens; the whole held-out part is measured at the end
ENOUGH_TEXT = 5_000_000  # bytes, below which a model learns its documents by heart before it learns their language
TIE_BELOW_DEPTH = 12  # small models can't afford a head of their own


def pretrain(documents: AnyPath, tokenizer: AnyPath, out: AnyPath, settings: PretrainSettings) -> list[Figure]:
    """Train a model to predict the next token of the documents; measure it on documents held out.

    Under torchrun all ranks make this call; the first does all but the training alone, and returns the figures.
    """
    documents, tokenizer, out = Path(documents), Path(tokenizer), Path(out)
    vocabulary = Tokenizer.load(tokenizer)
    with torchrun.first_rank_first():
        training, held_out = tokenize(
            documents, tokenizer, out / "tokens", held_out=settings.held_out, seed=settings.seed
        )
    if len(training.ids) <= settings.seq_len:
        raise StageError(
            f"{documents}: its {len(training.ids)} training tokens don't fill one sequence of "
            f"pretrain.seq_len = {settings.seq_len}; {len(held_out)} documents are held out (pretrain.held_out)"
        )
    if settings.held_out and not len(held_out) and not torchrun.rank():
        print(
            f"pretrain: none of the {len(training)} documents was held out, so no bits per byte are measured; "
            "raise --pretrain.held_out or cut the documents into smaller ones",
            file=sys.stderr,
        )
    if (n_bytes := int(training.n_bytes.sum())) < ENOUGH_TEXT and not torchrun.rank():
        print(
            f"pretrain: {n_bytes / 1e6:,.2g} MB of text is too little to learn a language from (the made-up web, whose "
            "English is very simple, has 9 MB); first bring a model that has learned one, `crawl2chat import MODEL "
            "--out RUN`, and train on top of it",
            file=sys.stderr,
        )
    batches = DocumentBatches(
        training, settings.seq_len, settings.batch_rows, settings.seed,
        packing=settings.packing, attend=settings.attend,
    )  # fmt: skip
    n_positions = batches.rows_per_epoch * settings.seq_len  # tokens and padding of an epoch
    model = Transformer(model_config(settings, vocabulary.vocab_size))
    steps = training_steps(settings, model.n_parameters())
    if not (out / "model").exists():
        model.init_weights(settings.seed)
        sample = held_out.first(EVALUATED_WHILE_TRAINING)
        repetitive = most_repetitive(sample, settings.seq_len)

        def evaluate(step: int) -> dict[str, float]:
            add_samples(model, vocabulary, held_out, out / SAMPLES_DURING, step)
            if not len(sample):
                return {}
            measured = {"bits_per_byte": bits_per_byte(model, sample).value}
            if repetitive:
                induction = measure_induction(model, repetitive)
                measured |= {"induction": round(induction.strongest, 4), "copied": round(induction.copied, 4)}
            return measured

        with process_group(choose_device(settings)) as together:
            objective = NextToken(model, batches, settings, tokens_per_epoch=n_positions)
            train(objective, steps, settings, out, label="pretrain", evaluate=evaluate, ranks=together)
    if torchrun.rank():
        return []
    if not (out / "model").exists():
        save_stage_model(model, vocabulary, out)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)  # of use only until the model is there
    model = load_model(out, device=choose_device(settings))
    write_samples(model, vocabulary, held_out, out / "samples.jsonl", settings.seed)
    epochs = steps * settings.batch_rows / batches.rows_per_epoch
    figures = [
        Figure("parameters", model.n_parameters()),
        Figure("training_tokens", epochs * len(training.ids), "tokens"),
        Figure("epochs", epochs),
        Figure("padding", 1 - len(training.ids) / n_positions, "share", count=n_positions),
        Figure("documents_cut", batches.documents_cut() / len(training), "share", count=len(training)),
        Figure("training_flop", steps * settings.batch_tokens * model.flops_per_token(settings.seq_len), "FLOP"),
    ]
    for speed in typical_speed(out / METRICS):
        figures += [speed, *utilisation_figures(model, settings, speed.value, torchrun.world_size())]
    if len(held_out):
        figures.append(bits_per_byte(model, held_out))
        figures.append(unigram_bits_per_byte(training, held_out, vocabulary.vocab_size))
    return figures


def training_steps(settings: PretrainSettings, n_parameters: int) -> int:
    """Of `batch_tokens` each, about as many as the settings' tokens make; these follow from the size if left open."""
    tokens = settings.tokens or TOKENS_PER_PARAMETER * n_parameters
    return max(1, round(tokens / settings.batch_tokens))


def model_config(settings: PretrainSettings, vocab_size: int) -> ModelConfig:
    """The model that the settings describe; what they leave open follows from the depth."""
    width = settings.model_width()
    n_heads, n_kv_heads = settings.heads()
    tied = settings.depth < TIE_BELOW_DEPTH if settings.tie_embeddings is None else settings.tie_embeddings
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=settings.mlp_width or 3 * width,
        num_hidden_layers=settings.depth,
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        head_dim=settings.head_dim,
        max_position_embeddings=settings.seq_len,
        tie_word_embeddings=tied,
    )


def save_stage_model(model: Transformer, tokenizer: Tokenizer, out: Path) -> None:
    """Write `out/model`, a folder that transformers loads, tokenizer included, in one atomic step."""
    with atomic_write(out / "model") as temporary:
        ends = dict.fromkeys((tokenizer.end_of_turn, tokenizer.end_of_text, *sorted(tokenizer.stop_ids)))
        generation = tokenizer.generation_config
        save_model(model, temporary, stop_ids=list(ends), pad_id=tokenizer.pad_id, generation=generation)
        tokenizer.save(temporary)


def write_samples(
    model: Transformer, tokenizer: Tokenizer, held_out: TokenizedDocuments, file: Path, seed: int
) -> None:
    """Documents out of nothing, and continuations of held-out beginnings."""
    context = model.config.max_position_embeddings
    sampling = Sampling(temperature=0.8, top_p=0.95, max_tokens=min(120, context // 2), seed=seed)
    prompts = [[tokenizer.end_of_text]] * 4 + _beginnings(held_out, 4, min(32, context // 4))
    write_jsonl(file, _continue(model, tokenizer, prompts, sampling))


def add_samples(model: Transformer, tokenizer: Tokenizer, held_out: TokenizedDocuments, file: Path, step: int) -> None:
    """Add greedy continuations of three held-out beginnings, always the same: one sees the model learn.

    What the file holds of this step and later ones was written before a kill, and goes.
    """
    context = model.config.max_position_embeddings
    sampling = Sampling(temperature=0, max_tokens=min(24, context // 2))  # written greedily, more soon repeats itself
    prompts = _beginnings(held_out, 3, min(16, context // 4)) or [[tokenizer.end_of_text]]
    before = [row for row in read_metrics(file) if row["step"] < step]
    write_jsonl(file, [*before, *({"step": step} | row for row in _continue(model, tokenizer, prompts, sampling))])


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
