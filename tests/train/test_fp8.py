"""Products in fp8: as exact as its mantissas allow, forward and backward, and refused where they can't be computed."""

import pytest
import torch
import torch.nn.functional as F

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.train.fp8 import Fp8Linear, check_fp8, check_fp8_sizes, swap_linears, to_fp8


def relative_error(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


def test_a_linear_layer_and_its_gradients_are_those_of_fp32_but_for_the_mantissa():
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(4, 32, 64, generator=generator) * 30).requires_grad_()
    weight = (torch.randn(96, 64, generator=generator) * 1e-2).requires_grad_()
    dy = torch.randn(4, 32, 96, generator=generator) * 1e-6  # as small as a mean loss's
    expected = F.linear(x, weight)
    linear = Fp8Linear(64, 96, bias=False)
    linear.weight = torch.nn.Parameter(weight.detach())
    found = linear(x)
    assert found.dtype == torch.bfloat16
    assert relative_error(found, expected) < 0.05  # three bits of mantissa: 2^-4 at most, a quarter of it typically
    gradients = torch.autograd.grad(expected, (x, weight), dy)
    for ours, theirs in zip(torch.autograd.grad(found, (x, linear.weight), dy.bfloat16()), gradients, strict=True):
        assert ours.dtype == torch.float32
        assert relative_error(ours, theirs) < 0.1  # two bits


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_any_range_of_values_fits_fp8(dtype):
    for largest in (0.0, 1e-9, 1.0, 3e5):
        x = torch.linspace(-1, 1, 101) * largest
        rounded, scale = to_fp8(x, dtype)
        assert rounded.float().isfinite().all()
        torch.testing.assert_close(rounded.float() * scale, x, rtol=0.13, atol=largest * 1e-2)


def model(width=32, mlp_width=48):
    return Transformer(ModelConfig(64, width, mlp_width, 2, 2, 1, 16, max_position_embeddings=16))


def test_a_model_trained_in_fp8_has_about_the_gradients_of_fp32_and_evaluates_as_ever():
    trained = model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trained.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (p.ndim == 1))
    ids = torch.randint(64, (4, 16), generator=generator)

    def gradients():
        trained.train().zero_grad()
        F.cross_entropy(trained(ids).mT, ids).backward()
        return torch.cat([p.grad.flatten() for p in trained.parameters()]), trained.eval()(ids).detach()

    plain, logits = gradients()
    swap_linears(trained)
    in_fp8, logits_after = gradients()
    assert 0 < relative_error(in_fp8, plain) < 0.3  # two layers, each rounding what the other rounded
    assert torch.equal(logits, logits_after)


def test_a_cpu_and_sizes_that_fp8_cant_multiply_are_refused():
    with pytest.raises(StageError, match=r"precision = fp8 needs a GPU .* the device is a CPU"):
        check_fp8(model(), 24, "cpu")
    with pytest.raises(StageError, match=r"multiples of 16, which mlp_width = 40, seq_len = 24 isn't"):
        check_fp8_sizes(model(mlp_width=40), 24)


def test_a_gpu_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    with pytest.raises(StageError, match=r"NVIDIA A100 has 8\.0; use precision = bf16"):
        check_fp8(model(), 256, "cuda")
