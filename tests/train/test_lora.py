"""LoRA and DoRA: gradients, frozen weights and who shares them, files that peft reads, runs that go on."""

import json
import shutil

import pytest
import torch

from crawl2chat.chat.settings import SftSettings
from crawl2chat.chat.sft import fine_tune
from crawl2chat.model import ModelConfig, Transformer, load_model, save_model
from crawl2chat.model.adapters import AdaptedTransformer, AdapterShape, read_adapter
from crawl2chat.model.huggingface import model_folder
from crawl2chat.release.export import export_folder
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Message
from crawl2chat.train import data
from crawl2chat.train.loop import Learner, train
from crawl2chat.train.lora import Start
from crawl2chat.train.next_token import NextToken
from crawl2chat.train.pretrain import save_stage_model
from crawl2chat.train.settings import LoraSettings, TrainSettings

LORA = LoraSettings(rank=4, alpha=8.0, lr=0.01)


def base_model(vocab_size: int = 97, layers: int = 2) -> Transformer:
    model = Transformer(ModelConfig(vocab_size, 32, 48, layers, 4, 2, 8, max_position_embeddings=64))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + float(p.ndim == 1))
    return model


def stirred(model: Transformer) -> AdaptedTransformer:
    """Any numbers in the adapter, as training leaves them."""
    assert isinstance(model, AdaptedTransformer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.lora_layers().values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.1)
            if layer.magnitude is not None:
                layer.magnitude.mul_(1 + 0.2 * torch.rand(layer.magnitude.shape, generator=generator))
    return model


@pytest.fixture
def stage(tmp_path, tokenizer):
    """The folder of a stage that trained all weights."""
    save_stage_model(base_model(tokenizer.vocab_size), tokenizer, tmp_path / "pretrain")
    return tmp_path / "pretrain"


