"""What a model card says about data (sources, what was dropped, a data statement, licences), and its tables."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from crawl2chat.refine.funnel import FUNNEL, IN_FUNNEL, read_funnel, rows
from crawl2chat.release.lineage import Ancestor
from crawl2chat.stages.figures import COLUMNS, Figure

OF_DATA = ("crawl", "refine")  # stages whose figures describe the data, not the model
STATED = ("license", "license_name", "license_link")  # fields of an imported model's card that are kept
STATEMENT = "## Data statement"
Licence = dict[str, str | list[str]]  # STATED fields of a card
MASKS = (("e-mail and public IP addresses", "mask_pii"), ("phone numbers", "mask_phones"))


def figures(title: str, ancestors: Sequence[Ancestor], chosen: Callable[[str, Figure], bool]) -> Iterator[str]:
    """Yield a table of the figures that `chosen` accepts, stage by stage, as `crawl2chat report` prints them."""
    found = [
        (m.manifest.stage, *f.cells())
        for m in ancestors
        for f in m.manifest.figure_list()
        if chosen(m.manifest.stage, f) and not f.name.startswith(IN_FUNNEL)
    ]
    if found:
        yield title
        yield table(("stage", *COLUMNS), found)


def settings_of(ancestors: Sequence[Ancestor], stage: str) -> dict[str, Any] | None:
    return next((m.manifest.settings for m in ancestors if m.manifest.stage == stage), None)


def table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def data(ancestors: Sequence[Ancestor]) -> Iterator[str]:
    """Yield where pages came from, what happened to them step by step, and inputs from outside the run."""
    lines = [*_sources(ancestors)]
    if lines or _funnels(ancestors):
        yield "## Data"
    if lines:
        yield "\n".join(f"- {line}" for line in lines)
    yield from figures("### What the stages counted", ancestors, lambda stage, f: stage in OF_DATA)
    for funnel in _funnels(ancestors):
        yield "### Pages dropped"
        found = [(r.step, r.reason, f"{r.pages:,}", f"{100 * r.share:.2f} %") for r in rows(funnel) if r.pages]
        yield table(("step", "dropped for", "pages", "of all"), found)


def data_statement(ancestors: Sequence[Ancestor], licence: str | None, text: str | None) -> Iterator[str]:
    """Yield the points of a data statement as far as manifests know them, then the text of the person who exports.

    After Bender and Friedman (TACL 2018) and Gebru et al. (arXiv 1803.09010). If nothing is known of a model, only
    that text.
    """
    known = _known_of_data(ancestors)
    if not (known or licence or text):
        return
    yield STATEMENT
    if licence:
        known["licence"] = licence
    yield table(("", ""), list(known.items()))
    if text:
        yield text.strip()


def licences(stated: Licence, of_data: str | None) -> str:
    lines = [f"{key.replace('_', ' ')}: {listed(value)}" for key, value in stated.items()]
    lines = lines or ["No licence was stated when this was exported."]
    if of_data:
        lines.append(f"licence of the training data: {of_data}")
    return "\n".join(f"- {line}" for line in lines)


def listed(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def stated_licence(models: Sequence[Path]) -> Licence:
    """Return the licence (or licences) that a card in one of these folders states in its front matter."""
    for file in (folder / "README.md" for folder in models):
        if not file.is_file():
            continue
        head = re.match(r"---\r?\n(.*?)\r?\n---", file.read_text(encoding="utf-8-sig", errors="replace"), re.DOTALL)
        try:
            found = yaml.safe_load(head.group(1)) if head else None
        except (yaml.YAMLError, ValueError, LookupError):  # the latter two from impossible dates and numbers
            continue  # no hub can read it either
        if isinstance(found, dict) and (stated := {key: found[key] for key in STATED if _is_stated(found.get(key))}):
            return stated
    return {}


def _is_stated(value: object) -> bool:
    """Return whether this is a word or a list of words; YAML may contain anything."""
    words = value if isinstance(value, list) else [value]
    return bool(words) and all(isinstance(word, str) and word for word in words)


def _known_of_data(ancestors: Sequence[Ancestor]) -> dict[str, str]:
    """Return what the text is, its languages, how it was collected and filtered, personal data in it, its licence."""
    imported = any(m.manifest.stage == "import" for m in ancestors)
    crawled, refined = settings_of(ancestors, "crawl"), settings_of(ancestors, "refine")
    known = {}
    if imported:
        known["what the base model learned from"] = "not known here"
    if crawled and not imported:
        fictional = crawled["source"] == "tinyweb"
        known["what it is"] = "pages of a web that a program made up" if fictional else "web pages"
        known["collected by"] = {
            "tinyweb": "nobody; the program wrote them",
            "commoncrawl": "Common Crawl's crawler",
        }.get(crawled["source"], "the makers of the WARC files that were named")
    if refined and not imported:
        known["languages"] = ", ".join(refined["languages"]) or "all that the pages are in"
        for f in _funnels(ancestors):
            total = f["pages"] + f["faults"]
            known["filtered"] = f"{f['kept']:,} of {total:,} pages were kept; what each step dropped is under Data"
        known["personal data"] = _masked(ancestors, refined)
    elif ancestors and not imported:
        known["what it is"] = "documents that no stage at hand collected; nothing more is known here"
    if crawled and not imported:
        known["licence"] = (
            "no text of other people is in it"
            if crawled["source"] == "tinyweb"
            else "not stated; pages belong to their authors, and crawl2chat looked at no licence of theirs"
        )
    return known


def _masked(ancestors: Sequence[Ancestor], settings: dict[str, Any]) -> str:
    looked_for = [kind for kind, setting in MASKS if settings[setting]]
    if not looked_for:
        return "not looked for"
    counts = [f"{count:,} {kind}" for funnel in _funnels(ancestors) for kind, count in funnel.get("masked", {}).items()]
    found = f" ({', '.join(counts)})" if counts else ""
    return f"{' and '.join(looked_for)} were masked{found}; names and other traces of people were not looked for"


def _funnels(ancestors: Sequence[Ancestor]) -> list[dict[str, Any]]:
    refined = [m.folder for m in ancestors if m.manifest.stage == "refine"]
    return [read_funnel(folder) for folder in refined if (folder / FUNNEL).exists()]


def _sources(ancestors: Sequence[Ancestor]) -> Iterator[str]:
    for m in ancestors:
        stage, settings = m.manifest.stage, m.manifest.settings
        if stage == "crawl":
            yield _crawl(m.manifest.figure_list(), settings)
        if stage == "refine":
            crawled = settings_of(ancestors, "crawl")
            yield _refined(settings, fictional=bool(crawled and crawled["source"] == "tinyweb"))
        if stage == "import":
            yield (
                f"import: the checkpoint folder `{settings['source']}`, sha256 {m.manifest.inputs['checkpoint']}; "
                "its data, training and evaluations are not known here"
            )
        elif m.outside:
            named = ", ".join(f"{name} (sha256 {hash[:16]}…)" for name, hash in sorted(m.outside.items()))
            yield f"{stage} also read what no stage at hand made: {named}"


def _crawl(found: Sequence[Figure], settings: dict[str, Any]) -> str:
    n_warcs = next((f"{f.value:,.0f} WARC files" for f in found if f.name == "warcs"), "WARC files")
    if settings["source"] == "tinyweb":
        return f"crawl: {n_warcs} of the fictional web that crawl2chat writes from seed {settings['seed']}"
    if settings["source"] == "commoncrawl":
        crawl_id = settings["commoncrawl"]["crawl_id"] or "by its paths"
        return f"crawl: {n_warcs} of Common Crawl ({crawl_id}), chosen with seed {settings['seed']}"
    return f"crawl: {n_warcs} named by the person who ran it"


def _refined(settings: dict[str, Any], *, fictional: bool) -> str:
    masked = [kind for kind, setting in MASKS if settings[setting]]
    against = len(settings["decontaminate"]["against"]) + fictional  # that web has questions of its own
    files = "a file" if against == 1 else f"{against} files"
    questions = f"pages that share text with {files} of test questions dropped" if against else (
        "test questions were not looked for"
    )  # fmt: skip
    languages = ", ".join(settings["languages"]) or "all"
    return f"refine: languages kept: {languages}; masked: {', '.join(masked) or 'nothing'}; {questions}"
