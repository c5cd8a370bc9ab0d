"""Group-relative policy gradient: of several answers to one prompt, those above the group's mean become more probable.

GRPO (arXiv 2402.03300) as Dr. GRPO (2503.20783) and nanochat do it, by default: on policy, so without clipping and
ratios; without a KL term; without dividing by a deviation; averaged over the tokens of all answers. What else people do
is a setting each, and its formula is in losses.py.
Sampler and trainer must mean the same distribution, so answers are drawn at temperature 1 from all tokens.

Shapes: P prompts, K answers each, B = P·K sequences, T tokens, V vocabulary.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.model.ragged import by_length
from crawl2chat.rl.losses import (
    answer_weights,
    group_advantages,
    has_signal,
    importance_weights,
    kl_terms,
    overlong_penalty,
    policy_gradient_loss,
)
from crawl2chat.rl.rollout_log import RolloutLog, Rollouts
from crawl2chat.rl.samples import Groups, Prompts, Sample, collate, rows_of, samples_of
from crawl2chat.rl.served import ServedPolicy
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.rl.tool_use import ToolAnswer, ToolUse
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import Batches
from crawl2chat.train.devices import rollout_form
from crawl2chat.train.distributed import SINGLE_PROCESS, ParallelModel, Ranks
from crawl2chat.train.loop import Learner, Objective
from crawl2chat.train.memory import MicroBatch, cpu_tokens
from crawl2chat.train.next_token import add_gradients, rows_of_rank
from crawl2chat.train.settings import TrainerSettings


def token_logprobs(
    model: Transformer | ParallelModel, ids_bt: Tensor, mask_bt: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each next token given those before it, and the entropy it was drawn with; in nats.

    Both are (B, T − 1) and belong to ids_bt[:, 1:]. The entropy is for watching and has no gradient.
    With a mask of that shape they are worked out where it is 1 and are 0 elsewhere: the head is most of a small
    model's work, and prompts and padding need none of it.
    """
    next_bt = ids_bt[:, 1:]
    wanted_bt = torch.ones_like(next_bt, dtype=torch.bool) if mask_bt is None else mask_bt.bool()
    logprobs_n, entropy_n = model(ids_bt, targets_bt=F.pad(next_bt, (0, 1)), at_bt=F.pad(wanted_bt, (0, 1))).unbind()
    nothing_bt = logprobs_n.new_zeros(next_bt.shape)
    return nothing_bt.masked_scatter(wanted_bt, logprobs_n), nothing_bt.masked_scatter(wanted_bt, entropy_n.detach())


def engine_for(
    model: Transformer, tokenizer: Tokenizer, prompts: Prompts, settings: PolicySettings, tools: ToolUse | None = None,
    *, last: Engine | None = None,
) -> Engine:  # fmt: skip
    """Return an engine whose context is what these prompts and their answers need, so that many fit at a time.

    With tools, whose results may be of any length, it is the model's. last: one of this model, to be taken if it has
    that context.
    """
    longest = max(map(len, prompts)) + settings.max_tokens
    context = None if tools else min(longest, model.config.max_position_embeddings)
    if last and last.context >= (context or 0):
        return last
    return Engine(model, tokenizer, context=context, weights=rollout_form(model, settings))


def sample_groups(
    engine: Engine, prompts: Prompts, answers: int, sampling: Sampling, first_seed: int, tools: ToolUse | None = None
) -> Groups:
    """`answers` answers to each prompt, all drawn at once; seeds count up from `first_seed`, prompt by prompt."""
    repeated = [prompt for prompt in prompts for _ in range(answers)]
    seeds = range(first_seed, first_seed + len(repeated))
    drawn = tools.draw(engine, repeated, sampling, seeds) if tools else engine.generate(repeated, sampling, seeds)
    return [drawn[i : i + answers] for i in range(0, len(drawn), answers)]


