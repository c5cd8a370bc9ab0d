"""The loss in chunks, and attention in blocks, are the plain ones."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crawl2chat.model import ModelConfig, Transformer, head_loss
from crawl2chat.model.cpu_attention import BlockwiseCausal
from crawl2chat.model.head_loss import chunk_size
from crawl2chat.train.distributed import ParallelModel

B, T, V = 6, 24, 96


def model(*, tied: bool, layers: int = 2) -> Transformer:
    sizes = (V, 64, 96, layers, 4, 2, 16)
    transformer = Transformer(ModelConfig(*sizes, max_position_embeddings=T, tie_word_embeddings=tied))
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


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-4), (True, 2e-2)], ids=["fp32", "bf16"])
def test_of_a_frozen_head_only_learned_tokens_are_multiplied_and_nothing_else_changes(
    most_tokens, monkeypatch, bf16, tolerance
):
    monkeypatch.setattr(head_loss, "MIN_FROZEN_CHUNK", 1)
    transformer = model(tied=False)
    transformer.lm_head.requires_grad_(False)
    inputs_bt, targets_bt, weights_bt = batch()
    features_btc = transformer.features(inputs_bt).detach().requires_grad_()
    logits_btv = transformer.logits(features_btc)
    losses_btv = F.cross_entropy(logits_btv.flatten(0, 1), targets_bt.flatten(), reduction="none")
    expected = (losses_btv * weights_bt.flatten()).sum()
    gradient = torch.autograd.grad(expected, features_btc)[0]
    read = []
    transformer.chunk_loss.register_forward_pre_hook(lambda _, inputs: read.append(len(inputs[0])))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        found = transformer.loss(features_btc, targets_bt, weights_bt)
    torch.testing.assert_close(found, expected, rtol=tolerance / 10, atol=1e-6)
    found_gradient = torch.autograd.grad(found, features_btc)[0]
    assert (found_gradient - gradient).norm() <= tolerance * gradient.norm()
    learned, size = int(weights_bt.count_nonzero()), read[0]
    assert learned <= sum(read) < learned + size
    assert len(set(read)) == 1  # one shape, for compiled code
    assert transformer.loss(features_btc, targets_bt, torch.zeros_like(weights_bt)) == 0


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that any result holds."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [tensor for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor)]
        self.numbers = max([self.numbers, *(tensor.numel() for tensor in tensors)])
        return result


def plain_logprobs(transformer, inputs_bt, targets_bt, at_bt):
    log_p_nv = transformer(inputs_bt)[at_bt].float().log_softmax(dim=-1)
    return log_p_nv.gather(1, targets_bt[at_bt][:, None])[:, 0], -(log_p_nv.exp() * log_p_nv).sum(dim=-1)


@pytest.mark.parametrize("trained", ["tied", "untied", "frozen head"])
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 2e-2)], ids=["fp32", "bf16"])
def test_log_probabilities_in_chunks_and_their_gradients_are_the_plain_ones(most_tokens, trained, bf16, tolerance):
    transformer = model(tied=trained == "tied")
    transformer.lm_head.requires_grad_(trained != "frozen head")
    inputs_bt, targets_bt, weights_bt = batch()
    at_bt = weights_bt > 0.005  # some places of each row
    gains_n = torch.randn(int(at_bt.sum()), generator=torch.Generator().manual_seed(2))
    found = []
    for logprobs in (plain_logprobs, lambda model, *batch: model(batch[0], targets_bt=batch[1], at_bt=batch[2])):
        transformer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logprobs_n, entropy_n = logprobs(transformer, inputs_bt, targets_bt, at_bt)
        (gains_n * logprobs_n.exp()).sum().backward()  # each gradient depends on the value, as a ratio's does
        gradients = {name: p.grad.clone() for name, p in transformer.named_parameters() if p.requires_grad}
        found.append((logprobs_n.detach(), entropy_n.detach(), gradients))
    (expected_n, expected_entropy_n, expected), (logprobs_n, entropy_n, gradients) = found
    torch.testing.assert_close(logprobs_n, expected_n, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(entropy_n, expected_entropy_n, rtol=tolerance, atol=tolerance)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= tolerance * gradient.norm(), name


def test_log_probabilities_never_hold_more_logits_than_a_chunk(monkeypatch):
    monkeypatch.setattr(head_loss, "MIN_CHUNK", 1)
    monkeypatch.setitem(head_loss.LOGITS_AT_ONCE, "cpu", 16 * V)
    transformer = model(tied=False, layers=0)
    inputs_bt, targets_bt, _ = (part.repeat(20, 1) for part in batch())
    with LargestTensor() as largest:
        features_btc = transformer.features(inputs_bt)
    with LargestTensor() as plain:
        transformer.logits(features_btc)
    with LargestTensor() as chunked:
        logprobs_n, _ = transformer.logprobs(features_btc.flatten(0, 1), targets_bt.flatten())
        logprobs_n.sum().backward()
    assert plain.numbers == 20 * B * T * V
    assert chunked.numbers <= max(largest.numbers, 16 * V)


def test_of_no_tokens_there_are_no_log_probabilities_and_gradients_of_zero():
    transformer = model(tied=True)
    inputs_bt, targets_bt, _ = batch()
    found = transformer(inputs_bt, targets_bt=targets_bt, at_bt=torch.zeros(B, T, dtype=torch.bool))
    assert found.shape == (2, 0)
    found[0].sum().backward()
    assert all(parameter.grad.count_nonzero() == 0 for parameter in transformer.parameters())


def test_no_chunk_of_logits_is_larger_than_the_rule_allows():
    assert chunk_size(4096, 4096, "cpu") == 512
    assert chunk_size(100, 4096, "cpu") == 100
    assert chunk_size(16_384, 151_936, "cpu") == 512
    assert chunk_size(16_384, 65_536, "cuda") == 2048
    assert chunk_size(4_000, 4096, "cpu") == 500  # equal chunks
    assert chunk_size(521, 4096, "cpu") == 512  # a prime has none


@pytest.mark.no_cover  # tracing costs half as much again, and other tests reach all lines
@pytest.mark.slow
def test_compiled_loss_and_gradients_are_the_plain_ones():
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    transformer = model(tied=True, layers=1)  # compiling two takes twice as long
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
