import pytest
import torch
from torch import Tensor

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.train.loss import weighted_loss
from crawl2chat.train.memory import activation_bytes, training_memory
from crawl2chat.train.optim import MuonAdamW


def config(layers: int, kv_heads: int = 4) -> ModelConfig:
    return ModelConfig(512, 128, 320, layers, 4, kv_heads, 32, 64)


def bytes_kept_of_a_token(config: ModelConfig, bf16: bool, compiled: bool) -> float:
    """What autograd holds between forward and backward pass, without weights and their copies."""
    model, rows, context = Transformer(config), 16, config.max_position_embeddings
    ids = torch.zeros(rows, context, dtype=torch.long)
    kept: dict[int, Tensor] = {}

    weights = {shape for p in model.parameters() for shape in (p.shape, p.shape[::-1])}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def loss_of(ids: Tensor) -> Tensor:
        return weighted_loss(model, ids, ids, torch.ones(ids.shape), bf16=bf16)

    torch._dynamo.reset()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        (torch.compile(loss_of) if compiled else loss_of)(ids)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / (rows * context)


@pytest.mark.parametrize(
    ("kv_heads", "bf16", "compiled"),
    [(4, True, False), (1, True, False), (1, False, False), pytest.param(1, True, True, marks=pytest.mark.slow)],
)
def test_a_block_keeps_as_much_of_a_token_as_the_formula_says(kv_heads, bf16, compiled):
    two, three = (bytes_kept_of_a_token(config(layers, kv_heads), bf16, compiled) for layers in (2, 3))
    assert three - two == pytest.approx(activation_bytes(config(2, kv_heads), bf16=bf16, compiled=compiled), rel=0.05)


def test_weights_gradients_and_state_are_counted_as_they_are_kept():
    model = Transformer(config(3))
    optimiser = MuonAdamW(model.named_parameters(), 0.02, 0.02, 0.0)
    memory = training_memory(config(3), 1024, bf16=False, compiled=True)
    weights = sum(p.nbytes for p in model.parameters())
    assert memory.weights == memory.gradients == weights
    assert memory.optimiser == sum(t.nbytes for t in optimiser.state.values())
    assert training_memory(config(3), 1024, bf16=True, compiled=True).weights == 1.5 * weights


def test_shards_divide_what_is_kept_and_not_the_activations():
    alone = training_memory(config(12), 1024, bf16=True, compiled=True)
    shared = training_memory(config(12), 1024, bf16=True, compiled=True, shards=8)
    assert shared.optimiser == alone.optimiser / 8
    assert shared.gradients == alone.gradients / 8
    assert alone.weights / 8 < shared.weights < alone.weights / 2  # two blocks and the embedding are gathered
    assert shared.activations == alone.activations
    assert shared.peak < alone.peak