class PolicyGradient(Objective):
    """Answers drawn from the model, rewarded, and made more or less probable by how they did.

    A step draws `settings.answers` answers to each prompt of `prompts_for(step)`, asks `reward(step, prompts, groups)`
    for theirs, (P, K), and adds the gradients of `policy_gradient_loss`; `replay` gives a batch of earlier
    conversations that is learned along with them (PPO-ptx of InstructGPT, arXiv 2203.02155).
    Prompts and rewards must depend on the step alone, and if there are several updates they are asked for at the first
    of them; with a step beyond `settings.steps` where further prompts are to replace some. `reference`: the start, near
    which `settings.kl_weight` holds the model. On several ranks each draws the answers to its share of the prompts, the
    first one alone asks for prompts and rewards, and gradients are averaged over the tokens of all.
    """

    model: Transformer
    whole_model = True

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        settings: PolicySettings,
        prompts_for: Callable[[int], Prompts],
        reward: Callable[[int, Prompts, Groups], Tensor],
        replay: Batches | None = None,
        reference: Transformer | None = None,
        tools: ToolUse | None = None,
        served: ServedPolicy | None = None,
        log: RolloutLog | None = None,
    ) -> None:
        """tools: that answers may call; `prompts_for` must then return prompts that `ToolUse.prompts` made.
        served: a server that draws the answers, for one process. log: where they are written down.

        Raises StageError for fsdp, of which no rank has the whole model to draw from.
        """
        if settings.parallel == "fsdp":
            raise StageError("parallel = fsdp: answers are drawn from the whole model on each GPU; use ddp or auto")
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.tools, self.served, self.log = tools, served, log
        self.prompts_for, self.reward = prompts_for, reward
        self.replay = replay if settings.replay_weight else None
        self.reference = reference if settings.kl_weight else None
        self.steps_per_round = settings.updates
        self.engine: Engine | None = None  # the last step's, kept on a GPU for the graphs that it has recorded

    def __getstate__(self) -> dict[str, Any]:
        """What another rank needs: no prompts, rewards and log, and the tokenizer as its files."""
        with tempfile.TemporaryDirectory(prefix="crawl2chat-tokenizer-") as folder:
            self.tokenizer.save(folder)
            files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
        mine = vars(self).keys() - {"prompts_for", "reward", "tokenizer", "engine", "log"}
        return {name: getattr(self, name) for name in mine} | {"files": files, "log": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="crawl2chat-tokenizer-") as folder:
            for name, content in state.pop("files").items():
                (Path(folder) / name).write_bytes(content)
            self.tokenizer = Tokenizer.load(folder)
        vars(self).update(state, engine=None)

    def micro_batch(self, settings: TrainerSettings, device: str, label: str, ranks: Ranks) -> MicroBatch:
        otherwise = f"{label}.max_tokens, {label}.prompts or {label}.answers"
        on_cpu = cpu_tokens(self.model)
        return MicroBatch(settings, device, label, on_cpu=on_cpu, alone=ranks.size == 1, otherwise=otherwise)

    def accumulate_gradients(self, step: int, learner: Learner) -> dict[str, Any]:
        """Rewards, lengths, entropy and the gap between sampler and trainer of a step's answers."""
        settings, ranks = self.settings, learner.ranks
        if update := step % settings.updates:
            self.step_tokens = 0
        else:
            self.line, self.samples, self.n_tokens = self._new_samples(step, learner)
        if not self.samples and not self.replay:
            self._write_log(step, learner.ranks)
            return self.line | {"skipped": "there is no group whose answers differ in reward"}

        def attempt(tokens: int) -> dict[str, float]:
            measured = add_policy_gradients(
                learner.model, self.samples, tokens, ranks, last=self.replay is None, settings=settings,
                n_tokens=self.n_tokens, update=update,
            )  # fmt: skip
            if self.replay:
                batch = self.replay(step)
                weight = batch.weights_bt.sum().item()
                loss = add_gradients(learner, rows_of_rank(batch, ranks), tokens, weight, self.settings.replay_weight)
                measured["replay_loss"] = ranks.gather([loss]).sum().item()
            return measured

        row_tokens = max(map(len, self.samples), default=1)
        rows = max(1, len(self.samples))
        measured = learner.micro_batch.fitting(attempt, learner.optimiser.zero_grad, rows=rows, row_tokens=row_tokens)
        if update == 0:
            self._write_log(step, ranks)
        return self.line | measured

    def _write_log(self, step: int, ranks: Ranks) -> None:
        """What was drawn in this step, if the log wants it, with the entropies that each rank found."""
        if not ranks.from_first(self.log is not None and self.log.wants(step)):
            return
        entropies: dict[int, list[float]] = {}
        mine = [(sample.of, sample.entropy.tolist()) for sample in self.samples if sample.entropy is not None]
        for of_rank in ranks.gather_objects(mine):
            for of, entropy in of_rank:  # those of an answer's episodes follow each other
                entropies[of] = entropies.get(of, []) + entropy
        if self.log and ranks.first:
            self.log.write(Rollouts(step + 1, *self.drawn, entropies))

    def _new_samples(self, step: int, learner: Learner) -> tuple[dict[str, float], list[Sample], int]:
        """Answers with their advantages, the tokens that their mean loss is over, and what the metrics are to say."""
        settings = self.settings
        self.step_tokens, self.sampling_seconds = 0, 0.0
        rounds = [self._rewarded(step, learner)]
        wanted = len(rounds[0][0])
        # dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): further prompts until enough groups teach something
        while len(rounds) <= settings.resample and sum(int(has_signal(r).sum()) for _, _, r in rounds) < wanted:
            rounds.append(self._rewarded(step + len(rounds) * settings.steps * settings.updates, learner))
        prompts, groups = ([one for part in parts for one in part] for parts in (list(zip(*rounds, strict=True))[:2]))
        rewards_pk = torch.cat([rewards for _, _, rewards in rounds])
        asked = [
            (step + n * settings.steps * settings.updates, place)
            for n, (of_round, _, _) in enumerate(rounds)
            for place in range(len(of_round))
        ]
        speed = {"sampled_per_second": round(self.step_tokens / self.sampling_seconds)}
        line = describe(rounds[0][2], rounds[0][1]) | speed
        if settings.resample:
            line["prompts_sampled"] = len(prompts)
            useful = has_signal(rewards_pk).nonzero()[:wanted, 0].tolist()
            prompts, groups, rewards_pk = [prompts[i] for i in useful], [groups[i] for i in useful], rewards_pk[useful]
            asked = [asked[i] for i in useful]
        given = rewards_pk.tolist()
        samples = samples_of(prompts, groups, torch.zeros_like(rewards_pk))
        if self.reference and samples:
            for sample, logprobs_t in zip(samples, self._reference_logprobs(samples, learner), strict=True):
                sample.reference = logprobs_t
            ratios = [0.0] * rewards_pk.numel()
            for sample in samples:
                assert sample.reference is not None
                ratios[sample.of] += sum(sample.logprobs) - sample.reference.sum().item()
            line["kl"] = sum(ratios) / len(ratios)
            if settings.kl == "k1":
                rewards_pk = rewards_pk - settings.kl_weight * torch.tensor(ratios).view_as(rewards_pk)
        answers = [answer for group in groups for answer in group]
        advantages_pk = group_advantages(rewards_pk, normalise=settings.advantage_scale)
        advantages, self.drawn = advantages_pk.flatten().tolist(), (asked, groups, given, advantages_pk.tolist())
        signal = has_signal(rewards_pk).repeat_interleave(settings.answers).tolist()
        counted = [not (settings.overlong_filter and answer.finish_reason == "length") for answer in answers]
        lengths = [len(answer.ids) for answer in compress(answers, counted)]
        weights = iter(answer_weights(lengths, settings.normalise, settings.max_tokens))
        weight_of = [next(weights) if counts else 0.0 for counts in counted]
        for sample in samples:
            sample.advantage, sample.weight = advantages[sample.of], weight_of[sample.of]
        taught = [
            sample for sample in samples
            if counted[sample.of] and (signal[sample.of] or not settings.skip_flat_groups)
        ]  # fmt: skip
        return line, taught, sum(lengths)

    def _rewarded(self, step: int, learner: Learner) -> tuple[Prompts, Groups, Tensor]:
        """A step's prompts, the answers drawn to them by all ranks, and their rewards (P, K)."""
        started, ranks, settings = time.monotonic(), learner.ranks, self.settings
        prompts = ranks.from_first(self.prompts_for(step) if ranks.first else [])
        share = ranks.rows(len(prompts))
        sampling = Sampling(max_tokens=settings.max_tokens, seed=settings.seed)
        first_seed = (step * len(prompts) + share.start) * settings.answers
        if self.served:
            drawn = self.served.draw(self.model, self.tokenizer, prompts, settings.answers, sampling, first_seed)
        else:
            engine = engine_for(self.model, self.tokenizer, prompts, settings, self.tools, last=self.engine)
            self.engine = engine if engine.cached.device.type == "cuda" else None
            drawn = sample_groups(engine, prompts[share], settings.answers, sampling, first_seed, self.tools)
        groups = [group for part in ranks.gather_objects(drawn) for group in part]
        self.step_tokens += sum(len(answer.ids) for group in groups for answer in group)
        self.sampling_seconds += time.monotonic() - started
        rewards_pk = torch.empty(0)
        with ranks.first_alone():
            if ranks.first:
                rewards_pk = self.reward(step, prompts, groups)
        rewards_pk = ranks.from_first(rewards_pk)
        if settings.overlong_margin:
            lengths = [len(answer.ids) for group in groups for answer in group]
            penalties = overlong_penalty(lengths, settings.max_tokens, settings.overlong_margin)
            rewards_pk = rewards_pk + torch.tensor(penalties).view_as(rewards_pk)
        return prompts, groups, rewards_pk

    def _reference_logprobs(self, samples: Sequence[Sample], learner: Learner) -> list[Tensor]:
        """What the reference finds of each answer's tokens, by all ranks."""
        assert self.reference
        reference = ParallelModel(self.reference, device=learner.device, bf16=learner.model.bf16)
        mine = samples[learner.ranks.rows(len(samples))]
        found = [torch.empty(0)] * len(mine)
        with torch.no_grad():
            for part in by_length(list(map(len, mine)), learner.micro_batch.tokens):
                ids_bt, mask_bt, *_ = (tensor.to(learner.device) for tensor in collate([mine[i] for i in part]))
                logprobs_bt, _ = token_logprobs(reference, ids_bt, mask_bt)
                for i, logprobs_t in zip(part, logprobs_bt.cpu(), strict=True):
                    found[i] = logprobs_t[mine[i].place]
        self.reference.eval()
        return [logprobs_t for of_rank in learner.ranks.gather_objects(found) for logprobs_t in of_rank]


