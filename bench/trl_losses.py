"""Losses and gradients of DPO, the reward model and GRPO against TRL's own code, on the same weights and batch.

    python bench/trl_losses.py

TRL's trainers are built on a small random model in transformers' form and are given its batch; ours get the same token
ids. Prints both losses and the greatest difference of any gradient, relative to the greatest gradient. Needs trl.
"""

import tempfile
from pathlib import Path

import datasets
import torch
import transformers
import trl

from crawl2chat.generate.engine import Completion
from crawl2chat.model import ModelConfig, Transformer, save_model
from crawl2chat.rl.grpo import add_policy_gradients
from crawl2chat.rl.losses import answer_weights
from crawl2chat.rl.preferences.direct import DirectPreference, Pair, with_reference
from crawl2chat.rl.preferences.reward_model import RewardModel, collate, plackett_luce_loss
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.samples import Sample
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.train.distributed import ParallelModel
from crawl2chat.train.loop import Learner

CONFIG = ModelConfig(300, 48, 96, 2, 4, 2, 16, max_position_embeddings=128)
TRL_DPO = {"dpo": "sigmoid", "ipo": "ipo", "dpo_norm": "sigmoid_norm"}
TRL_GRPO = {"tokens": "dapo", "answers": "grpo", "fixed": "dr_grpo"}


def random_model(seed: int) -> Transformer:
    model = Transformer(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model


def theirs_of(model: Transformer, folder: Path, kind=transformers.AutoModelForCausalLM, **options):
    save_model(model, folder, stop_ids=[1], pad_id=0)
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **options)


def report(name: str, ours: float, theirs: float, model, other) -> None:
    gradients = {name: p.grad for name, p in other.named_parameters() if p.grad is not None}
    difference = greatest = 0.0
    for parameter, p in model.named_parameters():
        found = gradients.get(parameter.removeprefix("body."))
        if p.grad is not None and found is not None:
            difference = max(difference, (p.grad - found).abs().max().item())
            greatest = max(greatest, found.abs().max().item())
    print(f"{name:34s} loss {ours:.7f} {theirs:.7f}   gradients differ by {difference / greatest:.1e}")
    assert abs(ours - theirs) < 1e-4
    assert difference / greatest < 1e-4


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(298))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")


def texts(seed: int, lengths: tuple[int, ...]) -> list[str]:
    drawn = torch.Generator().manual_seed(seed)
    return [" ".join(f"w{i}" for i in torch.randint(1, 290, (n,), generator=drawn).tolist()) for n in lengths]


