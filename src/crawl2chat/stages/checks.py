"""What is looked at before any work: the files, code and libraries that a stage's settings and inputs name."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from crawl2chat.chat.settings import SftSettings
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.settings import PolicySettings, ReinforceSettings
from crawl2chat.stages.files import StageError, hash_json
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.stage import Stage, hash_path
from crawl2chat.stages.user_code import source_file
from crawl2chat.train.settings import TrainSettings

CONVERSATIONS = "a file of conversations"


def outside_inputs(settings: Settings) -> dict[str, str]:
    """Hashes of the files that a stage's settings name, so that a changed file counts as a changed input."""
    if isinstance(settings, CrawlSettings) and settings.source == "warc":
        from crawl2chat.crawl.stage import find_warcs

        return {"warc": hash_json(find_warcs(settings))}
    if isinstance(settings, CrawlSettings) and settings.source == "documents":
        from crawl2chat.crawl.documents import describe_documents

        return {"documents": hash_json(describe_documents(settings.documents))}
    if isinstance(settings, RefineSettings):
        return _inputs_of_refine(settings)
    if isinstance(settings, SftSettings):
        files = [str(file) for file, _ in settings.mixed_in()]
        return {f"mixture.{i}": _hash_named(file, "sft.mixture", CONVERSATIONS) for i, file in enumerate(files)}
    if isinstance(settings, HonestySettings) and settings.retention not in ("", "everyday"):
        return {"retention": _hash_named(settings.retention, "honesty.retention", "everyday or one prompt per line")}
    if isinstance(settings, ReinforceSettings):
        codes = {"task": settings.task} if settings.task else {}
        codes |= {f"rewards.{i}": code for i, (code, _) in enumerate(settings.weighted_rewards())}
        hashes = {name: hash_path(source_file(code, f"reinforce.{name}")) for name, code in codes.items()}
        if settings.judge and not settings.judges_on_server:
            folder = Path(settings.judge).expanduser()
            if not folder.is_dir():
                raise StageError(f"reinforce.judge = {folder}: no such folder; expected a model's, or http://HOST/v1")
            hashes["judge"] = hash_path(folder)
        if settings.documents and "search" in settings.tools:
            from crawl2chat.refine.documents import files_of

            parts = files_of(Path(settings.documents).expanduser())
            hashes["documents"] = hash_json({part.name: hash_path(part.file) for part in parts})
        return hashes
    if isinstance(settings, PreferSettings) and settings.rankings:
        return {
            "rankings": _hash_named(
                settings.rankings, "prefer.rankings", "a store of `crawl2chat rank` or a file of pairs"
            )
        }
    return {}


def _inputs_of_refine(settings: RefineSettings) -> dict[str, str]:
    hashes = {}
    for i, path in enumerate(settings.blocklist):
        hashes[f"blocklist.{i}"] = _hash_named(path, "refine.blocklist", "one host per line")
    for i, reference in enumerate(settings.extra):
        hashes[f"extra.{i}"] = hash_path(source_file(reference, "refine.extra"))
    for i, path in enumerate(settings.decontaminate.against):
        hashes[f"against.{i}"] = _hash_named(path, "refine.decontaminate.against", "a file of test questions")
    if settings.classifier.model:
        folder = Path(settings.classifier.model).expanduser()
        if not folder.is_dir():
            raise StageError(f"refine.classifier.model = {folder}: no such folder; `crawl2chat classify` makes one")
        hashes["classifier"] = hash_path(folder)
    return hashes


