"""The stage on a tiny model and a file of prompts."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from crawl2chat.chat.conversations import write_conversations
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import load_model
from crawl2chat.rl.preferences.preference_files import read_prompt_rows, split_prompts
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.stage import prefer
from crawl2chat.rl.preferences.store import Answer, RankingStore
from crawl2chat.rl.settings import PolicyLoraSettings
from crawl2chat.stages.files import StageError, write_json, write_jsonl
from crawl2chat.stages.stage import Stage, read_manifest, run_stage
from crawl2chat.tokenizer import Message, Tokenizer
from crawl2chat.train.pretrain import save_stage_model

SETTINGS = PreferSettings(
    ranked_prompts=12, ranked_answers=3, reward_epochs=1, compared=4, best_of=4, steps=6, prompts=2, answers=3,
    max_tokens=12, replay_tokens=96, checkpoint_every=2, evaluate_every=2,
)  # fmt: skip
STAGE = Stage("prefer", ("prompts", "sft"), "crawl2chat.rl.preferences.stage:prefer")
RUN = """
import sys
from pathlib import Path
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.stages.stage import Stage, run_stage
prompts, sft, out, settings = sys.argv[1:]
stage = Stage("prefer", ("prompts", "sft"), "crawl2chat.rl.preferences.stage:prefer")
inputs = {"prompts": Path(prompts), "sft": Path(sft)}
run_stage(stage, inputs, Path(out), PreferSettings.model_validate_json(settings))
"""


@pytest.fixture
def inputs(tmp_path, model, tokenizer):
    topics = ("moon", "sea", "hat", "hill", "king", "cat", "road", "snow", "bell", "wall")
    rows = [
        {"prompt": ask.format(topic), "group": topic, "split": "held_out" if topic in topics[-2:] else "train"}
        for topic in topics
        for ask in ("A verse about the {}.", "Say something of the {}.", "A rhyme with a {}, please.")
    ]
    taste = {"liked": ["cat", "merry"], "content": list(topics), "rhymes": [["hill", "mill"], ["snow", "low"]]}
    write_jsonl(tmp_path / "prompts.jsonl", rows)
    write_json(tmp_path / "taste.json", taste)
    save_stage_model(model, tokenizer, tmp_path / "sft")
    conversations = [
        [Message(role="user", content=f"What is {i}?"), Message(role="assistant", content=f"A number, {i}.")]
        for i in range(20)
    ]
    write_conversations(conversations, tmp_path / "sft" / "conversations.jsonl")
    return {"prompts": tmp_path / "prompts.jsonl", "sft": tmp_path / "sft"}


@pytest.mark.slow
def test_the_stage_leaves_a_chat_model_a_reward_model_rankings_curves_and_samples(inputs, tmp_path):
    out = tmp_path / "out"
    manifest, _ = run_stage(STAGE, inputs, out, SETTINGS)
    assert {name.split("/")[0] for name in manifest.outputs} == {
        "agreement.json", "checks.sqlite", "conversations.jsonl", "curves.json", "model", "rankings.sqlite",
        "reward_model", "samples.jsonl", "answers.jsonl", "checkup.jsonl", "showcase.jsonl",
    }  # fmt: skip
    engine = Engine(load_model(out), Tokenizer.load(out))
    assert engine.generate(["The"], Sampling(max_tokens=3))
    assert len(RewardModel.load(out / "reward_model").rewards([[5, 6]])) == 1
    rankings = list(RankingStore(out / "rankings.sqlite").rankings())
    assert (len(rankings), {len(r.answers) for r in rankings}) == (12, {3})
    assert len(list(RankingStore(out / "checks.sqlite").rankings())) == manifest.figures["comparisons"]["value"] == 12
    curves = json.loads((out / "curves.json").read_text())
    assert [row["step"] for row in curves["policy"]] == [0, 2, 4, 6]
    assert [row["n"] for row in curves["best_of_n"]] == [1, 2, 4]
    assert curves["policy"][0]["sqrt_kl"] == pytest.approx(0, abs=0.01)
    assert curves["policy"][-1]["sqrt_kl"] > 0.05
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().split("\n")[:-1]]
    ranked, held_out = split_prompts(read_prompt_rows(inputs["prompts"]), "prompts")
    assert {sample["prompt"] for sample in samples} == {prompt.text for prompt in held_out}
    assert {ranking.prompt for ranking in rankings} <= {prompt.text for prompt in ranked}
    assert all({"start", "kept", "peak", "end"} < set(sample) for sample in samples)
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().split("\n")[:-1]]
    assert [row["step"] for row in answers] == [0, 2, 4, 6]
    assert [one["text"] for one in answers[-1]["judged"]] == [sample["end"]["text"] for sample in samples]


@pytest.mark.slow
def test_the_model_that_is_kept_is_the_snapshot_of_the_step_that_was_kept(inputs, tmp_path):
    prefer(inputs["prompts"], inputs["sft"], tmp_path / "whole", SETTINGS)
    kept = json.loads((tmp_path / "whole" / "curves.json").read_text())["kept"]
    if kept:  # as long as the rate is constant, fewer steps end where more steps pass
        prefer(inputs["prompts"], inputs["sft"], tmp_path / "short", SETTINGS.model_copy(update={"steps": kept}))
    start = load_model(inputs["sft"] if not kept else tmp_path / "short")
    ours = load_model(tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), start.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["rankings.sqlite", "reward_model", "checks/step-00000004.json", "samples.jsonl"])
def test_a_stage_killed_in_any_phase_ends_with_the_hashes_of_an_undisturbed_one(inputs, tmp_path, sign):
    undisturbed, _ = run_stage(STAGE, inputs, tmp_path / "undisturbed", SETTINGS)
    out = tmp_path / "killed"
    arguments = [str(inputs["prompts"]), str(inputs["sft"]), str(out), SETTINGS.model_dump_json()]
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 900
    while not (out / sign).exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert read_manifest(out) is None, "killed too late to test anything"
    again, _ = run_stage(STAGE, inputs, out, SETTINGS)
    assert again.outputs == undisturbed.outputs
    assert again.figures == undisturbed.figures


@pytest.mark.slow
def test_a_persons_rankings_are_learned_from_and_gold_is_left_out(inputs, tmp_path):
    store = RankingStore(tmp_path / "mine.sqlite")
    ranked, held_out = split_prompts(read_prompt_rows(inputs["prompts"]), "prompts")
    for prompt in [*ranked[:8], held_out[0]]:
        store.add(prompt.text, [Answer("the mill", True, "model"), Answer("the river", True, "model")], [1, 0], "anna")
    settings = SETTINGS.model_copy(update={"rankings": str(tmp_path / "mine.sqlite")})
    figures = {figure.name: figure for figure in prefer(inputs["prompts"], inputs["sft"], tmp_path / "out", settings)}
    assert figures["rankings"].value == 9
    assert figures["comparisons"].value == 0
    assert figures["kept_step"].value == SETTINGS.steps
    assert not any("gold" in name for name in figures)
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert all(row["gold"] is None for row in [*curves["policy"], *curves["best_of_n"]])
    prompts = [json.loads(line)["prompt"] for line in (tmp_path / "out" / "samples.jsonl").read_text().split("\n")[:-1]]
    assert held_out[0].text not in prompts


@pytest.mark.slow
def test_conversations_as_prompts_without_splits_or_a_taste_are_learned_from(inputs, tmp_path):
    (tmp_path / "taste.json").unlink()
    system = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [system, {"role": "user", "content": f"What of the {i}?"}]} for i in range(10)]
    write_jsonl(tmp_path / "own.jsonl", rows)
    (tmp_path / "out").mkdir()
    figures = {f.name: f for f in prefer(tmp_path / "own.jsonl", inputs["sft"], tmp_path / "out", SETTINGS)}
    assert figures["rankings"].value == 12
    assert "gold/end" in figures
    rankings = RankingStore(tmp_path / "out" / "rankings.sqlite").rankings()
    asked = {ranking.asked.messages[0]["content"] for ranking in rankings}
    assert asked == {"Be brief."}
    assert (
        len((tmp_path / "out" / "samples.jsonl").read_text().splitlines()) == 2 * 2
    )  # of ten topics, two answers each


def test_without_prompts_or_with_too_few_rankings_the_stage_says_what_is_missing(inputs, tmp_path):
    RankingStore(tmp_path / "mine.sqlite").add("A?", [Answer("a", True, "m"), Answer("b", True, "m")], [0, 1], "anna")
    for file, word in (("mine.sqlite", "at least 5 prompts must be ranked"), ("no.sqlite", "no such file")):
        settings = SETTINGS.model_copy(update={"rankings": str(tmp_path / file)})
        with pytest.raises(StageError, match=word):
            prefer(inputs["prompts"], inputs["sft"], tmp_path / "out", settings)
    with pytest.raises(StageError, match=r"a folder without prompts\.jsonl"):
        prefer(inputs["sft"], inputs["sft"], tmp_path / "out", SETTINGS)
    write_jsonl(inputs["prompts"], [{"prompt": "One?", "split": "train"}])
    with pytest.raises(StageError, match="1 prompts to rank and 0 to measure on; at least 1 of each is needed"):
        prefer(inputs["prompts"], inputs["sft"], tmp_path / "out", SETTINGS)


def test_prompts_or_rankings_of_a_single_group_are_refused_before_anything_is_sampled(inputs, tmp_path):
    one = [{"prompt": f"{i}?", "group": "numbers", "split": "held_out" if i > 7 else "train"} for i in range(10)]
    write_jsonl(inputs["prompts"], one)
    with pytest.raises(StageError, match="all 8 prompts to rank are in the group 'numbers'; at least 2 groups"):
        prefer(inputs["prompts"], inputs["sft"], tmp_path / "out", SETTINGS)
    store = RankingStore(tmp_path / "mine.sqlite")
    answers = [Answer("the mill", True, "model"), Answer("the river", True, "model")]
    for row in one[:6]:
        store.add(row["prompt"], answers, [1, 0], "anna")
    settings = SETTINGS.model_copy(update={"rankings": str(tmp_path / "mine.sqlite")})
    with pytest.raises(StageError, match="all rankings are of prompts in the group 'numbers'"):
        prefer(inputs["prompts"], inputs["sft"], tmp_path / "out", settings)
    write_jsonl(inputs["prompts"], [{"prompt": f"{i}?", "group": "numbers"} for i in range(10)])
    with pytest.raises(StageError, match="0 prompts to rank and 10 to measure on; .* a group is held out as a whole"):
        prefer(inputs["prompts"], inputs["sft"], tmp_path / "out", SETTINGS)


def test_prompts_that_have_all_been_ranked_leave_nothing_to_measure_on(inputs, tmp_path):
    store = RankingStore(tmp_path / "mine.sqlite")
    for row in read_prompt_rows(inputs["prompts"]):
        store.add(row.prompt, [Answer("the mill", True, "model"), Answer("the river", True, "model")], [1, 0], "anna")
    settings = SETTINGS.model_copy(update={"rankings": str(tmp_path / "mine.sqlite")})
    with pytest.raises(StageError, match="all 6 prompts to measure on have been ranked"):
        prefer(inputs["prompts"], inputs["sft"], tmp_path / "out", settings)


@pytest.mark.slow
def test_with_an_adapter_model_and_reward_model_are_small_folders_on_one_base(inputs, tmp_path):
    settings = SETTINGS.model_copy(update={"lora": PolicyLoraSettings(rank=2, lr=0.01)})
    out = tmp_path / "out"
    run_stage(STAGE, inputs, out, settings)
    for folder in (out / "model", out / "reward_model"):
        assert not (folder / "model.safetensors").exists()
        assert json.loads((folder / "adapter_base.json").read_text())["folder"] == "../../sft/model"
    start, trained = load_model(inputs["sft"]), load_model(out)
    assert torch.equal(start.model.embed_tokens.weight, trained.model.embed_tokens.weight)
    first, second = RewardModel.load(out / "reward_model").rewards([[5, 6], [7, 8]])
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "rl"])
def test_a_file_of_pairs_is_prompts_and_rankings_and_what_is_held_out_only_measures(inputs, tmp_path, method):
    asks = ("What of the {}?", "Tell me of the {}.", "A {}?")
    rows = [
        {"chosen": f"\n\nHuman: {ask.format(i)}\n\nAssistant: the mill", "rejected":
         f"\n\nHuman: {ask.format(i)}\n\nAssistant: the river {i}"} for i in range(8) for ask in asks
    ]  # fmt: skip
    file = tmp_path / "pairs.jsonl"
    write_jsonl(file, [*rows, {"chosen": rows[0]["chosen"], "rejected": rows[0]["chosen"]}])
    settings = SETTINGS.model_copy(update={"method": method, "reward_models": 2, "measured": 2, "best_of": 1})
    manifest, _ = run_stage(STAGE, {"prompts": file, "sft": inputs["sft"]}, tmp_path / "out", settings)
    figures = manifest.figures
    assert figures["rankings"]["value"] == 24
    _, held_out = split_prompts(read_prompt_rows(file), file)
    assert figures["reward_model_agrees"]["count"] == len(held_out) == 5
    assert {"reward_margin", "reward_calibration_error", "reward_model_prefers_longer"} <= figures.keys()
    assert "held_out_margin/kept" in figures
    assert (tmp_path / "out" / "reward_model_2").is_dir()
    lines = (tmp_path / "out" / "metrics.jsonl").read_text()
    assert ("pairs_in_order" in lines) == (method == "dpo") != ("sampled_per_second" in lines)
