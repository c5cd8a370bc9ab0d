"""bench/gpu.py at toy size on a CPU: every part measures, and none takes another with it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from crawl2chat.stages.files import StageError
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings

BENCH = Path(__file__).parents[2] / "bench"
sys.path.append(str(BENCH))

import gpu  # noqa: E402
from gpu_parts import decoding, training  # noqa: E402
from gpu_parts.job import TINY, Job, Row  # noqa: E402
from gpu_parts.texts import common_pieces, documents_of  # noqa: E402

# what crawl2chat is installed with, and the command must do without
ABSENT = (
    "aiohttp", "fastwarc", "gguf", "huggingface_hub", "icu4py", "matplotlib", "numba", "prometheus_client",
    "prompt_toolkit", "py3langid", "pyarrow", "resiliparse", "rustbpe", "starlette", "tokenizers", "uvicorn",
    "webencodings", "yaml",
)  # fmt: skip


def job_of(folder: Path, seconds: float = 1e6) -> Job:
    return Job("cpu", TINY, folder, None, time.monotonic() + seconds)


def gpu_bench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCH / "gpu.py", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.no_cover
def test_every_part_measures_with_no_more_packages_than_it_names(tmp_path):
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not for this test')\n")
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(documents_of(None)[:60]), encoding="utf-8")
    parts = ["tests", "speed", "learning", "policy"]
    run = gpu_bench(
        "--device", "cpu", "--tiny", "--minutes", 20, "--text", text, "--out", tmp_path / "gpu.json", "--parts", *parts,
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    rows = {row["what"]: row for part in parts for row in report["parts"][part]["rows"]}
    failed = {what: row["error"] for what, row in rows.items() if row["error"]}
    assert list(failed) == [f"training, depth {depth}, fp8" for depth in TINY.depths]
    assert all("needs a GPU" in error for error in failed.values())
    assert rows["tests"]["figures"]["passed"]["value"] > 10
    for depth in TINY.depths:
        figures = rows[f"training, depth {depth}, fp32"]["figures"]
        assert figures["tokens_per_second"]["value"] > 0
        assert 0 < figures["model_flop_utilisation"]["value"] < 1
        assert figures["predicted_memory"]["value"] > 0
    learned = rows["learning from text"]["figures"]
    assert learned["held_out_bits_per_byte"]["value"] < learned["unigram_bits_per_byte"]["value"]
    drawn = rows[f"GRPO, depth {TINY.policy_depth}, fp32"]["figures"]
    assert drawn["logprob_gap_max"]["value"] < 1e-4
    assert drawn["steps_per_minute"]["value"] > 0
    for what, row in rows.items():
        assert what in run.stdout, row


def test_both_sides_generate_and_are_compared(tmp_path):
    pytest.importorskip("transformers")
    rows: list[Row] = []
    decoding.decoding(job_of(tmp_path), rows.append)
    assert not [row.error for row in rows if row.error]
    assert len(rows) == 3 * len(TINY.batches)
    ratios = [figure.value for row in rows for figure in row.figures if figure.name == "ours_by_theirs"]
    assert len(ratios) == 2 * len(TINY.batches)
    assert min(ratios) > 0


def test_without_transformers_its_row_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.importlib.util, "find_spec", lambda name: None)
    rows: list[Row] = []
    decoding.decoding(job_of(tmp_path), rows.append)
    assert rows[-1] == Row("transformers", note="not installed")


def test_when_the_time_is_up_nothing_more_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.importlib.util, "find_spec", lambda name: None)
    rows: list[Row] = []
    decoding.decoding(job_of(tmp_path, seconds=0.0), rows.append)
    assert {row.note for row in rows[:-1]} == {"not measured: the time was up"}


def test_a_micro_batch_that_the_formula_has_no_memory_for_is_halved(monkeypatch):
    settings = PretrainSettings(depth=3, seq_len=32, batch_tokens=1024, precision="bf16", device="cuda")
    config = model_config(settings, 512)
    needed = {tokens: training.predicted_memory(config, settings, tokens).peak for tokens in (1024, 512, 256)}
    for tokens, peak in needed.items():
        card = SimpleNamespace(total_memory=peak / training.FILLED + 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda card=card: card)
        assert training.fitting(config, settings) == tokens


def test_a_training_that_runs_out_of_memory_is_timed_with_half_as_much_at_once(tmp_path, monkeypatch):
    tried = []

    def step_seconds(job, config, settings):
        tried.append(settings.micro_batch_tokens)
        if len(tried) < 3:
            raise StageError("bench: out of memory; set less")
        return [1.0] * 5

    monkeypatch.setattr(training, "step_seconds", step_seconds)
    figures = {figure.name: figure.value for figure in training.training_figures(job_of(tmp_path), 3, "fp32")}
    assert tried == [128, 64, 32]
    assert figures["micro_batch"] == 32
    assert figures["tokens_per_second"] == 128


def crashes(name, job, log, rows):
    rows.send(Row("first"))
    os._exit(3)


def hangs(name, job, log, rows):
    os.setpgid(0, 0)
    rows.send(Row("first"))
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])


@dataclass
class Clock:
    """A job whose time is up when the test says so."""

    seconds: float = 600.0

    def left(self) -> float:
        return self.seconds


@pytest.mark.slow
@pytest.mark.parametrize(("work", "said"), [(crashes, "exit code 3"), (hangs, "time was up")])
def test_a_part_that_crashes_or_hangs_leaves_what_it_has(tmp_path, monkeypatch, work, said):
    monkeypatch.setattr(gpu, "GRACE", 1.0)
    job = Clock()
    rows = gpu.run_part("speed", job, tmp_path / "log", work)
    assert next(rows) == Row("first")
    job.seconds = 0.0 if work is hangs else 600.0
    (last,) = rows
    assert said in last.error


@pytest.mark.slow
def test_a_part_whose_import_fails_is_an_error_of_its_own(tmp_path):
    first, *more = gpu.run_part("no such part", job_of(tmp_path), tmp_path / "log")
    assert "no such part" in first.error
    assert not more


def test_what_is_missing_is_named_before_anything_is_imported():
    run = subprocess.run([sys.executable, "-I", "-S", BENCH / "gpu.py"], capture_output=True, text=True)
    assert run.returncode == 1
    assert "missing: torch, safetensors, numpy" in run.stderr
    assert "pip download -d wheels" in run.stderr


def test_a_machine_without_a_gpu_is_told_how_to_try_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit, match="--device cpu --tiny"):
        gpu.main()


def test_a_text_becomes_documents_and_a_vocabulary_that_gives_it_back(tmp_path):
    paragraphs = [f"Paragraph {i} tells of the river, its mills and three bridges. " * 20 for i in range(40)]
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(paragraphs), encoding="utf-8")
    documents = documents_of(file)
    assert len(documents) > 5
    assert "".join(documents) == file.read_text()
    tokenizer = common_pieces(documents, 300)
    assert tokenizer.vocab_size <= 300
    ids = tokenizer.encode(documents[0])
    assert tokenizer.decode(ids) == documents[0]
    assert len(ids) < len(documents[0].encode()) / 3
