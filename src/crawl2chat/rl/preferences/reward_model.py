"""A reward model: the policy's body with a scalar head on the last token, fitted to rankings.

Shapes: P prompts, K answers each, B sequences, T tokens, C width.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crawl2chat.model import ModelConfig, Transformer, load_model
from crawl2chat.model.adapters import PREFIX, AdaptedTransformer, has_adapter, read_adapter, save_adapter
from crawl2chat.model.families import FAMILIES, config_from_json, config_to_json
from crawl2chat.model.ragged import by_length, pad
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, read_json, write_json
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import epoch_order
from crawl2chat.train.distributed import ParallelModel, Ranks
from crawl2chat.train.loop import Learner, Objective, train
from crawl2chat.train.memory import GPU_TOKENS, MicroBatch, cpu_tokens, rows_within
from crawl2chat.train.settings import TrainerSettings

Reading = list[int]  # a question, an answer and its end, as token ids: what a reward is given for


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

    @property
    def context(self) -> int:
        """Tokens that a reading may have."""
        return self.body.config.max_position_embeddings

    @staticmethod
    def from_policy(policy: Transformer) -> "RewardModel":
        """The policy's weights below, and a head that finds all answers equal until it is trained.

        A policy with an adapter becomes the body, with its adapter, on weights that it shares with others.
        """
        if isinstance(policy, AdaptedTransformer):
            return RewardModel._around(policy)
        model = RewardModel(policy.config)
        model.body.model.load_state_dict(policy.model.state_dict())
        nn.init.zeros_(model.score.weight)
        return model

    @staticmethod
    def _around(body: AdaptedTransformer) -> "RewardModel":
        with torch.device("meta"):
            model = RewardModel(body.config)
        device = body.model.embed_tokens.weight.device
        del body.lm_head
        model.body = body
        model.score = nn.Linear(body.config.hidden_size, 1, bias=False, device=device)
        nn.init.zeros_(model.score.weight)
        model.offset = torch.zeros((), device=device)
        return model

    def forward(self, ids_bt: Tensor, last_b: Tensor) -> Tensor:
        """Rewards (B) of rows padded on the right, whose last tokens are at `last_b`."""
        features_btc = self.body.features(ids_bt)
        last_bc = features_btc[torch.arange(len(last_b), device=last_b.device), last_b]
        return cast(Tensor, self.score(last_bc)[:, 0] + self.offset)

    @torch.inference_mode()
    def rewards(self, readings: Sequence[Reading], micro_batch_tokens: int = 8192) -> list[float]:
        """The reward of each reading."""
        rewards = [0.0] * len(readings)
        for part in by_length(list(map(len, readings)), micro_batch_tokens):
            inputs = collate([readings[i] for i in part], self.score.weight.device)
            for i, reward in zip(part, self(*inputs).tolist(), strict=True):
                rewards[i] = reward
        return rewards

    def save(self, folder: AnyPath, pad_id: int) -> None:
        """Write `config.json` and `model.safetensors` in one atomic step, under transformers' names.

        With an adapter, that and the head in the place of all weights, as PEFT has them.
        """
        config = config_to_json(self.body.config) | {
            "architectures": [
                FAMILIES[self.body.config.family].architecture.replace("CausalLM", "SequenceClassification")
            ],
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
            if isinstance(self.body, AdaptedTransformer):
                save_adapter(temporary, self.body, {"score.weight": self.score.weight.detach().cpu()})
                return
            save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})

    @staticmethod
    def load(folder: AnyPath, device: str = "cpu", *, frozen: Transformer | None = None) -> "RewardModel":
        """Read what `save` wrote. frozen: the base of its adapter, where it is in memory already, to be shared.

        Raises StageError when the folder holds no reward model."""
        folder = Path(folder)
        file = folder / "config.json"
        if not file.exists():
            raise StageError(f"{folder}: no reward model in it (config.json is missing)")
        content = read_json(file)
        if "reward_offset" not in content:
            raise StageError(f"{folder}: holds a {content.get('architectures')}, not a reward model")
        if has_adapter(folder):
            adapter = read_adapter(folder)
            assert adapter.base
            base = frozen or load_model(adapter.base, device=device)
            body = AdaptedTransformer.on(base, adapter.shape, adapter.base).load_adapter(adapter.tensors)
            model = RewardModel._around(body)
            model.score.weight.data.copy_(adapter.tensors[f"{PREFIX}score.weight"])
            model.offset.fill_(content["reward_offset"])
            return model.requires_grad_(False).eval()
        model = RewardModel(config_from_json(content, file))
        weights = load_file(folder / "model.safetensors")
        named = {name if name.startswith("score.") else f"body.{name}": tensor for name, tensor in weights.items()}
        model.load_state_dict(named | {"offset": torch.tensor(content["reward_offset"])})
        return model.to(device).eval()


@dataclass(frozen=True)
class RewardEnsemble:
    """Several reward models that are believed only as far as they agree, which leaves less to be gamed.

    The least of their rewards or, with a doubt, their mean less doubt · variance (Coste et al., arXiv 2310.02743).
    """

    members: Sequence[RewardModel]
    doubt: float = 0.0

    @property
    def context(self) -> int:
        return self.members[0].context

    def rewards(self, readings: Sequence[Reading]) -> list[float]:
        """The reward of each reading."""
        rewards_mb = torch.tensor([member.rewards(readings) for member in self.members])
        if self.doubt:
            return (rewards_mb.mean(dim=0) - self.doubt * rewards_mb.var(dim=0, unbiased=False)).tolist()
        return rewards_mb.amin(dim=0).tolist()


def reading(tokenizer: Tokenizer, prompt: Sequence[int], text: str, ended: bool, context: int) -> Reading:
    """A prompt's ids, an answer's as its text is encoded, and the end if it came to one; cut to the context.

    Encoded again, so that a reward depends on what can be read and not on how the policy cut it into tokens.
    """
    return [*prompt, *tokenizer.encode(text), *([tokenizer.end_of_turn] if ended else [])][:context]


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
    out: Path | None = None,
) -> RewardModel:
    """Fit to rankings (each its answers' readings, best first), all answers of a prompt in one batch.

    group_sizes: of each ranking, how many of its answers are tied in each place; None where nothing is tied.
    out: folder for metrics and checkpoints, from which a run that was stopped goes on; None keeps none.
    A function of the other arguments: equal on CPUs between equal runs.
    The rewards of all these answers, which the start drew, have mean 0.
    """
    sizes = group_sizes or [[1] * len(ranking) for ranking in rankings]
    objective = RankedChoice(RewardModel.from_policy(policy), rankings, sizes, settings)
    with contextlib.ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crawl2chat-reward-model-")))
        folder.mkdir(parents=True, exist_ok=True)
        train(
            objective, len(objective.batches), settings.for_reward_model(), folder, label="reward model",
            rates="prefer.reward_", adapter_lr=settings.reward_lora_lr,
        )  # fmt: skip
    model = objective.model
    rewards = model.rewards([reading for ranking in rankings for reading in ranking])
    model.offset.fill_(-sum(rewards) / len(rewards))
    return model


class RankedChoice(Objective):
    """The likelihood of rankings, averaged over those of a batch; each epoch takes them in an order of its own."""

    model: RewardModel

    def __init__(
        self,
        model: RewardModel,
        rankings: Sequence[Sequence[Reading]],
        group_sizes: Sequence[Sequence[int]],
        settings: PreferSettings,
    ) -> None:
        self.model, self.rankings, self.group_sizes = model, rankings, group_sizes
        self.batches = [
            order[start : start + settings.reward_batch]
            for order in (epoch_order(len(rankings), settings.seed, epoch) for epoch in range(settings.reward_epochs))
            for start in range(0, len(rankings), settings.reward_batch)
        ]

    def micro_batch(self, settings: TrainerSettings, device: str, label: str, ranks: Ranks) -> MicroBatch:
        """All rankings of a step at once, to begin with, on a CPU too unless the model is large: a batch is small."""
        otherwise = "prefer.max_tokens or prefer.ranked_answers"
        on_cpu = cpu_tokens(self.model.body, GPU_TOKENS)
        return MicroBatch(settings, device, "prefer", on_cpu=on_cpu, alone=ranks.size == 1, otherwise=otherwise)

    def accumulate_gradients(self, step: int, learner: Learner) -> dict[str, Any]:
        """The mean loss of a ranking, in nats."""
        batch = self.batches[step]
        share = batch[learner.ranks.rows(len(batch))] or batch[:1]
        counted = float(learner.ranks.rank * -(-len(batch) // learner.ranks.size) < len(batch))
        row_tokens = max(len(self.rankings[i]) * max(map(len, self.rankings[i])) for i in share)
        self.step_tokens = sum(len(reading) for i in batch for reading in self.rankings[i])

        def attempt(tokens: int) -> float:
            rows = rows_within(tokens // row_tokens, len(share))
            total = 0.0
            for i in range(0, len(share), rows):
                with learner.model.micro_batch(last=i + rows >= len(share)):
                    loss = torch.stack(self._losses(learner.model, share[i : i + rows])).sum() / len(batch)
                    torch.autograd.backward(learner.ranks.size * counted * loss)
                total += counted * loss.item()
            return total

        loss = learner.micro_batch.fitting(attempt, learner.optimiser.zero_grad, rows=len(share), row_tokens=row_tokens)
        return {"loss": learner.ranks.gather([loss]).sum().item()}

    def _losses(self, model: ParallelModel, chosen: Sequence[int]) -> list[Tensor]:
        """The loss of each ranking; they may rank different numbers of answers."""
        rankings = [self.rankings[i] for i in chosen]
        rewards_b = model(*collate([reading for ranking in rankings for reading in ranking], model.device))
        return [
            plackett_luce_loss(rewards_k[None]) if max(sizes) == 1 else tied_loss(rewards_k, sizes)
            for rewards_k, sizes in zip(
                torch.split(rewards_b, [len(ranking) for ranking in rankings]),
                [self.group_sizes[i] for i in chosen],
                strict=True,
            )
        ]


def collate(readings: Sequence[Reading], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Ids (B, T) padded on the right, and the place of each reading's last token, (B)."""
    return pad(readings, device), torch.tensor([len(reading) - 1 for reading in readings], device=device)
