"""A reward model: the policy's body with a scalar head on the last token, fitted to rankings.

Shapes: P prompts, K answers each, B sequences, T tokens, C width.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, write_json
from crawl2chat.stages.progress import Progress
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.devices import deterministic
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.schedule import lr_scale

Reading = list[int]  # a question, an answer and its end, as token ids: what a reward is given for
WARMUP, DECAY = 0.1, 0.9  # shares of the steps


class RewardModel(nn.Module):
    """How good an answer is, in nats of preference: e^reward is its weight against the other answers.

    In transformers' terms a `Qwen3ForSequenceClassification` with one label, plus a constant.
    """

    offset: Tensor  # added to every reward

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        body = Transformer(config)
        del body.lm_head
        self.body = body
        self.score = nn.Linear(config.hidden_size, 1, bias=False)
        self.register_buffer("offset", torch.zeros(()))

    @staticmethod
    def from_policy(policy: Transformer) -> "RewardModel":
        """The policy's weights below, and a head that finds all answers equal until it is trained."""
        model = RewardModel(policy.config)
        model.body.model.load_state_dict(policy.model.state_dict())
        nn.init.zeros_(model.score.weight)
        return model

    def forward(self, ids_bt: Tensor, last_b: Tensor) -> Tensor:
        """Rewards (B) of rows padded on the right, whose last tokens are at `last_b`."""
        features_btc = self.body.features(ids_bt)
        last_bc = features_btc[torch.arange(len(last_b), device=last_b.device), last_b]
        rewards_b: Tensor = self.score(last_bc)[:, 0] + self.offset
        return rewards_b

    @torch.inference_mode()
    def rewards(self, readings: Sequence[Reading], micro_batch_tokens: int = 8192) -> list[float]:
        """The reward of each reading."""
        rewards = [0.0] * len(readings)
        for part in by_length(readings, micro_batch_tokens):
            for i, reward in zip(part, self(*self._collate([readings[i] for i in part])).tolist(), strict=True):
                rewards[i] = reward
        return rewards

    def rewards_of_batch(self, readings: Sequence[Reading]) -> Tensor:
        """Rewards (B), with gradients."""
        rewards_b: Tensor = self(*self._collate(readings))
        return rewards_b

    def _collate(self, readings: Sequence[Reading]) -> tuple[Tensor, Tensor]:
        ids_bt = torch.zeros(len(readings), max(map(len, readings)), dtype=torch.long)
        for row, reading in enumerate(readings):
            ids_bt[row, : len(reading)] = torch.tensor(reading)
        device = self.score.weight.device
        return ids_bt.to(device), torch.tensor([len(reading) - 1 for reading in readings], device=device)

    def save(self, folder: AnyPath, pad_id: int) -> None:
        """Write `config.json` and `model.safetensors` in one atomic step, under transformers' names."""
        config = {
            "architectures": ["Qwen3ForSequenceClassification"],
            "model_type": "qwen3",
            **self.body.config.to_json(),
            "id2label": {"0": "reward"},
            "label2id": {"reward": 0},
            "pad_token_id": pad_id,
            "torch_dtype": "float32",
            "reward_offset": self.offset.item(),  # transformers knows no such thing and gives rewards without it
        }
        weights = {
            name.removeprefix("body."): tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if name != "offset"
        }
        with atomic_write(Path(folder)) as temporary:
            write_json(temporary / "config.json", config)
            save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})

    @staticmethod
    def load(folder: AnyPath, device: str = "cpu") -> "RewardModel":
        """Read what `save` wrote. Raises StageError when the folder holds no reward model."""
        folder = Path(folder)
        file = folder / "config.json"
        if not file.exists():
            raise StageError(f"{folder}: no reward model in it (config.json is missing)")
        content = json.loads(file.read_text(encoding="utf-8"))
        if "reward_offset" not in content:
            raise StageError(f"{folder}: holds a {content.get('architectures')}, not a reward model")
        model = RewardModel(ModelConfig(**{f.name: content[f.name] for f in fields(ModelConfig)}))
        weights = load_file(folder / "model.safetensors")
        named = {name if name.startswith("score.") else f"body.{name}": tensor for name, tensor in weights.items()}
        model.load_state_dict(named | {"offset": torch.tensor(content["reward_offset"])})
        return model.to(device).eval()


def reading(tokenizer: Tokenizer, prompt: Sequence[int], text: str, ended: bool, context: int) -> Reading:
    """A prompt's ids, an answer's as its text is encoded, and the end if it came to one; cut to the context.

    Encoded anew, so that a reward depends on what can be read and not on how the policy cut it into tokens.
    """
    return [*prompt, *tokenizer.encode(text), *([tokenizer.im_end] if ended else [])][:context]


