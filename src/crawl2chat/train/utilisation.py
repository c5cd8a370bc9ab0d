"""How much of a device's arithmetic training uses: devices by their data sheets, and what they reach."""

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from crawl2chat.model import Transformer
from crawl2chat.stages.figures import Figure
from crawl2chat.train.devices import choose_device, uses_bf16
from crawl2chat.train.settings import TrainSettings


@dataclass(frozen=True)
class Device:
    """A GPU as its maker's data sheet has it, and what renting one is assumed to cost."""

    name: str
    bf16_flops: float  # FLOP/s of dense matrix products, without sparsity, accumulated in fp32
    memory: float  # bytes
    price: float  # dollars per hour; an assumption, as of 2026


# Under the name to give on the command line, a word of the one that CUDA has for it. The SXM forms of those that have
# several. NVIDIA's sheets print twice the dense figure for Hopper and Blackwell, with sparsity.
DEVICES = {
    "b200": Device("NVIDIA B200", 2250e12, 180e9, 5.0),
    "h200": Device("NVIDIA H200", 989e12, 141e9, 3.5),
    "h100": Device("NVIDIA H100", 989e12, 80e9, 3.0),
    "a100": Device("NVIDIA A100 80 GB", 312e12, 80e9, 1.8),
    "l40s": Device("NVIDIA L40S", 362e12, 48e9, 1.0),
    "4090": Device("NVIDIA RTX 4090", 165e12, 24e9, 0.5),
}


OTHER_FORMS = {"pcie", "nvl", "laptop", "d"}  # cards of the same name that are slower


def known_device(cuda_name: str) -> Device | None:
    """The one of DEVICES that CUDA calls so (`NVIDIA H100 80GB HBM3`); None when it is another, or another form."""
    words = set(cuda_name.lower().replace("-", " ").split())
    return next((device for name, device in DEVICES.items() if name in words and not words & OTHER_FORMS), None)


@lru_cache
def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s that this machine reaches in products of two n×n matrices, the best of several sizes and times.

    What training is compared with: a data sheet's peak is reached by no product, and a CPU's sheet has none. Takes
    about half a second, once per process.
    """
    sizes = (512, 1024, 2048) if device == "cpu" else (4096, 8192)
    return max(_product_rate(n, device, dtype, seconds=0.15) for n in sizes)


def _product_rate(n: int, device: str, dtype: torch.dtype, seconds: float) -> float:
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)  # the first one sets up
    best = float("inf")
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        best = min(best, _seconds_of_product(a, b, out))
    return 2 * n**3 / best


def _seconds_of_product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, times: int = 10) -> float:
    if a.device.type == "cpu":
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(times):  # one at a time would measure the launch
        torch.mm(a, b, out=out)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000 / times


def utilisation_figures(
    model: Transformer, settings: TrainSettings, tokens_per_second: float, n_devices: int = 1
) -> list[Figure]:
    """Model FLOP utilisation of training at this speed, that of all devices together.

    model_flop_utilisation = tokens_per_second · flops_per_token(seq_len) / (n_devices · matmul_rate)

    The numerator is what the model's mathematics needs (`Transformer.flops_per_token`: matrices and causal
    attention, forward and backward): neither recomputation nor the optimiser nor what is masked counts (PaLM, arXiv
    2204.02311, appendix B). The denominator is measured on this very device, in the precision of the forward pass.
    Of a card whose data sheet is known, `data_sheet_utilisation` divides by the sheet's bf16 peak instead, as others
    report it, and is lower.
    """
    device = choose_device(settings)
    rate = matmul_rate(device, torch.bfloat16 if uses_bf16(settings, device) else torch.float32)
    achieved = tokens_per_second * model.flops_per_token(settings.seq_len) / n_devices
    figures = [Figure("matmul_rate", rate, "FLOP/s"), Figure("model_flop_utilisation", achieved / rate, "share")]
    known = known_device(torch.cuda.get_device_name()) if device == "cuda" else None
    if known:
        figures.append(Figure("data_sheet_utilisation", achieved / known.bf16_flops, "share"))
    return figures
