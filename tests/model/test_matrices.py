"""The forms in which matrices are kept for generating: near the model in float32, and the same in every batch."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import random_model

from crawl2chat.cli.arguments import WEIGHT_FORMS
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import CachedTransformer, WeightForm, load_to_generate, save_model
from crawl2chat.model import matrices as forms
from crawl2chat.model.matrices import Embedding, Int8Matrix, make_matrix, quantised

NARROW = ["bfloat16", "int8"]


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def logits(model, weights, ids, rows=8):
    cached = CachedTransformer(model, rows, 64, weights=weights)
    cached.prefill([0], [0], [ids[:-1]])
    return cached.decode([(ids[-1], len(ids) - 1)])[0]


@pytest.fixture(params=[False, True], ids=["float32 activations", "bfloat16 activations"])
def native(request, monkeypatch):
    """Whether the CPU is taken to multiply bfloat16 itself."""
    monkeypatch.setattr(forms, "multiplies_bf16", lambda: request.param)
    return request.param


@pytest.fixture
def not_native(monkeypatch):
    monkeypatch.setattr(forms, "multiplies_bf16", lambda: False)


def test_the_command_line_offers_the_forms_that_there_are():
    assert get_args(WeightForm) == WEIGHT_FORMS


@pytest.mark.parametrize("without_fbgemm", [False, True])
def test_an_int8_product_is_that_of_the_rounded_weights_with_float32_activations(monkeypatch, without_fbgemm):
    if without_fbgemm:
        monkeypatch.setattr(forms, "has_fbgemm", lambda: False)
    weight, x = numbers(96, 200), numbers(7, 200, seed=1)
    x[:, 3] *= 300  # one channel far above all others, as trained models have
    whole, scale = quantised(weight)
    expected = x.double() @ (whole.double() * scale.double()[:, None]).T
    error = (Int8Matrix(weight)(x) - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() < 1e-3


def test_the_greatest_sums_of_an_int8_product_are_exact():
    """On CPUs without VNNI, products of 8 by 8 bits would not fit where FBGEMM adds two of them."""
    weight = torch.full((40, 1536), 1.0)
    weight[1::2] = -1.0
    x = torch.full((3, 1536), 5.0)
    torch.testing.assert_close(Int8Matrix(weight)(x), x @ weight.T, rtol=1e-5, atol=0)


def test_a_row_of_zeros_and_a_matrix_of_zeros_give_zeros():
    assert not Int8Matrix(numbers(40, 32))(torch.zeros(2, 32)).any()
    assert not Int8Matrix(torch.zeros(40, 32))(numbers(2, 32)).any()


@pytest.mark.parametrize("without_fbgemm", [False, True])
def test_a_16_bit_product_is_that_of_bf16_weights_with_float32_activations(monkeypatch, not_native, without_fbgemm):
    if without_fbgemm:
        monkeypatch.setattr(forms, "has_fbgemm", lambda: False)
    weight, x = numbers(96, 200).bfloat16(), numbers(7, 200, seed=1)
    product = make_matrix(weight, None, "bfloat16", alone=False)
    torch.testing.assert_close(product(x), x @ weight.float().T, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("many", [False, True])
def test_a_bf16_product_is_that_of_rounded_weights_and_activations_summed_in_float32(many):
    weight, x = numbers(600, 512), numbers(7, 512, seed=1)
    product = forms.Bf16Matrix(weight, numbers(600, seed=2), alone=False)
    expected = (x.bfloat16().float() @ weight.bfloat16().float().T).bfloat16().float() + numbers(600, seed=2)
    torch.testing.assert_close(product(x, many=many), expected, atol=0.01, rtol=0.01)


def test_a_weight_beyond_float16_is_kept_in_float32(not_native):
    weight, x = numbers(96, 200), numbers(4, 200, seed=1)
    weight[5, 7] = 1e6
    torch.testing.assert_close(
        make_matrix(weight, None, "bfloat16", alone=False)(x), x @ weight.T, rtol=1e-4, atol=1e-3
    )


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NARROW), st.integers(1, 200), st.data())
def test_a_row_has_the_same_product_in_any_batch_to_the_last_bit(form, n, data):
    product = make_matrix(numbers(100, 72), None, form, alone=False)
    x = numbers(n, 72, seed=n)
    row = data.draw(st.integers(0, n - 1))
    assert torch.equal(product(x)[row], product(x[row : row + 1])[0])
    assert torch.equal(product(x, many=True)[row], product(x)[row])


@pytest.mark.parametrize("form", NARROW)
def test_a_bias_is_added_in_float32(form):
    weight, bias, x = numbers(40, 32), numbers(40, seed=2), numbers(3, 32, seed=1)
    without, with_bias = (make_matrix(weight, b, form, alone=False)(x) for b in (None, bias))
    assert torch.equal(with_bias, without + bias)


@pytest.mark.parametrize("form", NARROW)
def test_an_embedding_is_looked_up_as_its_rounded_rows(form):
    weight = numbers(50, 32)
    rows = Embedding(weight, form)(torch.tensor([3, 49, 3]))
    assert rows.dtype == torch.float32
    assert (rows - weight[[3, 49, 3]]).abs().max() < (0.02 if form == "bfloat16" else weight.abs().max() / 127)


@pytest.mark.parametrize("shape", ["tied", "untied", "grouped heads"])
@pytest.mark.parametrize(("form", "near"), [("float32", 1e-6), ("bfloat16", 3e-3), ("int8", 0.1)])
def test_a_models_logits_are_near_those_of_float32(shape, form, near, native):
    near = 2e-2 if native and form == "bfloat16" else near
    model = random_model(shape)
    ids = list(range(5, 40))
    expected = logits(model, None, ids)
    assert (logits(model, form, ids) - expected).norm() <= near * expected.norm()


@pytest.mark.parametrize("form", NARROW)
def test_batching_does_not_change_logits(form, native):
    model = random_model("grouped heads")
    alone = logits(model, form, list(range(5, 40)))
    cached = CachedTransformer(model, 40, 64, weights=form)
    rows = list(range(40))
    cached.prefill(rows, [0] * 40, [list(range(5, 39)), *([7] * (n % 30 + 1) for n in rows[1:])])
    together = cached.decode([(39, 34), *((n, n % 30 + 1) for n in rows[1:])])[0]
    assert torch.equal(together, alone)


@pytest.mark.parametrize("form", NARROW)
@pytest.mark.parametrize("shape", ["tied", "untied"])
def test_the_float32_matrices_are_gone_where_the_model_is_emptied(form, shape):
    model = random_model(shape)
    expected = logits(model, form, [1, 2, 3])
    cached = CachedTransformer(model, 8, 64, weights=form, empties_model=True)
    assert not [name for name, weight in model.named_parameters() if weight.ndim == 2 and weight.numel()]
    assert not cached.refresh()
    cached.prefill([0], [0], [[1, 2]])
    assert torch.equal(cached.decode([(3, 2)])[0], expected)


def test_a_model_stored_in_16_bits_stays_in_16_bits_and_one_in_32_in_32(tmp_path, not_native):
    model = random_model("tied")
    save_model(model, tmp_path / "wide", stop_ids=[1], pad_id=0)
    save_model(model.to(torch.bfloat16), tmp_path / "narrow", stop_ids=[1], pad_id=0)
    loaded, form = load_to_generate(tmp_path / "wide")
    assert (loaded.model.embed_tokens.weight.dtype, form) == (torch.float32, None)
    loaded, form = load_to_generate(tmp_path / "narrow")
    assert (loaded.model.embed_tokens.weight.dtype, form) == (torch.bfloat16, "bfloat16")
    whole, form = load_to_generate(tmp_path / "narrow", "float32")
    ids = list(range(5, 30))
    # what it was stored as is what it computes with: with float32 activations nothing is lost to the 16 bits
    torch.testing.assert_close(logits(loaded, "bfloat16", ids), logits(whole, form, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", NARROW)
def test_a_prompts_tokens_do_not_depend_on_its_neighbours(form, tokenizer):
    model = random_model("grouped heads", vocab_size=tokenizer.vocab_size)
    engine = Engine(model, tokenizer, max_batch=16, context=64, weights=form)
    prompts = [[n + 1, n + 2, *range(3, 3 + n)] for n in range(20)]
    together = engine.generate(prompts, Sampling(max_tokens=12, temperature=0))
    for n in (0, 7, 19):
        (alone,) = engine.generate([prompts[n]], Sampling(max_tokens=12, temperature=0))
        assert alone.ids == together[n].ids
