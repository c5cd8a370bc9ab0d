"""The stage of preferences: a chat model in; rankings, a reward model and a model that pleases more out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from crawl2chat.generate import Engine
from crawl2chat.honesty.checkup import check_again, copy_forward, read_card
from crawl2chat.model import Transformer, load_model
from crawl2chat.rl.grpo import Prompts, optimise_policy
from crawl2chat.rl.preferences.annotator import Annotator
from crawl2chat.rl.preferences.check import Check, Checker
from crawl2chat.rl.preferences.collect import (
    Agreement,
    agreement,
    prompt_ids,
    rank_by_taste,
    read_rankings,
    reward_model_of,
    split_by_topic,
)
from crawl2chat.rl.preferences.overoptimise import best_of_n_curve, check_to_keep
from crawl2chat.rl.preferences.results import curves, figures, write_checks, write_samples
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.rl.preferences.rlhf import penalised_reward
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Ranking
from crawl2chat.rl.preferences.verses import VersePrompt, verse_prompts
from crawl2chat.rl.replay import replay_batches
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, write_json
from crawl2chat.stages.stage import METRICS
from crawl2chat.tinyweb.ledger import Ledger, Verse
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import in_epochs
from crawl2chat.train.devices import choose_device
from crawl2chat.train.metrics import Metrics
from crawl2chat.train.pretrain import save_stage_model

CURVES = "curves.json"


@dataclass(frozen=True)
class _Verses:
    """Who judges, and what is asked: prompts that may be ranked, and prompts about other topics to measure on."""

    annotator: Annotator | None  # None: a person did the ranking
    ranked: list[VersePrompt]
    held_out: list[VersePrompt]


def prefer(crawl: AnyPath, model: AnyPath, out: AnyPath, settings: PreferSettings) -> list[Figure]:
    """Rank verses of `model`, fit a reward model to the rankings, follow it, and keep what was preferred most.

    `crawl`: the folder of a fictional web, whose verses have the topics. `model`: an earlier stage's folder, whose
    conversations, if there are any, are replayed. Each phase leaves a file and is not done again after a kill.
    """
    crawl, model, out = Path(crawl), Path(model), Path(out)
    asked, held_out = verse_prompts(_verses_of(crawl))
    copy_forward(model, out)
    tokenizer, start = Tokenizer.load(model), load_model(model, device=choose_device(settings))
    verses = _Verses(None if settings.rankings else Annotator(settings.noise, settings.seed), asked, held_out)
    rankings = _rankings(start, tokenizer, verses, settings, out)
    reward_model = _reward_model(start, tokenizer, rankings, verses, settings, out)
    if not (out / CURVES).exists():
        checker = _checker(start, tokenizer, reward_model, rankings, verses, settings)
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
        *check_again(engine, Ledger.load(crawl), read_card(model), settings.seed, out, "prefer"),
    ]


def _verses_of(crawl: Path) -> list[Verse]:
    try:
        verses = Ledger.load(crawl).verses
    except FileNotFoundError as error:
        raise StageError(f"prefer: {crawl} is no fictional web, so there are no verses to ask for") from error
    if not verses:
        raise StageError(f"prefer: the web in {crawl} has no verses; raise crawl.tinyweb.verses")
    return verses


def _rankings(
    start: Transformer, tokenizer: Tokenizer, verses: _Verses, settings: PreferSettings, out: Path
) -> list[Ranking]:
    if settings.rankings or verses.annotator is None:
        return read_rankings(Path(settings.rankings or "").expanduser())
    file = out / "rankings.sqlite"
    if not file.exists():
        rank_by_taste(Engine(start, tokenizer), verses.ranked, verses.annotator, settings, file)
    return read_rankings(file)


def _reward_model(
    start: Transformer,
    tokenizer: Tokenizer,
    rankings: list[Ranking],
    verses: _Verses,
    settings: PreferSettings,
    out: Path,
) -> RewardModel:
    """Fitted to the rankings of four fifths of the prompts and measured on the others."""
    folder = out / "reward_model"
    topics = {prompt.text: prompt.topic for prompt in verses.ranked}
    training, test = split_by_topic(rankings, topics, settings.seed)
    run = out / "reward_model_run"  # metrics and checkpoints, of use only until the model is there
    if not folder.exists():
        reward_model_of(start, tokenizer, training, settings, run).save(folder, pad_id=tokenizer.end_of_text)
    shutil.rmtree(run, ignore_errors=True)
    model = RewardModel.load(folder, device=choose_device(settings))
    if not (out / "agreement.json").exists():
        found = agreement(model, start, tokenizer, test, verses.annotator, topics)
        write_json(out / "agreement.json", found.to_json())
    return model


def _checker(
    start: Transformer,
    tokenizer: Tokenizer,
    reward_model: RewardModel,
    rankings: list[Ranking],
    verses: _Verses,
    settings: PreferSettings,
) -> Checker:
    asked = {prompt.text: prompt for prompt in verses.ranked}
    starts = [(asked[ranking.prompt], ranking.answers[0]) for ranking in rankings if ranking.prompt in asked]
    held_out = [prompt for prompt in verses.held_out if prompt.text not in {r.prompt for r in rankings}]
    return Checker(tokenizer, reward_model, start, held_out, starts, verses.annotator, settings)


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
    optimise_policy(
        policy,
        tokenizer,
        settings.steps,
        settings,
        out,
        label="prefer",
        prompts_for=_prompts_for(rankings, checker),
        reward=penalised_reward(
            checker.reward_model, checker.reference, tokenizer, settings.kl_weight, Metrics(out / METRICS)
        ),
        replay=replay_batches(model, tokenizer, policy.config.max_position_embeddings, settings),
        after_step=check,
    )
    return [Check.load(file) for file in sorted((out / "checks").glob("step-*.json"))]


def _snapshot(out: Path, step: int) -> Path:
    return out / "checks" / f"step-{step:08d}.safetensors"


def _prompts_for(rankings: list[Ranking], checker: Checker) -> Callable[[int], Prompts]:
    """The ranked prompts in an order drawn anew each epoch, a few a step."""
    first = {ranking.asked: ranking for ranking in reversed(rankings)}
    ids = [
        prompt_ids(checker.tokenizer, first[prompt]) for prompt in dict.fromkeys(ranking.asked for ranking in rankings)
    ]
    count, seed = checker.settings.prompts, checker.settings.seed

    return lambda step: [ids[i] for i in in_epochs(len(ids), count, seed, step)]
