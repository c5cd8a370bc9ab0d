"""README.md of a release: what its run's manifests say about it, and nothing else.

A figure that the run lacks is left out, and so is every stage whose folder is no longer what the model was made from.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crawl2chat import __version__
from crawl2chat.exchange.lineage import Made
from crawl2chat.figures import Figure
from crawl2chat.model.huggingface import on_meta
from crawl2chat.model.transformer import ModelConfig
from crawl2chat.refine.funnel import FUNNEL, IN_FUNNEL, read_funnel, rows

OF_DATA = ("crawl", "refine")  # stages whose figures describe the data, not the model
CHAT_STAGES = {"sft", "honesty", "reinforce", "prefer"}
STATED = ("license", "license_name", "license_link")  # fields of an imported model's card that go on with it
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
BASE_PROMPT = 'inputs = tokenizer("<|endoftext|>The", return_tensors="pt")  # documents were read behind this token'


def model_card(
    model: Path,
    config: ModelConfig,
    made: Sequence[Made],
    *,
    name: str,
    dtype: str,
    rounded: bool = False,
    licence: str | None = None,
) -> str:
    """The card in Markdown with YAML front matter.

    model: the folder with its config.json; made: its lineage; rounded: whether `dtype` is not that of the run.
    """
    stated = {"license": licence} if licence else stated_licence([model, *(m.folder / "model" for m in made)])
    parts = [
        front_matter(made, stated),
        f"# {name}",
        _introduction(config, made),
        "## Use",
        _use(made),
        "## Model",
        _table(("", ""), _shape(config, dtype)),
        *_data(made),
        *_figures("## Training", made, lambda stage, f: stage not in OF_DATA and f.interval is None),
        *_evaluations(made, dtype if rounded else None),
        *_settings(made),
        *_time(made),
        "## Limits",
        *_limits(config, made),
        "## Licence and data",
        *_licence(made, stated),
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(made: Sequence[Made], stated: dict[str, str]) -> str:
    """What the hub reads; a value is written as JSON, which is YAML."""
    tags = ["crawl2chat", "qwen3", *(["conversational"] if _chats(made) else [])]
    fields: dict[str, Any] = {**stated, "library_name": "transformers", "pipeline_tag": "text-generation", "tags": tags}
    refined = _settings_of(made, "refine")
    if refined and refined["languages"] and not any(m.manifest.stage == "import" for m in made):
        fields = {"language": refined["languages"]} | fields
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def stated_licence(models: Sequence[Path]) -> dict[str, str]:
    """The licence that the card of an imported checkpoint states in its front matter, word for word."""
    for file in (folder / "README.md" for folder in models):
        if not file.is_file():
            continue
        head = re.match(r"---\r?\n(.*?)\r?\n---", file.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        found = re.findall(r"^(\w+):[ \t]*([^\s#].*?)[ \t\r]*$", head.group(1) if head else "", re.MULTILINE)
        stated = {key: value.strip("'\"") for key, value in found if key in STATED}
        if stated:
            return stated
    return {}


def _introduction(config: ModelConfig, made: Sequence[Made]) -> str:
    size = f"{on_meta(config).n_parameters():,} parameters in the form of `Qwen3ForCausalLM`"
    imported = next((m.manifest for m in made if m.manifest.stage == "import"), None)
    by = f"exported with crawl2chat {__version__}"
    if not made:
        return f"{size}, {by}. Nothing is known here of how the model was made."
    way = " → ".join(m.manifest.stage for m in made)
    if imported:
        return (
            f"{size}, {by}. It comes from a checkpoint `{imported.settings['source']}` that crawl2chat did not make; "
            f"what is known of it stands under Data. Stages here: {way}."
        )
    return f"{size}, {by}. Stages that made it: {way}."


def _use(made: Sequence[Made]) -> str:
    base = bool(made) and made[-1].manifest.stage == "pretrain"
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


def _data(made: Sequence[Made]) -> Iterator[str]:
    """Where pages came from, what became of them step by step, and inputs that no stage at hand made."""
    lines = [*_sources(made)]
    funnels = [m.folder for m in made if m.manifest.stage == "refine" and (m.folder / FUNNEL).exists()]
    if lines or funnels:
        yield "## Data"
    if lines:
        yield "\n".join(f"- {line}" for line in lines)
    yield from _figures("### What the stages counted", made, lambda stage, f: stage in OF_DATA)
    for folder in funnels:
        table = read_funnel(folder)
        yield "### Pages dropped"
        found = [(r.step, r.reason, f"{r.pages:,}", f"{100 * r.share:.2f} %") for r in rows(table) if r.pages]
        yield _table(("step", "dropped for", "pages", "of all"), found)


def _sources(made: Sequence[Made]) -> Iterator[str]:
    for m in made:
        stage, settings = m.manifest.stage, m.manifest.settings
        if stage == "crawl":
            yield _crawl(m.manifest.figure_list(), settings)
        if stage == "refine":
            crawled = _settings_of(made, "crawl")
            yield _refined(settings, fictional=bool(crawled and crawled["source"] == "tinyweb"))
        if stage == "import":
            yield (
                f"import: the checkpoint folder `{settings['source']}`, sha256 {m.manifest.inputs['checkpoint']}; "
                "its data, training and evaluations are not known here"
            )
        elif m.outside:
            named = ", ".join(f"{name} (sha256 {hash[:16]}…)" for name, hash in sorted(m.outside.items()))
            yield f"{stage} also read what no stage at hand made: {named}"


def _crawl(figures: Sequence[Figure], settings: dict[str, Any]) -> str:
    n_warcs = next((f"{f.value:,.0f} WARC files" for f in figures if f.name == "warcs"), "WARC files")
    if settings["source"] == "tinyweb":
        return f"crawl: {n_warcs} of the fictional web that crawl2chat writes from seed {settings['seed']}"
    if settings["source"] == "commoncrawl":
        crawl_id = settings["commoncrawl"]["crawl_id"] or "by its paths"
        return f"crawl: {n_warcs} of Common Crawl ({crawl_id}), chosen with seed {settings['seed']}"
    return f"crawl: {n_warcs} named by the person who ran it"


def _refined(settings: dict[str, Any], *, fictional: bool) -> str:
    masked = [
        kind
        for kind, setting in (("e-mail and public IP addresses", "mask_pii"), ("phone numbers", "mask_phones"))
        if settings[setting]
    ]
    against = len(settings["decontaminate"]["against"]) + fictional  # that web brings questions of its own
    files = "a file" if against == 1 else f"{against} files"
    questions = f"pages that share text with {files} of test questions dropped" if against else (
        "test questions were not looked for"
    )  # fmt: skip
    languages = ", ".join(settings["languages"]) or "all"
    return f"refine: languages kept: {languages}; masked: {', '.join(masked) or 'nothing'}; {questions}"


def _figures(title: str, made: Sequence[Made], chosen: Callable[[str, Figure], bool]) -> Iterator[str]:
    """A table of the figures that `chosen` takes, stage by stage, as `crawl2chat report` prints them."""
    found = [
        (m.manifest.stage, f.name.replace("_", " "), str(f), f"{f.count:,}" if f.count else "")
        for m in made
        for f in m.manifest.figure_list()
        if chosen(m.manifest.stage, f) and not f.name.startswith(IN_FUNNEL)
    ]
    if found:
        yield title
        yield _table(("stage", "figure", "value [95 % interval]", "of"), found)


def _evaluations(made: Sequence[Made], rounded_to: str | None) -> Iterator[str]:
    found = [*_figures("## Evaluations", made, lambda stage, f: stage not in OF_DATA and f.interval is not None)]
    yield from found
    if found:
        note = "A stage's figures are of the model as that stage left it; those of the last stage are this model's"
        yield note + (f", before its weights were rounded to {rounded_to}." if rounded_to else ".")


def _settings(made: Sequence[Made]) -> Iterator[str]:
    """Seeds, and every number and switch a stage was given; words may be paths of somebody's machine."""
    found = []
    for m in made:
        flat = {key: value for key, value in m.manifest.settings.items() if isinstance(value, (bool, int, float))}
        if flat:
            seed = flat.pop("seed", "")
            found.append((m.manifest.stage, seed, ", ".join(f"{key} {value}" for key, value in flat.items())))
    if found:
        yield "## Settings"
        yield _table(("stage", "seed", "settings"), found)


