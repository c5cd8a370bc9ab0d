"""Direct preference optimisation: a policy fitted to pairs of answers, without a reward model and without sampling.

A policy π that maximises a reward less β · KL(π ‖ π₀) has the reward β · log π/π₀ (y), up to a constant per prompt. So
pairs that a Bradley–Terry reward explains can be explained by π itself (DPO, arXiv 2305.18290): its implicit reward.

Shapes: B pairs, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.model.ragged import by_length, pad
from crawl2chat.rl.grpo import token_logprobs
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Ranking
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import Batches, in_epochs
from crawl2chat.train.devices import choose_device, uses_bf16
from crawl2chat.train.distributed import ParallelModel, Ranks
from crawl2chat.train.loop import Learner, Objective
from crawl2chat.train.memory import MicroBatch, cpu_tokens
from crawl2chat.train.next_token import add_gradients, rows_of_rank
from crawl2chat.train.settings import TrainerSettings

Loss = Literal["dpo", "ipo", "dpo_norm"]


@dataclass(frozen=True)
class Pair:
    """A prompt and two answers, as token ids with the end of each; the reference's log-probability of each answer."""

    prompt: list[int]
    answers: tuple[list[int], list[int]]  # chosen, rejected
    reference: tuple[float, float] = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self.prompt) + max(map(len, self.answers))


def pairs_of(rankings: Sequence[Ranking], tokenizer: Tokenizer, context: int) -> list[Pair]:
    """Every two answers of which one was put before the other, but for those that the context can't hold."""
    pairs = []
    for ranking in rankings:
        prompt, _ = tokenizer.encode_chat(ranking.asked.messages, add_generation_prompt=True)
        groups = [
            [[*tokenizer.encode(a.text), *([tokenizer.end_of_turn] if a.ended else [])] for a in group]
            for group in ranking.groups
        ]
        for better, worse in combinations(groups, 2):
            pairs += [Pair(prompt, (chosen, rejected)) for chosen in better for rejected in worse]
    return [pair for pair in pairs if len(pair) <= context and all(pair.answers)]


def direct_loss(chosen_b: Tensor, rejected_b: Tensor, lengths_b2: Tensor, loss: Loss, beta: float) -> Tensor:
    """The loss of each pair, (B), from Σ log π/π₀ over the tokens of each answer, in nats.

    dpo: −log σ(β · (chosen − rejected)) (arXiv 2305.18290, eq. 7). dpo_norm: the same of means per token, so that a
    long answer isn't pushed further for its length (Tülu 3, arXiv 2411.15124, eq. 6). ipo: (chosen − rejected −
    1/(2β))², of means per token as its authors have it (arXiv 2310.12036, eq. 17): a margin to reach, where dpo's grows
    without end once all pairs are in order.
    """
    if loss != "dpo":
        chosen_b, rejected_b = chosen_b / lengths_b2[:, 0], rejected_b / lengths_b2[:, 1]
    margin_b = chosen_b - rejected_b
    return (margin_b - 1 / (2 * beta)) ** 2 if loss == "ipo" else -F.logsigmoid(beta * margin_b)