def describe(rewards_pk: Tensor, groups: Groups) -> dict[str, float]:
    """Mean reward, share of groups whose answers are all rewarded alike and so teach nothing, and lengths."""
    answers = [answer for group in groups for answer in group]
    calls = [answer.calls for answer in answers if isinstance(answer, ToolAnswer)]
    return {
        "reward": rewards_pk.mean().item(),
        "zero_variance": (rewards_pk == rewards_pk[:, :1]).all(dim=1).float().mean().item(),
        "answer_tokens": sum(len(answer.ids) for answer in answers) / len(answers),
        "cut_short": sum(answer.finish_reason == "length" for answer in answers) / len(answers),
    } | ({"calls": sum(calls) / len(calls)} if calls else {})


def add_policy_gradients(
    model: ParallelModel,
    samples: Sequence[Sample],
    tokens: int,
    ranks: Ranks = SINGLE_PROCESS,
    *,
    last: bool = True,
    settings: PolicySettings | None = None,
    n_tokens: int = 0,
    update: int = 0,
) -> dict[str, float]:
    """Add the gradients of `policy_gradient_loss` over all answers, stop tokens included, in micro-batches of `tokens`.

    samples: those of all ranks, of which each takes a share. last: whether no other gradients follow in this step.
    n_tokens: that the loss is the mean of; default: those of the samples. update: earlier ones with these samples.
    Returns the mean entropy (nats per token) and the mean and greatest difference between the sampler's and the
    trainer's log-probabilities: rounding, unless the two disagree on what is sampled; in later updates, what the
    earlier ones did. With several updates also the loss and the share of tokens whose ratio is clipped.
    """
    settings = settings or PolicySettings()
    n_read = sum(len(sample.logprobs) for sample in samples)
    n_tokens = n_tokens or n_read
    mine = samples[ranks.rows(len(samples))]
    # a rank without a share makes the calls that the others wait for, with an answer of which no token counts
    parts = [[mine[i] for i in part] for part in by_length(list(map(len, mine)), tokens)]
    parts = parts or [[samples[-1]]] * bool(samples)
    entropy = gap = greatest_gap = clipped = total = 0.0
    for i, part in enumerate(parts, 1):
        ids_bt, mask_bt, sampled_bt, advantages_b, weights_b = (tensor.to(model.device) for tensor in collate(part))
        if not mine:
            mask_bt.zero_()
        with model.micro_batch(last and i == len(parts)):
            logprobs_bt, entropy_bt = token_logprobs(model, ids_bt, mask_bt)
            if update == 0:
                for sample, logprobs_t, entropy_t in zip(part, logprobs_bt.detach(), entropy_bt, strict=True):
                    sample.old = logprobs_t[sample.place].clone()
                    sample.entropy = entropy_t[sample.place].clone() if mine else None
            old_bt = rows_of([(sample.place, sample.old) for sample in part], mask_bt)
            penalty_bt = None
            if settings.kl != "k1" and part[0].reference is not None:
                reference_bt = rows_of([(sample.place, sample.reference) for sample in part], mask_bt)
                penalty_bt = settings.kl_weight * kl_terms(logprobs_bt, reference_bt, old_bt, settings.kl)
            # a part counts by its share of the tokens, so any split into micro-batches gives one loss
            loss = policy_gradient_loss(
                logprobs_bt, advantages_b, mask_bt,
                old_bt=old_bt if update else None, clip=(settings.clip_low, settings.clip_high),
                importance_bt=importance_weights(old_bt, sampled_bt, cap) if (cap := settings.importance_cap) else None,
                penalty_bt=penalty_bt, weights_b=weights_b,
            ) * (mask_bt.sum() / n_tokens)  # fmt: skip
            torch.autograd.backward(ranks.size * loss if mine else 0 * logprobs_bt.sum())
        total += loss.item() if mine else 0.0
        gap_bt = (logprobs_bt.detach() - sampled_bt).abs() * mask_bt
        ratio_bt = (logprobs_bt.detach() - old_bt).exp()
        outside_bt = (ratio_bt < 1 - settings.clip_low) | (ratio_bt > 1 + settings.clip_high)
        entropy += (entropy_bt * mask_bt).sum().item() / n_read
        gap += gap_bt.sum().item() / n_read
        clipped += (outside_bt * mask_bt).sum().item() / n_read
        greatest_gap = max(greatest_gap, gap_bt.max().item())
    everyones = ranks.gather([entropy, gap, greatest_gap, clipped, total])
    entropy, gap, _, clipped, total = everyones.sum(dim=0).tolist()
    found = {"entropy": entropy, "logprob_gap": gap, "logprob_gap_max": everyones[:, 2].max().item()}
    return found | ({"clipped": clipped, "policy_loss": total} if settings.updates > 1 else {})
