import itertools

import pytest
import torch
from torch import Tensor

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.adapters import AdaptedTransformer
from crawl2chat.train.distributed import ParallelModel
from crawl2chat.train.lora import halve, shape_of
from crawl2chat.train.memory import activation_bytes, training_memory
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.settings import LoraSettings


def config(layers: int, kv_heads: int = 4) -> ModelConfig:
    return ModelConfig(512, 128, 320, layers, 4, kv_heads, 32, 64)


def bytes_kept_of_a_token(config: ModelConfig, bf16: bool, compiled: bool, model: Transformer | None = None) -> float:
    """What autograd holds between forward and backward pass, without weights and their copies."""
    model, rows, context = model or Transformer(config), 64, config.max_position_embeddings
    ids = torch.zeros(rows, context, dtype=torch.long)
    kept: dict[int, Tensor] = {}

    weights = {shape for p in model.parameters() for shape in (p.shape, p.shape[::-1])}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    trained = ParallelModel(model, device="cpu", bf16=bf16, compiled=compiled)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trained(ids, targets_bt=ids, weights_bt=torch.ones(ids.shape))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / (rows * context)


@pytest.mark.parametrize(
    ("kv_heads", "bf16", "compiled"),
    [
        *itertools.product((4, 1), (True, False), (False,)),
        pytest.param(1, True, True, marks=[pytest.mark.slow, pytest.mark.no_cover]),
    ],
)
def test_a_block_keeps_as_much_of_a_token_as_the_formula_says(kv_heads, bf16, compiled):
    two, three = (bytes_kept_of_a_token(config(layers, kv_heads), bf16, compiled) for layers in (2, 3))
    expected = activation_bytes(config(2, kv_heads), "cpu", bf16=bf16, compiled=compiled)
    assert three - two == pytest.approx(expected, rel=0.1 if compiled else 0.05)


def test_weights_gradients_and_state_are_counted_as_they_are_kept():
    model = Transformer(config(3))
    optimiser = MuonAdamW(model.named_parameters(), 0.02, 0.02, 0.0)
    memory = training_memory(config(3), 1024, "cpu", bf16=False, compiled=True)
    weights = sum(p.nbytes for p in model.parameters())
    assert memory.weights == memory.gradients == weights
    assert memory.optimiser == sum(t.nbytes for t in optimiser.state.values())
    assert training_memory(config(3), 1024, "cpu", bf16=True, compiled=True).weights == 1.5 * weights


@pytest.mark.parametrize("frozen", ["fp32", "bf16"])
def test_with_an_adapter_frozen_weights_take_neither_gradients_nor_state(frozen):
    settings = LoraSettings(rank=4, frozen=frozen)
    model = Transformer(config(3))
    if frozen == "bf16":
        halve(model, settings.targets)
    model = AdaptedTransformer.on(model, shape_of(settings)).initialise(0)
    optimiser = MuonAdamW(model.named_parameters(), 0.02, 0.02, 0.0)
    memory = training_memory(config(3), 1024, "cpu", bf16=False, compiled=True, lora=settings)
    weights = sum(p.nbytes for p in model.parameters())
    assert memory.weights == weights + 2 * 128 * 320 * 4  # and the updated gate and up of one block
    assert memory.gradients == sum(p.nbytes for p in model.parameters() if p.requires_grad)
    assert memory.optimiser == sum(t.nbytes for t in optimiser.state.values())
    assert memory.kept < 0.5 * training_memory(config(3), 1024, "cpu", bf16=False, compiled=True).kept


@pytest.mark.parametrize("dora", [False, True])
def test_a_block_with_an_adapter_keeps_as_much_of_a_token_as_the_formula_says(dora):
    settings = LoraSettings(rank=4, dora=dora)

    def adapted(layers: int) -> Transformer:
        return AdaptedTransformer.on(Transformer(config(layers)), shape_of(settings)).initialise(0)

    two, three = (bytes_kept_of_a_token(config(layers), False, False, adapted(layers)) for layers in (2, 3))
    formula = [
        training_memory(config(layers), 1, "cpu", bf16=False, compiled=False, lora=settings).activations
        for layers in (2, 3)
    ]
    assert three - two == pytest.approx(formula[1] - formula[0], rel=0.05)


def test_shards_divide_what_is_kept_and_not_the_activations():
    alone = training_memory(config(12), 1024, "cpu", bf16=True, compiled=True)
    shared = training_memory(config(12), 1024, "cpu", bf16=True, compiled=True, shards=8)
    assert shared.optimiser == alone.optimiser / 8
    assert shared.gradients == alone.gradients / 8
    assert alone.weights / 8 < shared.weights < alone.weights / 2  # two blocks and the embedding are gathered
    assert shared.activations == alone.activations
    assert shared.peak < alone.peak
