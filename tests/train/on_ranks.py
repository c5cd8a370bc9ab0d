"""What the ranks of test_distributed run: trainings one after the other, as a JSON list of jobs says.

python on_ranks.py JOBS FOLDER [cuda]
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from crawl2chat.evals.tasks import Problem
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.adapters import AdaptedTransformer, AdapterShape
from crawl2chat.parallel import torchrun
from crawl2chat.rl.grpo import PolicyGradient
from crawl2chat.rl.preferences.reward_model import RankedChoice, RewardModel
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.rollout_log import RolloutLog
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import RowBatches
from crawl2chat.train.distributed import SINGLE_PROCESS, process_group
from crawl2chat.train.loop import train
from crawl2chat.train.lora import halve
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.settings import TARGETS, TrainSettings

SHAPE = {"seq_len": 16, "compile": "off", "precision": "fp32", "checkpoint_every": 1000, "evaluate_every": 4}
STEPS = 8


class Stopped(Exception):
    pass


def batches(rows: int, stop_at: int | None, kill: tuple[int, int] | None, broken_at: int | None):
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 65, size=(40, 17))
    weights = generator.random((40, 17)).astype(np.float32)
    weights[::2, :9] = 0  # as prompts have
    ready = RowBatches(ids, weights, rows=rows, seed=0)

    def at(step):
        if step == stop_at:
            raise Stopped
        if kill == (torchrun.rank(), step):
            os.kill(os.getpid(), signal.SIGKILL)
        batch = ready(step)
        if step == broken_at:
            batch.weights_bt[-1, -1] = torch.nan  # among the last rank's rows
        return batch

    return at


def run(job: dict, folder: Path, together=SINGLE_PROCESS) -> None:
    """Train a small model; every rank leaves its weights' sum, the first one the trained model's weights."""
    settings = SHAPE | {"batch_tokens": 128, "micro_batch_tokens": 128} | job.get("settings", {})
    settings = TrainSettings(**settings)
    sizes = (65, 24, 40, job.get("layers", 3), 3, 1, 8)  # that don't divide well
    model = Transformer(ModelConfig(*sizes, max_position_embeddings=16))
    model.init_weights(seed=0)
    if "adapter" in job:
        model = random_weights(model)  # zeros, as at the beginning of pretraining, would let no gradient through
        if job["adapter"].pop("bf16", False):
            halve(model, TARGETS)
        model = AdaptedTransformer.on(model, AdapterShape(4, 2.0, **job["adapter"])).initialise(0)
    out = folder / job["out"]
    out.mkdir(exist_ok=True, parents=True)
    kill = tuple(job["kill"]) if "kill" in job else None
    inputs = torch.arange(16)[None]

    def evaluate(step):
        with torch.no_grad():
            return {"logit": model(inputs.to(model.lm_head.weight.device))[0, -1, 3].item()}

    try:
        made = batches(settings.batch_rows, job.get("stop_at"), kill, job.get("broken_at"))
        objective = NextToken(model, made, settings)
        train(objective, STEPS, settings, out, label="pretrain", evaluate=evaluate, ranks=together, adapter_lr=0.01)
    except Stopped:
        return
    if together.first:
        torch.save(model.state_dict(), out / "weights.pt")


def random_model(vocab_size: int) -> Transformer:
    return random_weights(Transformer(ModelConfig(vocab_size, 24, 40, 2, 3, 1, 8, max_position_embeddings=32)))


def random_weights(model: Transformer) -> Transformer:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def sums_to_even(step, prompts, groups):
    return torch.tensor([[float(sum(answer.ids) % 2) for answer in group] for group in groups])


def run_policy(job: dict, folder: Path, together=SINGLE_PROCESS) -> None:
    """Reinforcement of a small model; the prompts don't divide among the ranks, and one job has fewer than ranks."""
    tokenizer = Tokenizer.load(folder / "tokenizer")
    policy = {"steps": 4, "answers": 2, "max_tokens": 6, "matrix_lr": 0.01, "embedding_lr": 0.005, "evaluate_every": 2}
    settings = ReinforceSettings(**policy, prompts=job["prompts"])
    model = random_model(tokenizer.vocab_size)
    prompts = [[5 + i, 6, *range(7, 8 + i)] for i in range(job["prompts"])]
    out = folder / job["out"]
    out.mkdir(parents=True, exist_ok=True)
    asked = []

    def reward(step, prompts, groups):
        asked.append(step)
        return sums_to_even(step, prompts, groups)

    problems = [Problem("?", ("1",), "sum")] * len(prompts)
    objective = PolicyGradient(
        model, tokenizer, settings, lambda step: prompts, reward, batches(3, None, None, None),
        log=RolloutLog(out, tokenizer, settings, lambda step: problems),
    )  # fmt: skip
    train(objective, 4, settings, out, label="reinforce", evaluate=lambda done: {"measured": done}, ranks=together)
    assert asked == (list(range(4)) if together.first else [])
    if together.first:
        torch.save(model.state_dict(), out / "weights.pt")