@pytest.fixture
def ids():
    return torch.randint(0, 97, (3, 20), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("dora", [False, True])
def test_gradients_are_those_of_the_composed_weights(dora, ids):
    """dL/dB = s·dL/dW·Aᵀ and dL/dA = s·Bᵀ·dL/dW with full fine-tuning's dL/dW; of DoRA, by autograd of its formula."""
    model = stirred(AdaptedTransformer.on(base_model(), AdapterShape(4, 2.0, dora)).initialise(0))
    model(ids, targets_bt=ids).backward()
    full = base_model()
    with torch.no_grad():
        for name, layer in model.lora_layers().items():
            full.get_submodule(name).weight.copy_(layer.weight)
    full(ids, targets_bt=ids).backward()
    for name, layer in model.lora_layers().items():
        dw_oi = full.get_submodule(name).weight.grad
        a_ri, b_or = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
        if dora:
            magnitude_o = layer.magnitude.detach().clone().requires_grad_()
            v_oi = layer.frozen + 2.0 * b_or @ a_ri
            (magnitude_o[:, None] * v_oi / v_oi.norm(dim=1, keepdim=True).detach()).backward(dw_oi)
            torch.testing.assert_close(layer.magnitude.grad, magnitude_o.grad, rtol=1e-4, atol=2e-4)
            da_ri, db_or = a_ri.grad, b_or.grad
        else:
            da_ri, db_or = 2.0 * b_or.mT @ dw_oi, 2.0 * dw_oi @ a_ri.mT
        torch.testing.assert_close(layer.lora_A.grad, da_ri, rtol=1e-4, atol=2e-4)
        torch.testing.assert_close(layer.lora_B.grad, db_or, rtol=1e-4, atol=2e-4)


def test_nothing_but_the_adapter_has_gradients_and_at_first_it_changes_nothing(ids):
    frozen = base_model()
    before = frozen(ids)
    model = AdaptedTransformer.on(frozen, AdapterShape(4, 2.0)).initialise(0)
    assert torch.equal(model(ids), before)
    model(ids, targets_bt=ids).backward()
    assert {name.rpartition(".")[2] for name, p in model.named_parameters() if p.grad is not None} == {
        "lora_A", "lora_B"
    }  # fmt: skip


@pytest.mark.slow  # imports peft and transformers
@pytest.mark.parametrize("dora", [False, True])
def test_peft_loads_the_adapter_and_has_our_logits_gradients_and_merged_weights(dora, ids, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    save_model(base_model(), tmp_path / "base" / "model", stop_ids=[1], pad_id=0)
    ours = stirred(Start(tmp_path / "base", LORA.model_copy(update={"dora": dora})).trainable(0))
    save_model(ours, tmp_path / "sft" / "model", stop_ids=[1], pad_id=0)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base" / "model", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "sft" / "model", is_trainable=True)
    torch.testing.assert_close(theirs(ids).logits, ours(ids), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(load_model(tmp_path / "sft")(ids), ours(ids), rtol=1e-6, atol=1e-5)

    n_targets = ids[:, 1:].numel()
    loss = ours(ids[:, :-1], targets_bt=ids[:, 1:], weights_bt=torch.full(ids[:, 1:].shape, 1 / n_targets))
    loss.backward()
    theirs(ids, labels=ids).loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    layers = ours.lora_layers()
    assert len(gradients) == len(layers) * (3 if dora else 2)
    for name, layer in layers.items():
        for key, parameter in layer.adapter().items():
            their_name = {"magnitude": "lora_magnitude_vector"}.get(key, key)
            gradient = gradients[f"base_model.model.{name}.{their_name}.default.weight"]
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)

    merged = theirs.merge_and_unload().state_dict()
    for name, weight in load_model(tmp_path / "sft").state_dict().items():
        torch.testing.assert_close(weight, merged[name], rtol=1e-5, atol=1e-5)


def test_an_export_is_merged(stage, tmp_path, tokenizer):
    ours = stirred(Start(stage, LORA).trainable(0))
    save_stage_model(ours, tokenizer, tmp_path / "sft")
    export_folder(tmp_path / "sft", tmp_path / "release", name="small")
    assert not (tmp_path / "release" / "adapter_config.json").exists()
    ids = torch.arange(20)[None]
    torch.testing.assert_close(load_model(tmp_path / "release")(ids), ours(ids), rtol=1e-5, atol=1e-5)


def test_checkpointing_blocks_changes_no_bit_of_loss_and_gradients(ids):
    def gradients(recompute: bool) -> list[torch.Tensor]:
        model = stirred(AdaptedTransformer.on(base_model(), AdapterShape(4, 2.0)).initialise(0))
        full = base_model()
        for each in (model, full):
            each.recomputes_blocks = recompute
            loss = each(ids, torch.arange(20).expand(3, -1) // 7, targets_bt=ids)
            loss.backward()
        return [loss.detach(), *(p.grad for m in (model, full) for p in m.parameters() if p.grad is not None)]

    kept, recomputed = gradients(False), gradients(True)
    assert len(kept) > 30
    assert all(torch.equal(a, b) for a, b in zip(kept, recomputed, strict=True))


def test_checkpointing_keeps_a_fraction_of_the_activations(ids):
    def kept_bytes(recompute: bool) -> int:
        model, storages = base_model(), {}
        model.recomputes_blocks = recompute

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        weights = {p.data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.features(ids)
        return sum(s.nbytes() for pointer, s in storages.items() if pointer not in weights)

    assert kept_bytes(True) < kept_bytes(False) / 5


def test_memory_that_runs_out_on_one_sequence_turns_checkpointing_on(ids, monkeypatch, capsys):
    settings = TrainSettings(seq_len=20, batch_tokens=60, device="cpu", compile="off", precision="fp32")
    objective = NextToken(base_model(), lambda step: data.Batch(ids, ids, torch.ones(ids.shape)), settings)
    learner = Learner(objective, 1, settings, "sft")
    features = Transformer.features

    def fails(self, *inputs, **options):
        if not self.recomputes_blocks:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, *inputs, **options)

    monkeypatch.setattr(Transformer, "features", fails)
    assert objective.accumulate_gradients(0, learner)["loss"] > 0
    assert "gradient checkpointing" in capsys.readouterr().err


def test_policy_reference_and_reward_model_hold_one_copy_of_the_frozen_weights(stage):
    start = Start(stage, LORA)
    policy = start.trainable(0)
    reward = RewardModel.from_policy(start.trainable(0))
    models = (start.reference, policy, reward)
    storages = {p.data_ptr(): p.nbytes for model in models for p in model.parameters()}
    frozen = sum(p.nbytes for p in start.reference.parameters())
    adapters = 2 * sum(p.nbytes for p in policy.parameters() if p.requires_grad)
    assert sum(storages.values()) == frozen + adapters + reward.score.weight.nbytes
    assert adapters < frozen


def test_a_reward_model_with_an_adapter_is_saved_without_its_base_and_scores_alike(stage, tmp_path):
    start = Start(stage, LORA)
    body = stirred(start.trainable(0))
    model = RewardModel.from_policy(body)
    with torch.no_grad():
        model.score.weight.normal_(generator=torch.Generator().manual_seed(3))
    model.save(tmp_path / "prefer" / "reward_model", pad_id=0)
    assert not (tmp_path / "prefer" / "reward_model" / "model.safetensors").exists()
    readings = [[5, 6, 7], [8, 9]]
    for frozen in (None, start.frozen):
        loaded = RewardModel.load(tmp_path / "prefer" / "reward_model", frozen=frozen)
        assert loaded.rewards(readings) == pytest.approx(model.eval().rewards(readings), abs=1e-5)


def test_the_next_stage_goes_on_with_the_same_adapter_or_begins_one_on_the_merged_model(stage, tmp_path, tokenizer):
    ids = torch.arange(20)[None]
    trained = stirred(Start(stage, LORA).trainable(0))
    save_stage_model(trained, tokenizer, tmp_path / "sft")
    same = Start(tmp_path / "sft", LORA)
    assert same.base == stage / "model"
    torch.testing.assert_close(same.trainable(0)(ids), trained(ids), rtol=0, atol=0)
    torch.testing.assert_close(same.reference(ids), trained(ids), rtol=0, atol=0)
    other = Start(tmp_path / "sft", LORA.model_copy(update={"rank": 2}))
    assert other.base == tmp_path / "sft" / "model"
    further = stirred(other.trainable(0))
    save_stage_model(further, tokenizer, tmp_path / "honesty")
    torch.testing.assert_close(load_model(tmp_path / "honesty")(ids), further(ids), rtol=1e-5, atol=1e-5)


def test_a_changed_or_missing_base_is_noticed_and_a_run_can_be_moved(stage, tmp_path, tokenizer):
    save_stage_model(stirred(Start(stage, LORA).trainable(0)), tokenizer, tmp_path / "sft")
    assert (
        json.loads((tmp_path / "sft" / "model" / "adapter_base.json").read_text())["folder"] == "../../pretrain/model"
    )
    shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-moved")
    load_model(tmp_path.parent / f"{tmp_path.name}-moved" / "sft")
    save_model(
        base_model(tokenizer.vocab_size).requires_grad_(False).apply(_shift), stage / "model", stop_ids=[1], pad_id=0
    )
    with pytest.raises(StageError, match="not those that this adapter was trained on"):
        load_model(tmp_path / "sft")
    shutil.rmtree(stage)
    with pytest.raises(StageError, match="is missing"):
        load_model(tmp_path / "sft")


def _shift(module):
    if isinstance(module, torch.nn.Embedding):
        module.weight.data += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"peft_type": "IA3"}, "peft_type"), ({"r": 0}, "expected a rank"), ({"r": 3}, "has the shapes"),
     ({"rank_pattern": {"q_proj": 8}}, "rank_pattern")],
)  # fmt: skip
def test_adapters_that_do_not_fit_are_refused_by_name(change, message, stage, tmp_path, tokenizer):
    save_stage_model(Start(stage, LORA).trainable(0), tokenizer, tmp_path / "sft")
    file = tmp_path / "sft" / "model" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(StageError, match=message):
        load_model(tmp_path / "sft")


