"""On a GPU, too: a step that is replayed is the step, weights are live, and the batch changes no token."""

import pytest
import torch
from devices import CUDA, DEVICES, bytes_tokenizer
from models import SHAPES, random_model

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import CachedTransformer, Transformer

LENGTH = 64
VOCAB = len(bytes_tokenizer().ranks) + len(bytes_tokenizer().controls)
CLOSE = {"atol": 1e-3, "rtol": 1e-3}  # fp32, whose sums are taken in another order
PROMPTS = [[5, 6, 7], [8], list(range(20, 50)), [9, 10] * 6, [11]]


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    return request.param


def model_on(device: str, shape: str = "grouped heads") -> Transformer:
    return random_model(shape, VOCAB).to(device)


def some_ids(n: int, seed: int) -> list[int]:
    return torch.randint(VOCAB, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def read(cached: CachedTransformer, lengths: list[int]) -> torch.Tensor:
    """The logits behind prompts of these lengths, read and then decoded together."""
    ids = [some_ids(n, n) for n in lengths]
    cached.prefill(range(len(ids)), [0] * len(ids), [row[:-1] for row in ids])
    return cached.decode([(row[-1], len(row) - 1) for row in ids]).clone()


@pytest.mark.parametrize("device", DEVICES)
def test_logits_over_the_cache_are_the_models(device, shape):
    model, lengths = model_on(device, shape), [3, 40, 17]
    found = read(CachedTransformer(model, 4, LENGTH), lengths)
    with torch.no_grad():
        expected = [model(torch.tensor([some_ids(n, n)], device=device))[0, -1] for n in lengths]
    torch.testing.assert_close(found, torch.stack(expected), **CLOSE)


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replayed_steps_of_any_size_in_any_order_are_those_that_are_not(device, shape, dtype):
    """Graphs share memory: what one leaves behind must not be what another reads."""
    model = model_on(device, shape).to(dtype)
    replaying, plain = CachedTransformer(model, 24, LENGTH), CachedTransformer(model, 24, LENGTH)
    plain.replays = False
    for lengths in ([3, 4], [5] * 20, [60], [7, 63, 2], [5] * 20, [3, 4]):
        found, expected = read(replaying, lengths).float(), read(plain, lengths).float()
        assert (found - expected).norm() < (1e-4 if dtype == torch.float32 else 0.03) * expected.norm()
    assert len(replaying.graphs) == 2
    assert not plain.graphs


@pytest.mark.parametrize("device", DEVICES)
def test_after_training_in_place_the_next_step_has_the_new_weights(device, shape):
    model = model_on(device, shape)
    cached = CachedTransformer(model, 4, LENGTH)
    before, graphs = read(cached, [9, 12]), dict(cached.graphs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert cached.refresh()
    after = read(cached, [9, 12])
    assert not torch.allclose(before, after, atol=1e-2)
    torch.testing.assert_close(after, read(CachedTransformer(model, 4, LENGTH), [9, 12]), **CLOSE)
    assert cached.graphs == graphs  # recorded once
    assert len(graphs) == (device == "cuda")


@pytest.mark.parametrize("device", [CUDA])
def test_weights_that_were_put_elsewhere_are_read_there(device):
    model = model_on("cpu")
    cached = CachedTransformer(model, 4, LENGTH)
    expected = read(cached, [9, 12])
    model.to(device)
    assert cached.refresh()
    torch.testing.assert_close(read(cached, [9, 12]).cpu(), expected, **CLOSE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=0.8, top_k=40, top_p=0.95, seed=7)])
def test_prompts_in_a_batch_get_the_tokens_they_would_get_alone(device, sampling):
    engine = Engine(model_on(device), bytes_tokenizer(), 8)
    together = engine.generate(PROMPTS, sampling)
    alone = [Engine(engine.model, engine.tokenizer, 8).generate([p], sampling, [i])[0] for i, p in enumerate(PROMPTS)]
    assert [c.ids for c in together] == [c.ids for c in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_more_requests_than_rows_that_come_and_go_get_their_own_tokens(device):
    """The batch shrinks and grows, so that graphs of several sizes take turns."""
    model, tokenizer = model_on(device), bytes_tokenizer()
    prompts = [some_ids(2 + n % 9, n) for n in range(40)]
    sampling = Sampling(max_tokens=12, seed=3)
    few = Engine(model, tokenizer, 4).generate(prompts, sampling)
    many = Engine(model, tokenizer, 32).generate(prompts, sampling)
    assert [c.ids for c in few] == [c.ids for c in many]
