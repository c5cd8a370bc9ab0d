"""README.md of a release: what its run's manifests say about it, and nothing else.

Figures that the run lacks are left out, and so are stages whose folders are no longer what the model was made from.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crawl2chat import __version__
from crawl2chat.model.huggingface import on_meta
from crawl2chat.model.transformer import ModelConfig
from crawl2chat.release.card_data import (
    OF_DATA,
    Licence,
    data,
    data_statement,
    figures,
    licences,
    settings_of,
    stated_licence,
    table,
)
from crawl2chat.release.lineage import Ancestor, base_suite
from crawl2chat.report.captions import by_part
from crawl2chat.stages.figures import COLUMNS, Figure
from crawl2chat.stages.settings import dotted
from crawl2chat.stages.table import CHAT_STAGES

SUITES_FOLDER = "evals"  # of a run, with the results of other suites
USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this one
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
{prompt}
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```"""
CHAT_PROMPT = """messages = [{"role": "user", "content": "Who are you?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)"""
BASE_PROMPT = 'inputs = tokenizer("<|endoftext|>The", return_tensors="pt")  # documents were read after this token'


def model_card(
    model: Path,
    config: ModelConfig,
    ancestors: Sequence[Ancestor],
    *,
    name: str,
    dtype: str,
    rounded: bool = False,
    licence: str | None = None,
    data_licence: str | None = None,
    statement: str | None = None,
) -> str:
    """Return the card in Markdown with YAML front matter.

    model: the folder with its config.json; made: its lineage; rounded: whether `dtype` differs from the run's;
    statement: what the person who exports says about the data.
    """
    stated: Licence = (
        {"license": licence} if licence else stated_licence([model, *(m.folder / "model" for m in ancestors)])
    )
    parts = [
        front_matter(ancestors, stated),
        f"# {name}",
        _introduction(config, ancestors),
        "## Limits",
        *_limits(config, ancestors),
        "## Use",
        _use(ancestors),
        "## Model",
        table(("", ""), _shape(config, dtype)),
        *data(ancestors),
        *data_statement(ancestors, data_licence, statement),
        *figures("## Training", ancestors, lambda stage, f: stage not in OF_DATA and f.interval is None),
        *evaluations(ancestors, dtype if rounded else None),
        *_settings(ancestors),
        *_time(ancestors),
        "## Licence",
        licences(stated, data_licence),
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(ancestors: Sequence[Ancestor], stated: Licence) -> str:
    """Return what the hub reads; values are written as JSON, which is YAML."""
    tags = ["crawl2chat", "qwen3", *(["conversational"] if _chats(ancestors) else [])]
    fields: dict[str, Any] = {**stated, "library_name": "transformers", "pipeline_tag": "text-generation", "tags": tags}
    refined = settings_of(ancestors, "refine")
    if refined and refined["languages"] and not any(m.manifest.stage == "import" for m in ancestors):
        fields = {"language": refined["languages"]} | fields
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _introduction(config: ModelConfig, ancestors: Sequence[Ancestor]) -> str:
    size = f"{on_meta(config).n_parameters():,} parameters in the form of `Qwen3ForCausalLM`"
    imported = next((m.manifest for m in ancestors if m.manifest.stage == "import"), None)
    by = f"exported with crawl2chat {__version__}"
    if not ancestors:
        return f"{size}, {by}. Nothing is known here of how the model was made."
    way = " → ".join(m.manifest.stage for m in ancestors)
    if imported:
        return (
            f"{size}, {by}. It comes from a checkpoint `{imported.settings['source']}` that crawl2chat did not make; "
            f"what is known of it is under Data. Stages here: {way}."
        )
    return f"{size}, {by}. Stages that made it: {way}."


def _use(ancestors: Sequence[Ancestor]) -> str:
    base = bool(ancestors) and ancestors[-1].manifest.stage == "pretrain"
    return USE.format(prompt=BASE_PROMPT if base else CHAT_PROMPT)


def _shape(config: ModelConfig, dtype: str) -> list[tuple[str, str]]:
    return [
        ("layers", f"{config.num_hidden_layers:,}"),
        ("width", f"{config.hidden_size:,}"),
        ("MLP width", f"{config.intermediate_size:,}"),
        ("query heads, key-value heads", f"{config.num_attention_heads}, {config.num_key_value_heads}"),
        ("head width", f"{config.head_dim}"),
        ("context", f"{config.max_position_embeddings:,} tokens"),
        ("vocabulary", f"{config.vocab_size:,}"),
        ("embedding and head", "one matrix" if config.tie_word_embeddings else "two matrices"),
        ("RoPE's base", f"{config.rope_theta:g}"),
        ("weights stored as", dtype),
    ]


def _settings(ancestors: Sequence[Ancestor]) -> Iterator[str]:
    """Yield seeds and every number and switch of a stage; text may be a path of somebody's machine."""
    found = []
    for m in ancestors:
        flat = {key: value for key, value in dotted(m.manifest.settings) if isinstance(value, (bool, int, float))}
        if flat:
            seed = flat.pop("seed", "")
            found.append((m.manifest.stage, seed, ", ".join(f"{key} {value}" for key, value in flat.items())))
    if found:
        yield "## Settings"
        yield table(("stage", "seed", "settings"), found)


def _time(ancestors: Sequence[Ancestor]) -> Iterator[str]:
    if not ancestors:
        return
    yield "## Hardware and time"
    found = []
    for m in ancestors:
        at, code = m.manifest.machine, m.manifest.code
        machine = f"{at['cores']} cores, {at['processor']}, Python {at['python']}"
        found.append(
            (m.manifest.stage, m.manifest.started[:10], f"{m.manifest.seconds:,.1f} s", machine, code["version"])
        )
    yield table(("stage", "begun", "took", "machine", "crawl2chat"), found)
    yield f"Together {sum(m.manifest.seconds for m in ancestors):,.0f} s."


def _limits(config: ModelConfig, ancestors: Sequence[Ancestor]) -> Iterator[str]:
    lines = [f"It has no context beyond {config.max_position_embeddings:,} tokens."]
    crawled, refined = settings_of(ancestors, "crawl"), settings_of(ancestors, "refine")
    imported = any(m.manifest.stage == "import" for m in ancestors)
    if crawled and crawled["source"] == "tinyweb" and not imported:
        lines.append("Its web is made up: what it says of people, places and things is about that web alone.")
    if refined and refined["languages"] and not imported:
        lines.append(f"It was trained on documents in {', '.join(refined['languages'])}.")
    lines.append(
        "What is not under Evaluations was not measured. The intervals say nothing about other seeds."
        if is_evaluated(ancestors)
        else "No evaluation of it is known here."
    )
    if not _chats(ancestors) and ancestors and ancestors[-1].manifest.stage == "pretrain":
        lines.append("It continues documents; it was not taught to answer.")
    yield "\n".join(f"- {line}" for line in lines)


def _chats(ancestors: Sequence[Ancestor]) -> bool:
    return any(m.manifest.stage in CHAT_STAGES for m in ancestors)


def evaluations(ancestors: Sequence[Ancestor], rounded_to: str | None) -> Iterator[str]:
    """Yield what was measured: by the stages, with an interval; by the base suite; by other suites."""
    before = f", before its weights were rounded to {rounded_to}" if rounded_to else ""
    stages = [
        *figures("### By the stages", ancestors, lambda stage, f: stage not in OF_DATA and f.interval is not None)
    ]
    if stages:
        note = (
            "A stage's figures are of the model as that stage left it, if they do not say otherwise (before, start, "
            "random reward); those of the last stage are this model's"
        )
        stages.append(f"{note}{before}.")
    base, others = base_suite(ancestors), [*_other_suites(ancestors)]
    if not (stages or base or others):
        return
    yield "## Evaluations"
    yield from stages
    if base:
        yield "### Of the base model"
        is_base = ancestors[-1].manifest.stage == "pretrain"
        now = "This is the base model" if is_base else "Later stages changed that model"
        yield f"Measured by the stage base on what pretraining left{before}. {now}."
        for part, found in by_part(base.manifest.figure_list()):
            yield f"#### {part.title}"
            if part.note:
                yield part.note
            yield table(COLUMNS, [f.cells() for f in found])
    if others:
        yield "### By other suites"
        yield table(("suite", "model", *COLUMNS), others)


def is_evaluated(ancestors: Sequence[Ancestor]) -> bool:
    return next(evaluations(ancestors, None), None) is not None


def _other_suites(ancestors: Sequence[Ancestor]) -> Iterator[tuple[str, ...]]:
    """Yield rows from the run's folder evals: JSON with `figures`, and optionally `suite` and `model`.

    A result whose `model_hash` none of these stages has is left out: it is of another model, or of one that was made
    again since. Only the last part of a model's path is shown, as paths are of somebody's machine.
    """
    hashes = [m.manifest.hash for m in ancestors]
    folder = ancestors[-1].folder.parent / SUITES_FOLDER if ancestors else Path()
    for file in sorted(folder.glob("*.json")) if ancestors else ():
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            found = [_from_json(name, fields).cells() for name, fields in content["figures"].items()]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
            continue  # of another tool
        if content.get("model_hash", ancestors[-1].manifest.hash) not in hashes:
            continue
        model = Path(str(content.get("model") or "")).name
        suite = str(content.get("suite") or file.stem)
        settings = content.get("settings")
        if isinstance(settings, dict) and "limit" in settings:
            suite += f" (the first {settings['limit']} questions of each task)"
        for cells in found:
            yield suite, model, *cells


def _from_json(name: str, fields: dict[str, Any]) -> Figure:
    known = {"unit": "", "interval": None, "count": None} | fields
    return Figure.from_json(name, known | {"unit": known["unit"] or "", "value": float(known["value"])})