def test_frozen_matrices_may_be_bf16_under_an_adapter_in_fp32(stage):
    start = Start(stage, LORA.model_copy(update={"frozen": "bf16"}))
    model = stirred(start.trainable(0))
    layers = model.lora_layers().values()
    assert {layer.frozen.dtype for layer in layers} == {torch.bfloat16}
    assert {layer.lora_A.dtype for layer in layers} == {torch.float32}
    ids = torch.arange(20)[None]
    model(ids, targets_bt=ids).backward()
    assert all(layer.lora_B.grad.isfinite().all() for layer in layers)
    rounded = load_model(stage)
    for name, module in rounded.named_modules():
        if name in model.lora_layers():
            module.weight.data = module.weight.data.bfloat16().float()
    torch.testing.assert_close(start.reference(ids), rounded(ids), rtol=0, atol=0)


CONVERSATIONS = [
    [Message(role="user", content=f"Say {word}."), Message(role="assistant", content=f"{word}!")]
    for word in ("mill", "bridge", "inn", "river", "dawn", "cafe", "street", "line") * 3
]


def test_fine_tuning_learns_into_a_small_folder_and_ends_with_the_same_adapter_after_a_stop(
    stage, tmp_path, tokenizer, monkeypatch
):
    settings = SftSettings(
        lora=LORA, seq_len=32, batch_tokens=64, micro_batch_tokens=64, epochs=2, checkpoint_every=2, device="cpu",
        precision="fp32", documents=0,
    )  # fmt: skip
    weights = (stage / "model" / "model.safetensors").read_bytes()
    figures = {f.name: f.value for f in fine_tune(CONVERSATIONS, stage, tokenizer, tmp_path / "whole", settings, "sft")}
    assert figures["last_loss"] < figures["first_loss"]
    assert (stage / "model" / "model.safetensors").read_bytes() == weights
    folder = model_folder(tmp_path / "whole")
    assert not (folder / "model.safetensors").exists()

    def stops_at(step: int):
        accumulate = NextToken.accumulate_gradients

        def stopping(self, now, learner):
            if now == step:
                raise InterruptedError
            return accumulate(self, now, learner)

        return stopping

    with monkeypatch.context() as patch:
        patch.setattr(NextToken, "accumulate_gradients", stops_at(5))
        with pytest.raises(InterruptedError):
            fine_tune(CONVERSATIONS, stage, tokenizer, tmp_path / "stopped", settings, "sft")
    saved = sorted((tmp_path / "stopped" / "checkpoints").glob("*/*.safetensors"))
    adapter = (folder / "adapter_model.safetensors").stat().st_size
    assert saved[-1].stat().st_size < 4 * adapter  # the adapter and the optimiser's two of each number
    fine_tune(CONVERSATIONS, stage, tokenizer, tmp_path / "stopped", settings, "sft")
    whole, resumed = (read_adapter(model_folder(tmp_path / name)).tensors for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_moves_the_adapter_alone_with_and_without_checkpointing(ids, tmp_path):
    def trained(compile: str, checkpointing: str) -> dict[str, torch.Tensor]:
        settings = TrainSettings(
            seq_len=20, batch_tokens=60, device="cpu", compile=compile, precision="fp32", warmup=0, decay=0,
            gradient_checkpointing=checkpointing,
        )  # fmt: skip
        model = AdaptedTransformer.on(base_model(), AdapterShape(4, 2.0)).initialise(0)
        objective = NextToken(model, lambda step: data.Batch(ids, ids.roll(-1, 1), torch.ones(ids.shape)), settings)
        out = tmp_path / f"{compile}-{checkpointing}"
        out.mkdir()
        train(objective, 3, settings, out, label="sft", adapter_lr=0.01)
        assert torch.equal(model.model.embed_tokens.weight, base_model().model.embed_tokens.weight)
        return model.adapter()

    eager, again = trained("off", "off"), trained("off", "on")
    assert all(torch.equal(eager[name], again[name]) for name in eager)
    assert any(eager[name].abs().max() > 0.01 for name in eager if "lora_B" in name)


@pytest.mark.slow  # two compilations
@pytest.mark.no_cover  # whose tracing costs half as much again
def test_compiled_blocks_with_an_adapter_take_the_same_steps(ids, tmp_path):
    found = {}
    for compile, checkpointing in (("off", "off"), ("on", "off"), ("on", "on")):
        settings = TrainSettings(
            seq_len=20, batch_tokens=60, device="cpu", compile=compile, precision="fp32", warmup=0, decay=0,
            gradient_checkpointing=checkpointing,
        )  # fmt: skip
        model = AdaptedTransformer.on(base_model(layers=1), AdapterShape(4, 2.0)).initialise(0)
        objective = NextToken(model, lambda step: data.Batch(ids, ids.roll(-1, 1), torch.ones(ids.shape)), settings)
        out = tmp_path / f"{compile}-{checkpointing}"
        out.mkdir()
        train(objective, 2, settings, out, label="sft", adapter_lr=1e-4)
        found[compile, checkpointing] = model.adapter()
    for name, tensor in found["off", "off"].items():
        torch.testing.assert_close(found["on", "off"][name], tensor, rtol=1e-3, atol=2e-5)
        torch.testing.assert_close(found["on", "on"][name], tensor, rtol=1e-3, atol=2e-5)