def run_rankings(job: dict, folder: Path, together=SINGLE_PROCESS) -> None:
    """A reward model fitted to three rankings per step, and to one in the last of an epoch."""
    settings = PreferSettings(reward_epochs=2, reward_batch=3, device="cpu")
    model = random_model(65)
    rankings = [[[5, 6, *[7] * (3 - i), 20 + place, 9] for i in range(3)] for place in range(7)]
    objective = RankedChoice(RewardModel.from_policy(model), rankings, [[1, 1, 1]] * 7, settings)
    out = folder / job["out"]
    out.mkdir(parents=True, exist_ok=True)
    trainer = settings.for_reward_model()
    train(objective, len(objective.batches), trainer, out, label="reward model", ranks=together)
    if together.first:
        torch.save(objective.model.state_dict(), out / "weights.pt")


def run_sending(job: dict, folder: Path, together=SINGLE_PROCESS) -> None:
    """The first rank sends a model, of which a part is frozen, and odd tensors; each rank leaves what it has then."""
    model = Transformer(ModelConfig(65, 24, 40, 1, 3, 1, 8, max_position_embeddings=16, tie_word_embeddings=True))
    if together.first:
        model.init_weights(seed=5)
        model.model.norm.weight.requires_grad_(False)
    odd = [torch.tensor(3.5, dtype=torch.bfloat16), torch.zeros(0), torch.arange(6).view(2, 3).T]
    given = {"model": model, "odd": odd, "same": model.lm_head.weight}
    has = together.from_first(given if together.first else {})
    embedding = has["model"].model.embed_tokens.weight
    assert isinstance(embedding, torch.nn.Parameter)
    assert has["same"] is has["model"].lm_head.weight is embedding
    out = folder / job["out"]
    out.mkdir(parents=True, exist_ok=True)
    frozen = [name for name, p in has["model"].named_parameters() if not p.requires_grad]
    torch.save({"weights": has["model"].state_dict(), "odd": has["odd"], "frozen": frozen}, out / f"{together.rank}.pt")


def main() -> None:
    folder = Path(sys.argv[2])
    try:
        with process_group("cuda" if "cuda" in sys.argv[3:] else "cpu") as together:
            for job in json.loads(sys.argv[1]):
                RUNS[job.get("kind", "batches")](job, folder, together)
        if torchrun.rank():
            list(torchrun.calls())
        else:
            torchrun.dismiss_others()  # the store that the others may still read ends with this process
    except StageError as error:
        if torchrun.is_first_to_fail():
            print(error, file=sys.stderr)
        torchrun.leave(1)
    torchrun.leave(0)


RUNS = {"batches": run, "policy": run_policy, "rankings": run_rankings, "sending": run_sending}

if __name__ == "__main__":
    main()
