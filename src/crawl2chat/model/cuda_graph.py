"""A function recorded as a CUDA graph: replaying its launches takes one call, where each would take its own."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_recording = threading.Lock()


class CudaGraph:
    """A function of one tensor, recorded; its output is overwritten by the next call of any graph of the same pool.

    The function must give the same for the same input however often it is called: it also runs once before it is
    recorded. Tensors that it reads, such as weights, must stay where they are; what is in them may change.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], inputs: Tensor, pool: Any) -> None:
        """pool: memory that graphs share (`torch.cuda.graph_pool_handle()`); only one at a time may be replayed, and
        its output must be read before the next.
        """
        self.inputs = inputs
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries make their work space before anything is recorded
            function(self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # other threads, such as those of a server, may use the GPU meanwhile, but only one may record
        with _recording, torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.output = function(self.inputs)

    def __call__(self, inputs: Tensor) -> Tensor:
        self.inputs.copy_(inputs)
        self.graph.replay()
        return self.output