def plackett_luce_loss(rewards_pk: Tensor) -> Tensor:
    """−Σ_i log(e^{r_i} / Σ_{j≥i} e^{r_j}), mean over prompts: choose the best, then the best of the rest, …

    rewards_pk: (prompts, answers), in the order of the ranking, best first. With two answers it is the
    Bradley–Terry loss −log σ(r_w − r_l) (Plackett 1975; InstructGPT, arXiv 2203.02155, has all pairs instead).
    """
    of_the_rest_pk = rewards_pk.flip(1).logcumsumexp(dim=1).flip(1)
    return (of_the_rest_pk - rewards_pk).sum(dim=1).mean()


def tied_loss(rewards_k: Tensor, group_sizes: Sequence[int]) -> Tensor:
    """Plackett–Luce of one ranking with ties: each answer is chosen before all that are in later groups.

    −Σ_i log(e^{r_i} / (e^{r_i} + Σ_{j in later groups} e^{r_j}))

    rewards_k: (answers), best first, of which `group_sizes` are tied: (1, 2) is a best one and two equal ones. Answers
    of one group never meet, so a pair without an order says nothing, and the last group adds nothing. Without ties it
    is `plackett_luce_loss`.
    """
    group_k = torch.arange(len(group_sizes)).repeat_interleave(torch.tensor(group_sizes)).to(rewards_k.device)
    against_kk = (group_k[None] > group_k[:, None]) | torch.eye(len(group_k), dtype=torch.bool, device=rewards_k.device)
    of_these_k = rewards_k.expand(len(group_k), -1).masked_fill(~against_kk, -torch.inf).logsumexp(dim=1)
    return (of_these_k - rewards_k).sum()


def fit_reward_model(
    policy: Transformer,
    rankings: Sequence[Sequence[Reading]],
    settings: PreferSettings,
    group_sizes: Sequence[Sequence[int]] | None = None,
) -> RewardModel:
    """Fit to rankings (each its answers' readings, best first), all answers of a prompt in one batch.

    group_sizes: of each ranking, how many of its answers are tied in each place; None where nothing is tied.
    A function of its arguments: equal on CPUs between equal runs, and short enough to be done anew after a kill.
    The rewards of all these answers, which the start drew, have mean 0.
    """
    device = next(policy.parameters()).device
    model = RewardModel.from_policy(policy).to(device).train()
    named = list(model.named_parameters())
    optimiser = MuonAdamW(named, settings.reward_matrix_lr, settings.reward_embedding_lr, weight_decay=0.0)
    sizes = group_sizes or [[1] * len(ranking) for ranking in rankings]
    batches = list(_batches(len(rankings), settings))
    with deterministic(device.type), Progress("reward model", len(batches), "step") as progress:
        for step, batch in enumerate(batches):
            loss = torch.stack(_losses(model, [rankings[i] for i in batch], [sizes[i] for i in batch])).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimiser.step(step, lr_scale(step, len(batches), WARMUP, DECAY))
            optimiser.zero_grad()
            progress.update(step + 1, f"loss {loss.item():.3f}")
    model.eval()
    rewards = model.rewards([reading for ranking in rankings for reading in ranking])
    model.offset.fill_(-sum(rewards) / len(rewards))
    return model


def _batches(count: int, settings: PreferSettings) -> Iterator[list[int]]:
    for epoch in range(settings.reward_epochs):
        order = np.random.default_rng((settings.seed, epoch)).permutation(count).tolist()
        for start in range(0, count, settings.reward_batch):
            yield order[start : start + settings.reward_batch]


def _losses(
    model: RewardModel, rankings: Sequence[Sequence[Reading]], group_sizes: Sequence[Sequence[int]]
) -> list[Tensor]:
    """The loss of each ranking; they may rank different numbers of answers."""
    rewards_b = model.rewards_of_batch([reading for ranking in rankings for reading in ranking])
    return [
        plackett_luce_loss(rewards_k[None]) if max(sizes) == 1 else tied_loss(rewards_k, sizes)
        for rewards_k, sizes in zip(rewards_b.split([len(r) for r in rankings]), group_sizes, strict=True)
    ]


def by_length(readings: Sequence[Reading], tokens: int) -> Iterator[list[int]]:
    """Places of readings, shortest first, as many together as fill `tokens` with their padding."""
    part: list[int] = []
    for i in sorted(range(len(readings)), key=lambda i: len(readings[i])):
        if part and len(readings[i]) * (len(part) + 1) > tokens:
            yield part
            part = []
        part.append(i)
    if part:
        yield part
