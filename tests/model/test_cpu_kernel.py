"""The step that numba compiles gives the numbers of the one in torch."""

import dataclasses

import numpy as np
import pytest
import torch
from models import random_model

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import CachedTransformer, Transformer, load_model, save_model

kernel = pytest.importorskip("crawl2chat.model.cpu_kernel", reason="numba is not installed", exc_type=ImportError)
FORMS = [None, "bfloat16", "int8"]
LENGTH = 64


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def read(cached, rows=5, steps=3):
    """The logits of some decoded tokens behind prompts of different lengths."""
    prompts = [[(7 * i + row) % 97 for i in range(10 + row)] for row in range(rows)]
    cached.prefill(list(range(rows)), [0] * rows, prompts)
    logits = [cached.decode([(3 + row, 10 + row + step) for row in range(rows)]) for step in range(steps)]
    return torch.stack(logits)


def with_config(**changes):
    plain = random_model("grouped heads")
    model = Transformer(dataclasses.replace(plain.config, **changes))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=i) * 0.3 + (parameter.ndim == 1))
    return model.eval()


@pytest.mark.parametrize("changes", [
    {},
    {"qk_norm": False, "qkv_bias": True, "o_bias": True, "mlp_bias": True},
    {"sliding_window": 5, "sliding_layers": (0, 2)},
    {"tie_word_embeddings": False, "hidden_size": 36, "intermediate_size": 77, "vocab_size": 101},
])  # fmt: skip
def test_each_kind_of_model_has_the_logits_of_torch(changes):
    model = with_config(**changes)
    theirs, ours = (read(CachedTransformer(model, 5, LENGTH, compiled=compiled)) for compiled in (False, True))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 9, 8), (2, 64, 33), (3, 7, 100), (5, 130, 31), (40, 576, 48)])
def test_a_product_is_that_of_the_kept_weights(form, shape):
    n, c, m = shape
    weight, bias, x = numbers(m, c), numbers(m, seed=1), numbers(n, c, seed=2)
    kept = weight
    if form == "bfloat16":
        kept = weight.bfloat16().float()
    elif form == "int8":
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        kept = (weight / scale).round() * scale
    matrix = kernel.KernelMatrix(weight, bias, form)
    rows = kernel._padded(x.numpy(), matrix.weight_mc.dtype.name)
    y = np.empty((len(rows), m), np.float32)
    kernel._product(matrix.weight_mc, matrix.scale_m, matrix.bias_m, rows, y)
    product = torch.from_numpy(y[:n])
    torch.testing.assert_close(product, (x.double() @ kept.double().T + bias).float(), atol=1e-4, rtol=1e-4)


def test_e_to_the_power_of_x():
    x = np.linspace(-80, 80, 10_001, dtype=np.float32)
    ours = np.array([kernel._exp(number) for number in x])
    np.testing.assert_allclose(ours, np.exp(x.astype(np.float64)), rtol=1e-5)
    assert kernel._exp(np.float32(0)) == 1
    assert kernel._exp(np.float32(-np.inf)) < 1e-37


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [8, 13, 21])
def test_threads_change_no_bit(form, rows, monkeypatch):
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(kernel, "PARALLEL", 0)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        cached = CachedTransformer(random_model("tied"), rows, LENGTH, weights=form, compiled=True)
        found.append(read(cached, rows, 2))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("form", FORMS)
def test_a_cpu_that_sums_a_single_row_otherwise_reads_it_as_four(form, monkeypatch):
    expected = read(CachedTransformer(random_model("tied"), 1, LENGTH, weights=form, compiled=True), rows=1)
    monkeypatch.setattr(kernel, "_alone_as_in_fours", lambda kind: False)
    torch.testing.assert_close(
        read(CachedTransformer(random_model("tied"), 1, LENGTH, weights=form, compiled=True), rows=1), expected
    )


def test_a_model_that_is_only_generated_with_is_emptied():
    model = random_model("tied")
    cached = CachedTransformer(model, 4, LENGTH, weights="int8", compiled=True, empties_model=True)
    assert all(parameter.numel() == 0 for parameter in model.parameters() if parameter.ndim == 2)
    assert read(cached, 4).isfinite().all()


@pytest.mark.parametrize("changes", [{"hidden_size": 6}, {"head_dim": 2, "num_key_value_heads": 2}])
def test_a_model_narrower_than_the_kernel_is_left_to_torch(changes):
    model = with_config(**changes)
    cached = CachedTransformer(model, 2, LENGTH, compiled=True)
    assert cached.step is None
    assert read(cached, 2).isfinite().all()


def test_weights_that_are_not_numbers_are_not_hidden():
    model = random_model("tied")
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    assert read(CachedTransformer(model, 2, LENGTH, compiled=True), rows=2).isnan().all()


def test_an_engine_writes_the_same_with_and_without_numba(tmp_path, monkeypatch, tokenizer):
    save_model(random_model("tied", tokenizer.vocab_size), tmp_path, stop_ids=[1], pad_id=0)
    written = []
    for there in (True, False):
        monkeypatch.setattr("crawl2chat.model.cached._kernel", lambda there=there: kernel if there else None)
        engine = Engine(load_model(tmp_path), tokenizer, max_batch=8)
        assert (engine.cached.step is not None) == there
        prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]
        sampling = Sampling(temperature=1, max_tokens=20, seed=3)
        written.append([completion.ids for completion in engine.generate(prompts, sampling)])
    assert written[0] == written[1]
