"""The doors for a notebook: run, load, chat."""

import subprocess
import sys

import pytest
from models import random_model
from warcs import page_record, prose, write_warc

import crawl2chat
from crawl2chat import load, run
from crawl2chat.cli.main import main
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import load_model
from crawl2chat.stages.files import StageError
from crawl2chat.stages.settings import RecipeError
from crawl2chat.train.pretrain import save_stage_model


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A chat model from elsewhere: no stage made it."""
    out = tmp_path_factory.mktemp("model")
    save_stage_model(random_model("tied", tokenizer.vocab_size), tokenizer, out)
    return out


@pytest.fixture
def model(folder):
    return load(folder)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, crawl2chat; from crawl2chat import run, load\n"
    code += "print(sorted(m for m in ('torch', 'pydantic', 'numpy', 'rich') if m in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"


def test_a_name_that_is_no_door_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        crawl2chat.lode  # noqa: B018


def test_run_takes_a_recipe_and_returns_the_figures_of_its_stages(tmp_path):
    warc = write_warc(tmp_path / "pages.warc.gz", [page_record(i, prose(i, 24)) for i in range(6)])
    (tmp_path / "mine.toml").write_text("[crawl]\nsource = 'warc'\n[refine]\nworkers = 1\n")
    arguments = {"crawl": {"warc": [str(warc)]}, "tokenizer": {"vocab_size": 300}, "until": "tokenizer"}
    results = run(tmp_path / "mine.toml", tmp_path / "out", **arguments)
    assert list(results.manifests) == ["crawl", "refine", "tokenizer"]
    assert results["tokenizer"]["vocab_size"].value == 300
    assert results.ran == {"crawl", "refine", "tokenizer"}
    again = run(tmp_path / "mine.toml", tmp_path / "out", **arguments, seed=0)
    assert again.ran == set(), "nothing has changed"
    with pytest.raises(KeyError):
        results["pretrain"]


@pytest.mark.parametrize("arguments", [["mine.py"], ["-m", "mine"]])
def test_a_script_may_run_a_recipe_without_a_guard_and_is_executed_once(arguments, tmp_path):
    write_warc(tmp_path / "pages.warc.gz", [page_record(i, prose(i, 24)) for i in range(6)])
    (tmp_path / "mine.py").write_text(
        "print('begun', flush=True)\nfrom crawl2chat import run\n"
        "results = run('pages', 'out', crawl={'warc': ['pages.warc.gz']}, until='refine', refine={'workers': 1})\n"
        "print(results['refine']['kept'].value, __file__[-7:])\n"
    )
    command = [sys.executable, *arguments]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert shown == "begun\n6 mine.py\n"


def test_run_names_every_mistake_at_once_before_any_work(tmp_path):
    with pytest.raises(RecipeError, match=r"(?s)2 problems.*pretrain\.detph.*did you mean.*sft\.epochs"):
        run(out=tmp_path / "out", pretrain={"detph": 3}, sft={"epochs": -1})
    with pytest.raises(StageError, match="there are assistant, cluster, documents, gpu"):
        run("labtop", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_continues_one_text_or_several(model, folder, tokenizer):
    prompts = ["The mill", "In 1842 they"]
    expected = Engine(load_model(folder), tokenizer).generate(prompts, Sampling(temperature=0.8, max_tokens=6, seed=2))
    assert model.generate(prompts, temperature=0.8, max_tokens=6, seed=2) == [one.text for one in expected]
    assert model.generate(prompts[0], temperature=0.8, max_tokens=6, seed=2) == expected[0].text
    with pytest.raises(ValueError, match="top_p = 3"):
        model.generate("The mill", top_p=3)


def test_chat_answers_a_question_or_a_conversation(model, tokenizer):
    said = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "They."},
        {"role": "user", "content": "Why?"},
    ]
    prompt, _ = tokenizer.encode_chat(said, add_generation_prompt=True)
    (expected,) = model.engine.generate([prompt], Sampling(temperature=0, max_tokens=7))
    written = []
    assert model.chat(said, max_tokens=7, write=written.append) == expected.text.strip()
    assert "".join(written) == expected.text
    system = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    assert model.chat("Why?", system="Be kind.", max_tokens=7) == model.chat(system, max_tokens=7)
    assert model.chat("Why?", max_tokens=7, temperature=1, seed=1) != model.chat("Why?", max_tokens=7)


def test_tools_are_offered_by_name_and_only_to_a_model_that_can_call_them(model, tokenizer, monkeypatch):
    prompts = []
    submit = Engine.submit
    monkeypatch.setattr(Engine, "submit", lambda self, ids, *a, **b: prompts.append(ids) or submit(self, ids, *a, **b))
    model.chat("Why?", tools={"calculator": lambda text: "4"}, max_tokens=2)
    assert "calculator" in tokenizer.decode(prompts[0])
    with pytest.raises(StageError, match="no search index"):
        model.chat("Why?", tools=True)
    model.stage = "pretrain"
    with pytest.raises(StageError, match="a base model can't call any"):
        model.chat("Why?", tools={"calculator": lambda text: "4"})


def test_load_says_what_is_missing_and_what_is_impossible(folder, tmp_path):
    with pytest.raises(StageError, match="there is no such folder"):
        load(tmp_path / "absent")
    with pytest.raises(StageError, match="has no finished model of the stage sft"):
        load(folder, "sft")
    with pytest.raises(StageError, match="context = 1"):
        load(folder, context=1)
    assert load(folder, context=20).engine.context == 20


def test_the_command_line_and_the_doors_give_the_same_text(model, folder, capsys):
    assert main(["generate", str(folder), "The mill", "--max-tokens", "6", "--seed", "3"]) == 0
    assert (
        capsys.readouterr().out == "The mill" + model.generate("The mill", temperature=0.8, max_tokens=6, seed=3) + "\n"
    )
