"""The loss in chunks, and attention in blocks, are the plain ones."""

import shutil

import pytest
import torch
import torch.nn.functional as F

from crawl2chat.model import ModelConfig, Transformer, head_loss
from crawl2chat.model.cpu_attention import BlockwiseCausal
from crawl2chat.model.head_loss import chunk_size
from crawl2chat.train.distributed import ParallelModel

B, T, V = 6, 24, 96


def model(*, tied: bool) -> Transformer:
    transformer = Transformer(ModelConfig(V, 64, 96, 2, 4, 2, 16, max_position_embeddings=T, tie_word_embeddings=tied))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + (parameter.ndim == 1))
    return transformer


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(V, (B, T + 1), generator=generator)
    weights = torch.rand(B, T, generator=generator)
    weights[:, :5] = 0  # as a prompt's
    return ids[:, :-1], ids[:, 1:], weights / weights.sum()


def plain_loss(transformer, inputs_bt, targets_bt, weights_bt, *, bf16=False):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits_btv = transformer(inputs_bt)
    losses = F.cross_entropy(logits_btv.float().flatten(0, 1), targets_bt.flatten(), reduction="none")
    return (losses * weights_bt.flatten()).sum()


def loss_in_chunks(transformer, inputs_bt, targets_bt, weights_bt, *, bf16=False, compiled=False):
    trained = ParallelModel(transformer, device="cpu", bf16=bf16, compiled=compiled)
    return trained(inputs_bt, targets_bt=targets_bt, weights_bt=weights_bt)


def loss_and_gradients(loss, transformer, **options):
    transformer.zero_grad()
    value = loss(transformer, *batch(), **options)
    (3.0 * value).backward()
    return value.item(), {name: p.grad.clone() for name, p in transformer.named_parameters()}


@pytest.fixture(params=[10, 48, 1000], ids=["ragged chunks", "three chunks", "one chunk"])
def most_tokens(request, monkeypatch):
    monkeypatch.setattr(head_loss, "MIN_CHUNK", 1)
    monkeypatch.setitem(head_loss.LOGITS_AT_ONCE, "cpu", request.param * V)
    return request.param


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 2e-2)], ids=["fp32", "bf16"])
def test_the_loss_in_chunks_and_its_gradients_are_the_plain_ones(most_tokens, tied, bf16, tolerance):
    transformer = model(tied=tied)
    expected, gradients = loss_and_gradients(plain_loss, transformer, bf16=bf16)
    found, found_gradients = loss_and_gradients(loss_in_chunks, transformer, bf16=bf16)
    assert found == pytest.approx(expected, rel=tolerance / 10)
    for name, gradient in gradients.items():
        assert (found_gradients[name] - gradient).norm() <= tolerance * gradient.norm(), name


def test_no_chunk_of_logits_is_larger_than_the_rule_allows():
    assert chunk_size(4096, 4096, "cpu") == 512
    assert chunk_size(100, 4096, "cpu") == 100
    assert chunk_size(16_384, 151_936, "cpu") == 512
    assert chunk_size(16_384, 65_536, "cuda") == 2048
    assert chunk_size(4_000, 4096, "cpu") == 500  # equal chunks
    assert chunk_size(521, 4096, "cpu") == 512  # a prime has none


@pytest.mark.slow
def test_compiled_loss_and_gradients_are_the_plain_ones():
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    transformer = model(tied=True)
    expected, gradients = loss_and_gradients(plain_loss, transformer)
    found, found_gradients = loss_and_gradients(loss_in_chunks, transformer, compiled=True)
    assert found == pytest.approx(expected, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [1, 5, 8, 24, 100])
def test_attention_in_blocks_is_causal_attention(size):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, T, 16, generator=generator, requires_grad=True) for _ in range(3))
    dy = torch.randn(2, 4, T, 16, generator=generator)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    found = BlockwiseCausal.apply(q, k, v, size)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(expected, (q, k, v), dy)
    for ours, theirs in zip(torch.autograd.grad(found, (q, k, v), dy), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
