"""The standard suites, behind one call: what a model is asked, what comes of it, and how it is kept."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from crawl2chat import __version__
from crawl2chat.evals.suites.chat_suites import Measured, measure_arc, measure_humaneval, measure_task, problems_of_rows
from crawl2chat.evals.suites.core import measure_core
from crawl2chat.evals.suites.rows import Rows, read_rows
from crawl2chat.evals.suites.sandbox import isolated
from crawl2chat.evals.tasks import Task, load_task
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer, WeightForm
from crawl2chat.stages.figures import figure_table
from crawl2chat.stages.files import StageError, hash_json, write_json, write_jsonl
from crawl2chat.stages.stage import hash_path, source_hash
from crawl2chat.stages.user_code import source_file
from crawl2chat.tokenizer import Tokenizer

CONFIGURATIONS = {"gsm8k": "main", "arc": "ARC-Challenge"}  # of the data sets that these are on the hub


@dataclass(frozen=True)
class SuiteOptions:
    """A suite and its settings; None where the suite has its default or does not have the setting."""

    suite: str
    data: str | None = None
    limit: int | None = None
    tasks: str | None = None
    include_path: Path | None = None
    samples: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    weights: WeightForm | None = None


@dataclass(frozen=True)
class Result:
    """What a suite measured, with all that it depends on but the model."""

    options: SuiteOptions
    measured: Measured
    data_hash: str | None  # sha256
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)


def measure(model: Transformer, tokenizer: Tokenizer, options: SuiteOptions) -> Result:
    """Run a suite; base as it is for a model from elsewhere.

    Raises StageError for data or settings that it can't be run with.
    """
    began = time.monotonic()
    if options.suite == "core":
        result = _core(model, tokenizer, options)
    elif options.suite == "base":
        result = _base(model, tokenizer, options)
    elif options.suite == "lm-eval":
        result = _lm_eval(model, tokenizer, options)
    else:
        result = _problems(model, tokenizer, options)
    return replace(result, seconds=round(time.monotonic() - began, 2))


def _core(model: Transformer, tokenizer: Tokenizer, options: SuiteOptions) -> Result:
    folder = Path(options.data or "").expanduser()
    if not folder.is_dir():
        raise StageError(
            f"eval --data {options.data}: there is no such folder; expected the folder of CORE's tasks, with core.json"
        )
    figures, absent = measure_core(model, tokenizer, folder, options.limit)
    return Result(options, Measured(figures), hash_path(folder), 0, {"absent_tasks": absent})


def _base(model: Transformer, tokenizer: Tokenizer, options: SuiteOptions) -> Result:
    from crawl2chat.evals.base.from_outside import LIMIT, measure_from_outside, series

    text = Path(options.data).expanduser() if options.data else None
    if text and not text.exists():
        raise StageError(f"eval --data {text}: there is no such file; expected a text to measure bits per byte on")
    options = replace(options, limit=options.limit or LIMIT)
    measured = measure_from_outside(Engine(model, tokenizer), text, options.limit or LIMIT)
    hashed = hash_path(text) if text else None
    return Result(options, measured, hashed, 0, {"series": series(measured.figures)})


def _lm_eval(model: Transformer, tokenizer: Tokenizer, options: SuiteOptions) -> Result:
    try:
        import lm_eval
    except ImportError as error:
        raise StageError("eval --suite lm-eval needs `pip install 'crawl2chat[lm-eval]'`") from error
    from crawl2chat.evals.suites.harness import measure_tasks

    if options.include_path and not options.include_path.is_dir():
        raise StageError(f"eval --include-path {options.include_path}: there is no such folder")
    tasks = [name.strip() for name in (options.tasks or "").split(",") if name.strip()]
    figures = measure_tasks(model, tokenizer, tasks, options.include_path, options.limit)
    hashed = hash_path(options.include_path) if options.include_path else None
    return Result(options, Measured(figures), hashed, 0, {"lm_eval": lm_eval.__version__})


def _problems(model: Transformer, tokenizer: Tokenizer, options: SuiteOptions) -> Result:
    own_task = options.suite not in ("arc", "gsm8k", "humaneval")
    rows = Rows("", "", []) if own_task else read_rows(options.data or "", CONFIGURATIONS.get(options.suite))
    rows = replace(rows, rows=rows.rows[: options.limit])
    if options.suite == "arc":
        return Result(options, measure_arc(model, tokenizer, rows), rows.hash, 0)
    samples = options.samples or 1
    temperature = options.temperature if options.temperature is not None else 0.8 if samples > 1 else 0.0
    options = replace(options, samples=samples, temperature=temperature, max_tokens=options.max_tokens or 512)
    if samples > 1 and not temperature:
        raise StageError("eval --samples: at temperature 0 all samples are the same; give another --temperature")
    try:
        sampling = Sampling(temperature=temperature, max_tokens=options.max_tokens or 512)
    except ValueError as error:
        raise StageError(f"eval: {error}") from error
    engine = Engine(model, tokenizer, empties_model=True, weights=options.weights)
    if own_task:
        task, hashed = _own_task(options)
        return Result(options, measure_task(engine, task, label_of(options.suite), sampling, samples), hashed, 0)
    if options.suite == "gsm8k":
        task = Task(rows.source, problems_of_rows(rows))
        return Result(options, measure_task(engine, task, "gsm8k", sampling, samples), rows.hash, 0)
    return Result(
        options, measure_humaneval(engine, rows, sampling, samples), rows.hash, 0, {"programs_isolated": isolated()}
    )


def _own_task(options: SuiteOptions) -> tuple[Task, str]:
    """A task in Python code, its held-out problems alone if it says which they are; and the hash of what it is in."""
    setting = "eval --suite"
    task = (
        load_task(options.data, options.suite, setting) if options.data else load_task(options.suite, setting=setting)
    )
    held_out = [problem for problem in task.problems if problem.split == "held_out"] or task.problems
    files = [source_file(options.suite, setting), *([Path(options.data)] if options.data else [])]
    return replace(task, problems=held_out[: options.limit]), hash_json([hash_path(file) for file in files])


def label_of(suite: str) -> str:
    """The name that figures and files of a suite have: of a task in Python code that of its file or module."""
    return Path(suite.partition(".py")[0]).name if ".py" in suite else suite.partition(":")[0]


def print_figures(title: str, result: Result) -> None:
    """A table of the figures, with notes on what they mean."""
    console = Console(width=120, highlight=False)
    console.print(f"[bold]{title}[/bold]  ({result.seconds:.1f} s)")
    console.print(figure_table(result.measured.figures, plain_names=result.options.suite != "lm-eval"))
    if absent := result.notes.get("absent_tasks"):
        console.print(f"CORE over the tasks present; not there: {', '.join(absent)}")
    if result.notes.get("programs_isolated") is False:
        console.print("no namespaces can be made here, so programs had the network and could outlive their test")
    console.print()


def write_result(file: Path, result: Result, *, model: str, model_hash: str) -> None:
    """Write the figures as JSON; where the model wrote answers, also `FILE.answers.jsonl`, one line per answer."""
    answers = file.with_name(f"{file.name.removesuffix('.json')}.answers.jsonl")
    if result.measured.answers:
        write_jsonl(answers, result.measured.answers)
    else:
        answers.unlink(missing_ok=True)  # another suite's, which these figures do not come from
    settings = {name: value for name, value in asdict(result.options).items() if value is not None}
    write_json(
        file,
        {
            "suite": settings.pop("suite"),
            "model": model,
            "model_hash": model_hash,
            "settings": {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()},
            "data_sha256": result.data_hash,
            **result.notes,
            "figures": {figure.name: figure.to_json() for figure in result.measured.figures},
            "seconds": result.seconds,
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "code": {"version": __version__, "source": source_hash()},
        },
    )
