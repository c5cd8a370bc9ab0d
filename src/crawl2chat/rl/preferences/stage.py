"""The stage of preferences: a chat model in; rankings, a reward model and a model that pleases more out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from crawl2chat.generate import Engine
from crawl2chat.honesty.checkup import check_again, copy_forward
from crawl2chat.model import Transformer, load_model
from crawl2chat.rl.grpo import PolicyGradient, Prompts
from crawl2chat.rl.preferences.annotator import TASTE, Annotator, Taste
from crawl2chat.rl.preferences.check import Check, Checker, penalised_reward
from crawl2chat.rl.preferences.collect import (
    Agreement,
    agreement,
    prompt_ids,
    rank_by_taste,
    read_rankings,
    reward_model_of,
    split_by_topic,
)
from crawl2chat.rl.preferences.preference_files import PromptRow, read_prompt_rows, split_prompts
from crawl2chat.rl.preferences.results import (
    best_of_n_curve,
    check_to_keep,
    curves,
    figures,
    write_checks,
    write_samples,
)
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Ranking
from crawl2chat.rl.replay import replay_batches
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, write_json
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import in_epochs
from crawl2chat.train.devices import choose_device
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import Metrics
from crawl2chat.train.pretrain import save_stage_model

CURVES = "curves.json"


@dataclass(frozen=True)
class _Asked:
    """Who judges, and what is asked: prompts that may be ranked, and prompts about other topics to measure on."""

    annotator: Annotator | None  # None: a person did the ranking
    ranked: list[PromptRow]
    held_out: list[PromptRow]


def prefer(prompts: AnyPath, model: AnyPath, out: AnyPath, settings: PreferSettings) -> list[Figure]:
    """Rank answers of `model`, fit a reward model to the rankings, follow it, and keep what was preferred most.

    `prompts`: a file of prompts or a folder with `prompts.jsonl`. The simulated annotator takes its taste from
    `taste.json` next to it, if there is one. `model`: an earlier stage's folder, whose conversations, if there are any,
    are replayed. Each phase leaves a file and is not repeated after a kill.
    Raises StageError for prompts or rankings that can't be used.
    """
    prompts, model, out = Path(prompts), Path(model), Path(out)
    rows = read_prompt_rows(prompts)
    ranked, held_out = split_prompts(rows, prompts, simulated=not settings.rankings)
    copy_forward(model, out)
    tokenizer, start = Tokenizer.load(model), load_model(model, device=choose_device(settings))
    annotator = None if settings.rankings else Annotator(settings.noise, settings.seed, _taste_beside(prompts))
    asked = _Asked(annotator, ranked, held_out)
    rankings = _rankings(start, tokenizer, asked, settings, out)
    reward_model = _reward_model(start, tokenizer, rankings, asked, settings, out)
    if not (out / CURVES).exists():
        checker = _checker(start, tokenizer, reward_model, rankings, asked, settings)
        checks = _follow(model, checker, rankings, out)
        kept = check_to_keep(checks)
        write_checks(checks, out / "checks.sqlite")
        write_samples(checks, kept, out / "samples.jsonl")
        policy = load_model(model)
        policy.load_state_dict(load_file(_snapshot(out, kept.step)), strict=False)  # a tied head is not stored twice
        save_stage_model(policy, tokenizer, out)
        write_json(out / CURVES, curves(checks, kept, best_of_n_curve(checker)))
    for folder in ("checkpoints", "checks"):  # of use only until the results are there
        shutil.rmtree(out / folder, ignore_errors=True)
    engine = Engine(load_model(out, device=choose_device(settings)), tokenizer)
    return [
        Figure("rankings", len(rankings)),
        *Agreement(**json.loads((out / "agreement.json").read_text(encoding="utf-8"))).figures(),
        *figures(json.loads((out / CURVES).read_text(encoding="utf-8"))),
        *check_again(engine, model, settings.seed, out, "prefer"),
    ]


def _taste_beside(prompts: Path) -> Taste:
    file = (prompts if prompts.is_dir() else prompts.parent) / TASTE
    return Taste.load(file) if file.exists() else Taste()


def _rankings(
    start: Transformer, tokenizer: Tokenizer, asked: _Asked, settings: PreferSettings, out: Path
) -> list[Ranking]:
    if settings.rankings or asked.annotator is None:
        return read_rankings(Path(settings.rankings or "").expanduser())
    file = out / "rankings.sqlite"
    if not file.exists():
        rank_by_taste(Engine(start, tokenizer), asked.ranked, asked.annotator, settings, file)
    return read_rankings(file)


def _reward_model(
    start: Transformer,
    tokenizer: Tokenizer,
    rankings: list[Ranking],
    asked: _Asked,
    settings: PreferSettings,
    out: Path,
) -> RewardModel:
    """Fitted to the rankings of four fifths of the prompts and measured on the others."""
    folder = out / "reward_model"
    training, test = split_by_topic(rankings, asked.ranked, settings.seed)
    run = out / "reward_model_run"  # metrics and checkpoints, of use only until the model is there
    if not folder.exists():
        reward_model_of(start, tokenizer, training, settings, run).save(folder, pad_id=tokenizer.end_of_text)
    shutil.rmtree(run, ignore_errors=True)
    model = RewardModel.load(folder, device=choose_device(settings))
    if not (out / "agreement.json").exists():
        found = agreement(model, start, tokenizer, test, asked.annotator, asked.ranked)
        write_json(out / "agreement.json", found.to_json())
    return model


def _checker(
    start: Transformer,
    tokenizer: Tokenizer,
    reward_model: RewardModel,
    rankings: list[Ranking],
    asked: _Asked,
    settings: PreferSettings,
) -> Checker:
    rows = {row.prompt: row for row in asked.ranked}
    starts = [(rows[ranking.asked], ranking.answers[0]) for ranking in rankings if ranking.asked in rows]
    ranked = {ranking.prompt for ranking in rankings}
    held_out = [prompt for prompt in asked.held_out if prompt.text not in ranked]
    if not held_out:
        raise StageError(
            f"prefer.rankings = {settings.rankings}: all {len(asked.held_out)} prompts to measure on have been ranked; "
            'add others, with "split": "held_out"'
        )
    return Checker(tokenizer, reward_model, start, held_out, starts, asked.annotator, settings)


def _follow(model: Path, checker: Checker, rankings: list[Ranking], out: Path) -> list[Check]:
    """RL against the reward model, with a check and a snapshot every few steps; returns the checks in order."""
    settings, tokenizer = checker.settings, checker.tokenizer
    policy = load_model(model, device=choose_device(settings))

    def check(step: int) -> dict[str, float]:
        with atomic_write(_snapshot(out, step)) as temporary:
            save_file({name: p.detach().cpu().contiguous() for name, p in policy.named_parameters()}, temporary)
        found = checker.check(policy, step)
        found.save(_snapshot(out, step).with_suffix(".json"))
        gold = {"held_out_gold": found.gold[0]} if found.gold else {}
        return {"held_out_proxy": found.proxy, **gold, "win_rate": found.win_rate}

    if not _snapshot(out, 0).with_suffix(".json").exists():
        check(0)
    objective = PolicyGradient(
        policy,
        tokenizer,
        settings,
        prompts_for=_prompts_for(rankings, checker),
        reward=penalised_reward(
            checker.reward_model, checker.reference, tokenizer, settings.kl_weight, Metrics(out / METRICS)
        ),
        replay=replay_batches(model, tokenizer, policy.config.max_position_embeddings, settings),
    )
    train(objective, settings.steps, settings, out, label="prefer", evaluate=check)
    return [Check.load(file) for file in sorted((out / "checks").glob("step-*.json"))]


def _snapshot(out: Path, step: int) -> Path:
    return out / "checks" / f"step-{step:08d}.safetensors"


def _prompts_for(rankings: list[Ranking], checker: Checker) -> Callable[[int], Prompts]:
    """The ranked prompts in a new random order each epoch, a few per step."""
    first = {ranking.asked: ranking for ranking in reversed(rankings)}
    ids = [
        prompt_ids(checker.tokenizer, first[prompt]) for prompt in dict.fromkeys(ranking.asked for ranking in rankings)
    ]
    count, seed = checker.settings.prompts, checker.settings.seed
    return lambda step: [ids[i] for i in in_epochs(len(ids), count, seed, step)]
