"""The recipe for an assistant, with a tiny model that knows nothing and five pages."""

from pathlib import Path
from typing import Any

import pytest
import torch
from asked_server import Reply, says, serving

from crawl2chat.cli.main import main
from crawl2chat.evals.questions import read_questions
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.pipeline import Recipe, Step, plan_steps
from crawl2chat.stages.settings import load_settings
from crawl2chat.stages.stage import read_manifest
from crawl2chat.train.pretrain import save_stage_model

RECIPE = Path(__file__).parents[2] / "recipes" / "assistant.toml"
SMALL = [
    "--sft.epochs", "1", "--honesty.invented", "4", "--honesty.invented_measured", "4", "--honesty.identity", "0",
    "--sft.lora.rank", "2",
    "--honesty.lora.rank", "2",
]  # fmt: skip


def names_the_machine(body: dict[str, Any]) -> Reply:
    """Asks which machine has a part, and answers with its name."""
    asked = body["messages"][-1]["content"]
    number = asked.partition("pump number ")[2].split()[0].strip("?.,") if "pump number" in asked else "1"
    first = body["messages"][0]["content"]
    if "question with the given" in first or "other words" in first:
        return says(f"Which town has pump number {number} of the works?")
    return says(f"Town{number}")


@pytest.fixture
def place(tmp_path, tokenizer):
    """A folder with five pages and a tiny model."""
    torch.manual_seed(0)
    for i in range(5):
        pages = [
            f"Visitors find the pump number {10 * i + j} of the works in Town{10 * i + j}, close to a river."
            for j in range(6)
        ]
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / f"works-{i}.md").write_text("\n\n".join(pages))
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 1, 16, max_position_embeddings=512))
    model.init_weights(0)
    save_stage_model(model, tokenizer, tmp_path / "tiny")
    return tmp_path


def flags(place: Path, url: str) -> list[str]:
    return [
        "--model", str(place / "tiny" / "model"), "--crawl.documents", str(place / "docs"), "--synthesize.url", url,
        "--synthesize.model", "m", "--synthesize.words", "20", "--synthesize.passages", "6", "--synthesize.wordings",
        "1", "--synthesize.form", "questions", *SMALL,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_model_and_a_folder_of_documents_become_an_assistant(place, capsys):
    out = place / "run"
    with serving(names_the_machine) as server:
        # honesty takes most of the time, and has tests of its own; what it would read is looked at below
        command = ["run", str(RECIPE), "--out", str(out), "--until", "sft", *flags(place, server.url)]
        assert main(command) == 0, capsys.readouterr().err
        questions = read_questions(out / "synthesize" / "questions.jsonl")
        assert {row.split for row in questions} == {"train", "probe", "held_out"}
        assert all(row.answers[0].startswith("Town") for row in questions)
        assert read_manifest(out / "pretrain").stage == "import"
        assert {"synthesize/conversations.jsonl", "synthesize/questions.jsonl"} <= read_manifest(
            out / "sft"
        ).inputs.keys()
        capsys.readouterr()
        asked = len(server.asked)
        assert main(command) == 0
        assert capsys.readouterr().out.count("unchanged") == 5
        assert len(server.asked) == asked


def steps_of(place: Path, *more: str) -> dict[str, Step]:
    recipe = load_settings(Recipe, RECIPE, [*flags(place, "http://localhost/v1")[2:], *more], values={"model": "x"})
    return {step.stage.name: step for step in plan_steps(recipe, place / "run")}


def test_files_of_ones_own_take_the_place_of_what_a_model_writes(place):
    conversations, questions = (["--" + kind, str(place / f"{kind}.jsonl")] for kind in ("conversations", "questions"))
    questions_read = steps_of(place)["honesty"].inputs["questions"]
    assert questions_read == place / "run" / "synthesize" / "questions.jsonl"
    assert "synthesize" in steps_of(place, *conversations)
    assert "synthesize" in steps_of(place, *questions)
    assert "synthesize" not in steps_of(place, *conversations, *questions)


def test_the_made_up_web_and_pages_alone_synthesize_nothing(tmp_path):
    recipes = RECIPE.parent
    for name in ("laptop", "pages", "documents"):
        more = {"pages": ["--crawl.warc", "x.warc"], "documents": ["--crawl.documents", "x"]}.get(name, [])
        recipe = load_settings(Recipe, recipes / f"{name}.toml", more)
        assert not recipe.synthesizes


def test_a_model_that_is_not_there_ends_a_run_before_any_work(place, capsys):
    command = ["run", str(RECIPE), "--out", str(place / "run"), *flags(place, "http://127.0.0.1:9/v1")]
    command[command.index("--model") + 1] = str(place / "no-such-model")
    assert main(command) == 1
    assert "no-such-model" in capsys.readouterr().err
    assert not (place / "run" / "crawl").exists()
