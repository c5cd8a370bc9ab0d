"""The stage of preferences: a chat model in; rankings, a reward model and a model that pleases more out."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from crawl2chat.generate import Engine
from crawl2chat.honesty.checkup import check_again, copy_forward
from crawl2chat.model import Transformer
from crawl2chat.rl.grpo import PolicyGradient
from crawl2chat.rl.preferences.annotator import Annotator, Taste
from crawl2chat.rl.preferences.check import Check, Checker, penalised_reward
from crawl2chat.rl.preferences.collect import (
    Agreement,
    agreement,
    prompt_ids,
    rank_by_taste,
    rankings_file,
    read_rankings,
    reward_model_of,
    split_by_topic,
)
from crawl2chat.rl.preferences.direct import DirectPreference, Pair, pairs_of, with_reference
from crawl2chat.rl.preferences.preference_files import PromptRow, read_prompt_rows, split_prompts
from crawl2chat.rl.preferences.results import (
    best_of_n_curve,
    check_to_keep,
    curves,
    figures,
    write_answers,
    write_checks,
    write_samples,
)
from crawl2chat.rl.preferences.reward_model import RewardEnsemble, RewardModel
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Ranking
from crawl2chat.rl.replay import replay_batches
from crawl2chat.rl.samples import Prompts
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, read_json, write_json
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import in_epochs
from crawl2chat.train.devices import choose_device, load_engine
from crawl2chat.train.loop import Objective, train
from crawl2chat.train.lora import Start
from crawl2chat.train.metrics import Metrics
from crawl2chat.train.pretrain import save_stage_model

CURVES, ANSWERS = "curves.json", "answers.jsonl"


@dataclass(frozen=True)
class _Asked:
    """Who judges, what is asked, and what was found: prompts that may be ranked, and others to measure on."""

    annotator: Annotator | None  # None: people or other judges did the ranking
    ranked: list[PromptRow]
    held_out: list[PromptRow]
    training: list[Ranking]  # that the reward model, or the policy by dpo, is fitted to
    test: list[Ranking]  # about other topics
    followed: list[Ranking]  # whose prompts RL answers


def prefer(prompts: AnyPath, model: AnyPath, out: AnyPath, settings: PreferSettings) -> list[Figure]:
    """Rank answers of `model`, fit a reward model to the rankings, follow it, and keep what was preferred most.

    `prompts`: a file of prompts or a folder with `prompts.jsonl`. The simulated annotator takes its taste from
    `taste.json` next to it, if there is one. A file of pairs is both prompts and rankings: those to prompts that are
    held out only measure. With another method than "rl" the policy is fitted to the pairs, and the reward model only
    measures. `model`: an earlier stage's folder, whose conversations, if there are any, are replayed. Each phase leaves
    a file and is not repeated after a kill.
    Raises StageError for prompts or rankings that can't be used.
    """
    prompts, model, out = Path(prompts), Path(model), Path(out)
    file = rankings_file(prompts, settings)
    ranked, held_out = split_prompts(read_prompt_rows(prompts), prompts, simulated=not file)
    copy_forward(model, out)
    tokenizer, begun = Tokenizer.load(model), Start(model, settings.lora, device=choose_device(settings))
    ranked, held_out = (_fitting(part, begun, tokenizer, settings, prompts) for part in (ranked, held_out))
    annotator = None if file else Annotator(settings.noise, settings.seed, Taste.beside(prompts))
    rankings = _rankings(begun.reference, tokenizer, ranked, annotator, settings, file or out / "rankings.sqlite")
    if file == prompts:
        known, held = ({row.prompt for row in part} for part in (ranked, held_out))
        training, test = ([r for r in rankings if r.asked in part] for part in (known, held))
        followed = training
    else:
        training, test = split_by_topic(rankings, ranked, settings.seed)
        followed = rankings
    asked = _Asked(annotator, ranked, held_out, training, test, followed)
    reward_model = _reward_model(begun, tokenizer, asked, settings, out)
    if not (out / CURVES).exists():
        checker = _checker(begun.reference, tokenizer, reward_model, asked, settings)
        checks = _follow(begun, checker, asked, out)
        kept = check_to_keep(checks)
        write_checks(checks, out / "checks.sqlite")
        write_samples(checks, kept, out / "samples.jsonl")
        write_answers(checks, out / ANSWERS)
        policy = begun.trainable(settings.seed)
        policy.load_state_dict(load_file(_snapshot(out, kept.step)), strict=False)  # nor a tied head or frozen weights
        save_stage_model(policy, tokenizer, out)
        write_json(out / CURVES, curves(checks, kept, best_of_n_curve(checker)))
    for folder in ("checkpoints", "checks"):  # of use only until the results are there
        shutil.rmtree(out / folder, ignore_errors=True)
    engine = load_engine(out, tokenizer, settings, out)
    return [
        Figure("rankings", len(rankings)),
        *Agreement(**read_json(out / "agreement.json")).figures(),
        *figures(read_json(out / CURVES)),
        *check_again(engine, model, settings.seed, out, "prefer"),
    ]


def _fitting(
    rows: list[PromptRow], begun: Start, tokenizer: Tokenizer, settings: PreferSettings, source: Path
) -> list[PromptRow]:
    """Those that leave room for an answer and are not longer than the settings allow."""
    most = settings.max_prompt_tokens or begun.reference.config.max_position_embeddings - settings.max_tokens
    fitting = [row for row in rows if len(row.ids(tokenizer)) <= most]
    if not fitting:
        raise StageError(
            f"{source}: of {len(rows)} prompts none has at most {most} tokens; raise prefer.max_prompt_tokens, or "
            "lower prefer.max_tokens"
        )
    if len(fitting) < len(rows):
        print(
            f"prefer: {len(rows) - len(fitting):,} of {len(rows):,} prompts are longer than {most} tokens",
            file=sys.stderr,
        )
    return fitting


def _rankings(
    start: Transformer,
    tokenizer: Tokenizer,
    prompts: list[PromptRow],
    annotator: Annotator | None,
    settings: PreferSettings,
    file: Path,
) -> list[Ranking]:
    if annotator and not file.exists():
        rank_by_taste(Engine(start, tokenizer), prompts, annotator, settings, file)
    return read_rankings(file)


def _reward_model(
    begun: Start, tokenizer: Tokenizer, asked: _Asked, settings: PreferSettings, out: Path
) -> RewardModel | RewardEnsemble:
    """Fitted to some of the rankings and measured on the others."""
    run = out / "reward_model_run"  # metrics and checkpoints, of use only until the model is there
    members = []
    for member in range(settings.reward_models):
        folder = out / ("reward_model" if member == 0 else f"reward_model_{member + 1}")
        if not folder.exists():
            fitted = reward_model_of(begun, tokenizer, asked.training, settings, run, member)
            fitted.save(folder, pad_id=tokenizer.end_of_text)
        shutil.rmtree(run, ignore_errors=True)
        members.append(RewardModel.load(folder, device=choose_device(settings), frozen=begun.frozen))
    model = members[0] if len(members) == 1 else RewardEnsemble(members, settings.reward_doubt)
    if not (out / "agreement.json").exists():
        found = agreement(model, begun.reference, tokenizer, asked.test, asked.annotator, asked.ranked)
        write_json(out / "agreement.json", found.to_json())
    return model


def _checker(
    start: Transformer,
    tokenizer: Tokenizer,
    reward_model: RewardModel | RewardEnsemble,
    asked: _Asked,
    settings: PreferSettings,
) -> Checker:
    rows = {row.prompt: row for row in asked.ranked}
    starts = [(rows[ranking.asked], ranking.answers[0]) for ranking in asked.followed if ranking.asked in rows]
    ranked = {ranking.prompt for ranking in asked.followed}
    held_out = [prompt for prompt in asked.held_out if prompt.text not in ranked]
    if not held_out:
        raise StageError(
            f"prefer.rankings = {settings.rankings}: all {len(asked.held_out)} prompts to measure on have been ranked; "
            'add others, with "split": "held_out"'
        )
    pairs: list[Pair] = []
    if asked.annotator is None:
        pairs = with_reference(start, pairs_of(asked.test, tokenizer, start.config.max_position_embeddings), settings)
    measured = held_out[: settings.measured]
    return Checker(tokenizer, reward_model, start, measured, starts, asked.annotator, settings, pairs)


def _follow(begun: Start, checker: Checker, asked: _Asked, out: Path) -> list[Check]:
    """Train the policy, with a check and a snapshot every few steps; returns the checks in order."""
    settings, tokenizer = checker.settings, checker.tokenizer
    policy = begun.trainable(settings.seed).to(choose_device(settings))

    def check(step: int) -> dict[str, float]:
        with atomic_write(_snapshot(out, step)) as temporary:
            trained = {name: p.detach().cpu() for name, p in policy.named_parameters() if p.requires_grad}
            save_file({name: p.contiguous() for name, p in trained.items()}, temporary)
        found = checker.check(policy, step)
        found.save(_snapshot(out, step).with_suffix(".json"))
        gold = {"held_out_gold": found.gold[0]} if found.gold else {}
        return {"held_out_proxy": found.proxy, **gold, "win_rate": found.win_rate}

    if not _snapshot(out, 0).with_suffix(".json").exists():
        check(0)
    context = policy.config.max_position_embeddings
    replay = replay_batches(begun.folder, tokenizer, context, settings)
    objective: Objective
    if settings.method == "rl":
        in_reward = settings.kl == "k1"  # otherwise the penalty is in the loss
        reward = penalised_reward(
            checker.reward_model, checker.reference, tokenizer, settings.kl_weight * in_reward, Metrics(out / METRICS)
        )
        objective = PolicyGradient(
            policy, tokenizer, settings, _prompts_for(asked.followed, checker), reward, replay,
            reference=None if in_reward else checker.reference,
        )  # fmt: skip
    else:
        pairs = pairs_of(asked.training, tokenizer, context)
        if not pairs:
            raise StageError(f"prefer.method = {settings.method}: no pair fits the model's context of {context} tokens")
        pairs = with_reference(checker.reference, pairs, settings)
        objective = DirectPreference(policy, pairs, settings, settings.method, replay)
    train(objective, settings.steps, settings, out, label="prefer", evaluate=check, adapter_lr=settings.lora.lr)
    return [Check.load(file) for file in sorted((out / "checks").glob("step-*.json"))]


def _snapshot(out: Path, step: int) -> Path:
    return out / "checks" / f"step-{step:08d}.safetensors"


def _prompts_for(rankings: list[Ranking], checker: Checker) -> Callable[[int], Prompts]:
    """The ranked prompts in a new random order each epoch, a few per step."""
    first = {ranking.asked: ranking for ranking in reversed(rankings)}
    ids = [
        prompt_ids(checker.tokenizer, first[prompt]) for prompt in dict.fromkeys(ranking.asked for ranking in rankings)
    ]
    count, seed, updates = checker.settings.prompts, checker.settings.seed, checker.settings.updates
    return lambda step: [ids[i] for i in in_epochs(len(ids), count, seed, step // updates)]
