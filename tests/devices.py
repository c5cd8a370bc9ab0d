"""Where a test runs: on a CPU, and on a GPU where there is one.

The tests of tests/cuda need no fixtures, whose packages a machine with a GPU may lack (`bench/gpu.py`).
"""

import pytest
import torch

from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS

N_GPUS = torch.cuda.device_count()
CUDA = pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not N_GPUS, reason="needs a GPU with CUDA")])
DEVICES = ["cpu", CUDA]


def bytes_tokenizer() -> Tokenizer:
    return Tokenizer({bytes([byte]): byte for byte in range(256)}, {n: 256 + i for i, n in enumerate(CONTROL_TOKENS)})