def _hash_named(path: str, setting: str, expected: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise StageError(f"{setting} = {path}: no such file; expected {expected}")
    return hash_path(file)


def check_settings(stage: Stage, settings: Settings) -> None:
    """Notice, before any work, what would end a stage late: a file of the wrong kind, a library that is missing.

    Raises StageError with the setting's name, what was found and what was expected.
    """
    track = getattr(settings, "track", "none")
    if track != "none" and importlib.util.find_spec(track) is None:
        raise StageError(
            f"{stage.name}.track = {track}: not installed; pip install 'crawl2chat[{track}]', "
            f"or take {stage.name}.track = none"
        )
    if isinstance(settings, TrainSettings | PolicySettings) and settings.device == "cuda":
        from crawl2chat.train.devices import choose_device

        choose_device(settings)
    if isinstance(settings, HonestySettings) and settings.retention:
        from crawl2chat.honesty.retention import read_prompts

        read_prompts(settings.retention)
    if isinstance(settings, RefineSettings):
        from crawl2chat.refine.stage import check_refine

        check_refine(settings)
    if isinstance(settings, SftSettings):
        from crawl2chat.chat.conversations import read_conversations

        for file, _ in settings.mixed_in():
            read_conversations(file)
    if isinstance(settings, ReinforceSettings) and settings.task:
        from crawl2chat.evals.tasks import load_code

        load_code(settings.task, "reinforce.task")
    if isinstance(settings, ReinforceSettings) and "python" in settings.tools:
        from crawl2chat.chat.toolbox import python_tool

        python_tool()
    if isinstance(settings, ReinforceSettings) and settings.rewards:
        from crawl2chat.rl.stage import other_rewards

        other_rewards(settings)
    if isinstance(settings, PreferSettings) and settings.rankings:
        from crawl2chat.rl.preferences.collect import read_rankings

        read_rankings(Path(settings.rankings).expanduser())


def check_sources(settings: Settings) -> None:
    """Look at the files that a crawl names and try some of its addresses, before an earlier crawl makes way.

    Raises StageError for a file of another format, an address that can't be reached, a library that is missing.
    """
    if isinstance(settings, CrawlSettings) and settings.source == "warc":
        from crawl2chat.crawl.stage import check_warcs

        check_warcs(settings)
    if isinstance(settings, CrawlSettings) and settings.source == "documents":
        from crawl2chat.crawl.documents import check_documents

        check_documents(settings.documents)
    if isinstance(settings, CrawlSettings) and settings.source == "site":
        from crawl2chat.crawl.site import check_site

        check_site(settings.site)


def check_inputs(stage: Stage, inputs: Mapping[str, Path], settings: Settings) -> None:
    """Read the files among a stage's inputs as the stage will, before an earlier result makes way.

    Raises StageError for what the stage could not use.
    """
    for kind, file in inputs.items():
        if kind in ("conversations", "questions") and file.is_dir():
            own = file / f"{kind}.jsonl"
            raise StageError(f"{file}: is a folder; expected a file{f', such as {own}' if own.is_file() else ''}")
        if kind == "conversations":
            from crawl2chat.chat.conversations import read_conversations

            read_conversations(file)
        elif kind == "questions" and stage.name == "honesty":
            from crawl2chat.honesty.lessons import read_lessons

            read_lessons(file)
        elif kind == "questions":
            from crawl2chat.evals.questions import read_questions

            read_questions(file)
        elif kind == "problems" and isinstance(settings, ReinforceSettings):
            from crawl2chat.evals.tasks import load_task, split_problems

            task = load_task(file, settings.task, "reinforce.task")
            split_problems(task.problems, settings.measured, task.name)
        elif kind == "problems" and isinstance(settings, TrainSettings):
            from crawl2chat.chat.measured import share_out
            from crawl2chat.evals.tasks import read_problems

            share_out(read_problems(file), file)
        elif kind == "prompts" and isinstance(settings, PreferSettings):
            from crawl2chat.rl.preferences.annotator import Taste
            from crawl2chat.rl.preferences.collect import rankings_file
            from crawl2chat.rl.preferences.preference_files import read_prompt_rows, split_prompts

            simulated = rankings_file(file, settings) is None
            split_prompts(read_prompt_rows(file), file, simulated)
            if simulated:
                Taste.beside(file)
        elif kind == "model":
            from crawl2chat.tokenizer import Tokenizer

            Tokenizer.load(file)
