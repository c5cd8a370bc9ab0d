"""The rules by which precision and compilation are chosen."""

import pytest
import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.train import devices
from crawl2chat.train.devices import compiles, deterministic, uses_bf16
from crawl2chat.train.settings import TrainSettings


@pytest.mark.parametrize(("avx512_bf16", "amx"), [(True, False), (False, True), (False, False)])
def test_bf16_is_chosen_where_the_processor_multiplies_it(monkeypatch, avx512_bf16, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert uses_bf16(TrainSettings(), "cpu") == (avx512_bf16 or amx)
    assert not uses_bf16(TrainSettings(precision="fp32"), "cpu")
    assert uses_bf16(TrainSettings(precision="bf16"), "cpu")


def test_compilation_is_chosen_for_runs_long_enough_to_pay_for_it(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/c++" if name == "c++" else None)
    model = Transformer(ModelConfig(64, 32, 64, 2, 2, 1, 16, max_position_embeddings=16))
    settings = TrainSettings(seq_len=16, batch_tokens=4096)
    step = 4096 * model.flops_per_token(16)
    pays = round(devices.COMPILE_FROM_FLOP["cpu"] / step)
    assert [compiles(settings, "cpu", n * step) for n in (pays // 2, pays * 2)] == [False, True]
    assert not compiles(settings, "cuda", 2 * pays * step)
    assert compiles(TrainSettings(compile="on"), "cpu", step)
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    assert not compiles(settings, "cpu", 2 * pays * step)


def test_on_a_gpu_too_compilation_needs_a_compiler(monkeypatch):
    flop = 2 * devices.COMPILE_FROM_FLOP["cuda"]
    for compiler, compiled in (("gcc", True), ("clang", True), ("c++", False)):
        monkeypatch.setattr(devices.shutil, "which", lambda name, here=compiler: here if name == here else None)
        assert compiles(TrainSettings(), "cuda", flop) == compiled


def test_determinism_is_asked_of_cpus_alone_and_ends_with_its_block():
    with deterministic("cuda"):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic("cpu"):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize(
    ("precision", "large", "form"), [("bf16", True, "bfloat16"), ("bf16", False, None), ("fp32", True, None)]
)
def test_a_large_model_is_asked_in_the_arithmetic_that_it_is_trained_in(monkeypatch, precision, large, form):
    model = Transformer(ModelConfig(40, 16, 32, 1, 1, 1, 16, max_position_embeddings=8))
    monkeypatch.setattr(devices, "LARGE", model.n_parameters() if large else model.n_parameters() + 1)
    assert devices.rollout_form(model, TrainSettings(precision=precision)) == form