def dpo(folder: Path, loss: str, beta: float) -> None:
    policy, reference = random_model(1), random_model(2)
    prompts, chosen, rejected = texts(3, (4, 7, 3)), texts(4, (6, 2, 9)), texts(5, (3, 8, 5))
    rows = datasets.Dataset.from_dict({
        "prompt": prompts, "chosen": [" " + text for text in chosen], "rejected": [" " + text for text in rejected],
    })  # fmt: skip
    other = theirs_of(policy, folder / "policy")
    trainer = trl.DPOTrainer(
        model=other, ref_model=theirs_of(reference, folder / "reference"), processing_class=tokenizer(),
        train_dataset=rows,
        args=trl.DPOConfig(
            output_dir=str(folder), use_cpu=True, per_device_train_batch_size=3, loss_type=[TRL_DPO[loss]], beta=beta,
            report_to="none", gradient_checkpointing=False, bf16=False,
        ),
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(other, dict(inputs))
    theirs.backward()
    ids, mask, read = inputs["input_ids"], inputs["completion_mask"], inputs["attention_mask"]
    rows = [(ids[i][(read[i] * (1 - mask[i])).bool()].tolist(), ids[i][mask[i].bool()].tolist()) for i in range(6)]
    pairs = [Pair(rows[i][0], (rows[i][1], rows[i + 3][1])) for i in range(3)]
    settings = PreferSettings(pairs=3, beta=beta, replay_weight=0)
    objective = DirectPreference(policy, with_reference(reference, pairs, settings), settings, loss)
    ours = objective.accumulate_gradients(0, Learner(objective, 1, settings, "prefer"))
    report(f"{loss} (TRL's {TRL_DPO[loss]}), beta {beta}", ours["loss"], theirs.item(), policy, other)


def reward(folder: Path) -> None:
    policy = random_model(1)
    model = RewardModel.from_policy(policy)
    torch.nn.init.normal_(model.score.weight, std=0.3, generator=torch.Generator().manual_seed(6))
    model.save(folder / "reward", pad_id=0)
    other = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder / "reward", num_labels=1, dtype=torch.float32, attn_implementation="eager"
    )
    chosen, rejected = texts(4, (9, 5, 12)), texts(5, (6, 11, 8))
    rows = datasets.Dataset.from_dict({"chosen": chosen, "rejected": rejected})
    trainer = trl.RewardTrainer(
        model=other, processing_class=tokenizer(), train_dataset=rows,
        args=trl.RewardConfig(
            output_dir=str(folder), use_cpu=True, per_device_train_batch_size=3, report_to="none", bf16=False,
            gradient_checkpointing=False, disable_dropout=True,
        ),
    )  # fmt: skip
    inputs = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(other, dict(inputs))
    theirs.backward()
    readings = [
        row[read.bool()].tolist() for row, read in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    rewards_b = model(*collate(readings, "cpu"))
    ours = plackett_luce_loss(rewards_b.view(2, 3).T)
    ours.backward()
    report("reward model", ours.item(), theirs.item(), model, other)


def grpo(folder: Path, normalise: str, *, update: bool, kl: bool, cap: bool) -> None:
    policy = random_model(1)
    other = theirs_of(policy, folder / "policy")
    drawn = torch.Generator().manual_seed(7)
    lengths = ((4, 6), (4, 3), (7, 9), (7, 5))  # prompt, answer
    rows = [[torch.randint(2, 300, (n,), generator=drawn).tolist() for n in both] for both in lengths]
    advantages_b = torch.tensor([0.75, -0.25, 1.0, -1.5])
    P, T, max_tokens = 7, 9, 12
    mask_bt = torch.tensor([[1] * n + [0] * (T - n) for _, n in lengths])

    def near(parameters, spread: float) -> torch.Tensor:
        """Log-probabilities somewhat off the model's, (B, T)."""
        with torch.no_grad():
            found = torch.zeros(4, T)
            for row, (prompt, answer) in enumerate(rows):
                log_p = policy(torch.tensor([prompt + answer]))[0].log_softmax(-1)
                found[row, : len(answer)] = log_p[range(len(prompt) - 1, len(prompt) + len(answer) - 1), answer]
        return found + spread * torch.randn(4, T, generator=drawn)

    old_bt, reference_bt = near(policy, 0.3 if update else 0.0), near(policy, 0.5)
    sampled_bt = old_bt + 0.6 * torch.randn(4, T, generator=drawn)
    trainer = trl.GRPOTrainer(
        model=other, processing_class=tokenizer(), reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=datasets.Dataset.from_dict({"prompt": texts(3, (4, 7))}),
        args=trl.GRPOConfig(
            output_dir=str(folder), use_cpu=True, per_device_train_batch_size=4, num_generations=2, report_to="none",
            loss_type=TRL_GRPO[normalise], beta=0.04 if kl else 0.0, epsilon=0.2, epsilon_high=0.28,
            max_completion_length=max_tokens, bf16=False, gradient_checkpointing=False,
        ),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.use_vllm, trainer.vllm_importance_sampling_correction = cap, cap
    inputs = {
        "prompt_ids": torch.tensor([[0] * (P - len(prompt)) + prompt for prompt, _ in rows]),
        "prompt_mask": torch.tensor([[0] * (P - len(prompt)) + [1] * len(prompt) for prompt, _ in rows]),
        "completion_ids": torch.tensor([answer + [0] * (T - len(answer)) for _, answer in rows]),
        "completion_mask": mask_bt, "advantages": advantages_b, "num_items_in_batch": mask_bt.sum(),
        "old_per_token_logps": old_bt if update else None, "ref_per_token_logps": reference_bt,
        "importance_sampling_ratio": (old_bt - sampled_bt).exp().clamp(max=2.0),
    }  # fmt: skip
    theirs = trainer._compute_loss(other, inputs)
    theirs.backward()
    weights = answer_weights([n for _, n in lengths], normalise, max_tokens)
    samples = [
        Sample(
            prompt, Completion(answer, sampled_bt[i, : len(answer)].tolist(), "", "stop"), advantages_b[i].item(),
            weights[i], old_bt[i, : len(answer)], reference_bt[i, : len(answer)] if kl else None,
        )
        for i, (prompt, answer) in enumerate(rows)
    ]  # fmt: skip
    settings = PolicySettings(
        normalise=normalise, clip_high=0.28, updates=2, kl="k3", kl_weight=0.04, importance_cap=2.0 if cap else 0.0,
        max_tokens=max_tokens,
    )  # fmt: skip
    measured = add_policy_gradients(
        ParallelModel(policy, device="cpu"), samples, 4096, settings=settings, update=int(update)
    )
    name = f"GRPO {TRL_GRPO[normalise]}{', second update' * update}{', KL' * kl}{', importance' * cap}"
    # in the first update ours has log π where theirs has the ratio 1: the same gradient, another constant in the loss
    ours = measured["policy_loss"] if update else theirs.item()
    report(name, ours, theirs.item(), policy, other)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(f"trl {trl.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        for loss in TRL_DPO:
            dpo(Path(temporary) / loss, loss, 0.1 if loss != "dpo_norm" else 2.0)
        reward(Path(temporary))
        for normalise in TRL_GRPO:
            for update in (False, True):
                for kl in (False, True):
                    for cap in (False, True):
                        grpo(Path(temporary) / "grpo", normalise, update=update, kl=kl, cap=cap)