def _time(made: Sequence[Made]) -> Iterator[str]:
    if not made:
        return
    yield "## Hardware and time"
    found = []
    for m in made:
        at, code = m.manifest.machine, m.manifest.code
        machine = f"{at['cores']} cores, {at['processor']}, Python {at['python']}"
        found.append(
            (m.manifest.stage, m.manifest.started[:10], f"{m.manifest.seconds:,.1f} s", machine, code["version"])
        )
    yield _table(("stage", "begun", "took", "machine", "crawl2chat"), found)
    yield f"Together {sum(m.manifest.seconds for m in made):,.0f} s."


def _limits(config: ModelConfig, made: Sequence[Made]) -> Iterator[str]:
    lines = [f"It has no context beyond {config.max_position_embeddings:,} tokens."]
    crawled, refined = _settings_of(made, "crawl"), _settings_of(made, "refine")
    imported = any(m.manifest.stage == "import" for m in made)
    if crawled and crawled["source"] == "tinyweb" and not imported:
        lines.append("Its web is made up: what it says of people, places and things is about that web alone.")
    if refined and refined["languages"] and not imported:
        lines.append(f"It was trained on documents in {', '.join(refined['languages'])}.")
    evaluated = any(f.interval for m in made for f in m.manifest.figure_list() if m.manifest.stage != "refine")
    lines.append(
        "What does not stand under Evaluations was not measured. The intervals say nothing about other seeds."
        if evaluated
        else "No evaluation of it is known here."
    )
    if not _chats(made) and made and made[-1].manifest.stage == "pretrain":
        lines.append("It continues documents; it was not taught to answer.")
    yield "\n".join(f"- {line}" for line in lines)


def _licence(made: Sequence[Made], stated: dict[str, str]) -> Iterator[str]:
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in stated.items()]
    crawled = _settings_of(made, "crawl")
    if not lines:
        lines.append("No licence was stated when this was exported.")
    if crawled and crawled["source"] == "tinyweb":
        lines.append("The pages of its crawl were generated by a program; they hold no text of other people.")
    elif crawled:
        lines.append("The pages of its crawl belong to their authors; crawl2chat looked at no licence of theirs.")
    yield "\n".join(f"- {line}" for line in lines)


def _settings_of(made: Sequence[Made], stage: str) -> dict[str, Any] | None:
    return next((m.manifest.settings for m in made if m.manifest.stage == stage), None)


def _chats(made: Sequence[Made]) -> bool:
    return any(m.manifest.stage in CHAT_STAGES for m in made)


def _table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
