import pytest
import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.train import utilisation
from crawl2chat.train.settings import PretrainSettings
from crawl2chat.train.utilisation import DEVICES, known_device, matmul_rate, utilisation_figures

SETTINGS = PretrainSettings(seq_len=64, device="cpu", precision="fp32")


def test_the_rate_is_that_of_the_best_product(monkeypatch):
    seconds = iter([3.0, 1.0])
    monkeypatch.setattr(
        utilisation, "_seconds_of_product", lambda a, b, out: next(seconds, 2.0) if len(a) == 2048 else 1.0
    )
    assert matmul_rate.__wrapped__("cpu", torch.float32) == 2 * 2048**3 / 1.0


def test_a_processor_multiplies():
    assert 1e8 < matmul_rate("cpu", torch.float32) < 1e15


def test_utilisation_is_model_flop_over_the_measured_rate_of_all_devices(monkeypatch):
    monkeypatch.setattr(utilisation, "matmul_rate", lambda device, dtype: 4e9)
    model = Transformer(ModelConfig(100, 32, 64, 2, 2, 2, 16, 64))
    one, two = ({f.name: f.value for f in utilisation_figures(model, SETTINGS, 1000, n_devices=n)} for n in (1, 2))
    assert one["matmul_rate"] == 4e9
    assert one["model_flop_utilisation"] == pytest.approx(1000 * model.flops_per_token(64) / 4e9)
    assert two["model_flop_utilisation"] == one["model_flop_utilisation"] / 2
    assert "data_sheet_utilisation" not in one  # of a CPU there is none


def test_a_card_with_a_known_data_sheet_is_measured_by_that_too(monkeypatch):
    monkeypatch.setattr(utilisation, "matmul_rate", lambda device, dtype: 700e12)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    model = Transformer(ModelConfig(100, 32, 64, 2, 2, 2, 16, 64))
    settings = SETTINGS.model_copy(update={"device": "cuda"})
    figures = {f.name: f.value for f in utilisation_figures(model, settings, 1e9)}
    assert figures["data_sheet_utilisation"] * 989 == pytest.approx(figures["model_flop_utilisation"] * 700)


@pytest.mark.parametrize(
    ("cuda_name", "known"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3060", None),
        ("NVIDIA A1000", None),
    ],
)
def test_a_card_is_known_by_the_name_that_cuda_gives_it(cuda_name, known):
    assert known_device(cuda_name) is (DEVICES[known] if known else None)