def answer_logprobs(model: Transformer | ParallelModel, pairs: Sequence[Pair], device: torch.device | str) -> Tensor:
    """Log-probability of each pair's answers, given the prompt: (B, 2), chosen and rejected, in nats."""
    rows = [(pair.prompt, answer) for pair in pairs for answer in pair.answers]
    ids_bt = pad([prompt + answer for prompt, answer in rows], device)
    mask_bt = torch.zeros(ids_bt[:, 1:].shape, device=device)
    for row, (prompt, answer) in enumerate(rows):
        mask_bt[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = 1  # one place before their tokens
    logprobs_bt, _ = token_logprobs(model, ids_bt, mask_bt)
    return logprobs_bt.sum(dim=1).view(-1, 2)


@torch.inference_mode()
def all_logprobs(model: Transformer | ParallelModel, pairs: Sequence[Pair], tokens: int = 8192) -> list[list[float]]:
    """`answer_logprobs` of any number of pairs, read in batches of up to `tokens` tokens."""
    device = next(model.parameters()).device if isinstance(model, Transformer) else model.device
    found: list[list[float]] = [[]] * len(pairs)
    for part in by_length([2 * len(pair) for pair in pairs], tokens):
        for i, logprobs in zip(part, answer_logprobs(model, [pairs[i] for i in part], device).tolist(), strict=True):
            found[i] = logprobs
    return found


def with_reference(reference: Transformer, pairs: Sequence[Pair], settings: PreferSettings) -> list[Pair]:
    """The pairs with what the start makes of them, computed once and in the precision of the policy."""
    device = choose_device(settings)
    model = ParallelModel(reference, device=device, bf16=uses_bf16(settings, device))
    logprobs = all_logprobs(model, pairs)
    reference.eval()
    return [
        Pair(p.prompt, p.answers, (chosen, rejected)) for p, (chosen, rejected) in zip(pairs, logprobs, strict=True)
    ]


@dataclass(frozen=True)
class PairFit:
    """How a policy's implicit rewards order pairs: share in order (a tie is half a one), mean margin and DPO's loss."""

    accuracy: float
    margin: float  # nats, β · (chosen − rejected)
    loss: float  # nats


def pair_fit(policy: Transformer, pairs: Sequence[Pair], beta: float) -> PairFit:
    logprobs_b2 = torch.tensor(all_logprobs(policy, pairs)) - torch.tensor([pair.reference for pair in pairs])
    margin_b = beta * (logprobs_b2[:, 0] - logprobs_b2[:, 1])
    in_order_b = (margin_b > 0).float() + 0.5 * (margin_b == 0)
    return PairFit(in_order_b.mean().item(), margin_b.mean().item(), -F.logsigmoid(margin_b).mean().item())


class DirectPreference(Objective):
    """`settings.pairs` pairs per step; `replay` gives earlier conversations that are learned along with them."""

    model: Transformer

    def __init__(
        self, model: Transformer, pairs: Sequence[Pair], settings: PreferSettings, loss: Loss,
        replay: Batches | None = None,
    ) -> None:  # fmt: skip
        """pairs: with what the reference makes of them (`with_reference`)."""
        self.model, self.pairs, self.settings, self.loss, self.replay = model, pairs, settings, loss, replay

    def micro_batch(self, settings: TrainerSettings, device: str, label: str, ranks: Ranks) -> MicroBatch:
        otherwise = f"{label}.max_prompt_tokens"
        on_cpu = cpu_tokens(self.model)
        return MicroBatch(settings, device, label, on_cpu=on_cpu, alone=ranks.size == 1, otherwise=otherwise)

    def accumulate_gradients(self, step: int, learner: Learner) -> dict[str, Any]:
        """The mean loss of a pair, the share of pairs in order and their mean margin in nats."""
        settings, ranks = self.settings, learner.ranks
        batch = [self.pairs[i] for i in in_epochs(len(self.pairs), settings.pairs, settings.seed, step)]
        share = batch[ranks.rows(len(batch))]
        counted = float(bool(share))  # a rank without a share makes the calls that the others wait for
        share = share or batch[:1]
        self.step_tokens = sum(len(pair.prompt) + len(answer) for pair in batch for answer in pair.answers)

        def attempt(tokens: int) -> list[float]:
            found = torch.zeros(3)
            parts = list(by_length([2 * len(pair) for pair in share], tokens))
            for n, part in enumerate(parts, 1):
                pairs = [share[i] for i in part]
                with learner.model.micro_batch(last=n == len(parts) and self.replay is None):
                    logprobs_b2 = answer_logprobs(learner.model, pairs, learner.device)
                    ratios_b2 = logprobs_b2 - torch.tensor([pair.reference for pair in pairs], device=learner.device)
                    lengths_b2 = torch.tensor([list(map(len, pair.answers)) for pair in pairs], device=learner.device)
                    chosen_b, rejected_b = ratios_b2.unbind(dim=1)
                    losses_b = direct_loss(chosen_b, rejected_b, lengths_b2, self.loss, settings.beta)
                    torch.autograd.backward(ranks.size * counted * losses_b.sum() / len(batch))
                margin_b = settings.beta * (chosen_b - rejected_b).detach()
                found += torch.stack([losses_b.detach().sum(), (margin_b > 0).sum(), margin_b.sum()]).cpu()
            loss, in_order, margin = (counted * found / len(batch)).tolist()
            replayed = 0.0
            if self.replay:
                replayed_batch = self.replay(step)
                weight = replayed_batch.weights_bt.sum().item()
                rows = rows_of_rank(replayed_batch, ranks)
                replayed = add_gradients(learner, rows, tokens, weight, settings.replay_weight)
            return [loss, in_order, margin, replayed]

        measured = learner.micro_batch.fitting(
            attempt, learner.optimiser.zero_grad, rows=2 * len(share), row_tokens=max(map(len, share))
        )
        names = ("loss", "pairs_in_order", "margin", "replay_loss")
        line = dict(zip(names, ranks.gather(measured).sum(dim=0).tolist(), strict=True))
        return line if self.replay else {name: value for name, value in line.items() if name != "replay_loss"}
