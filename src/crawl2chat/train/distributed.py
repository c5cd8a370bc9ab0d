"""Several devices train one model: a replica or a part of it on each, and what they exchange.

A rank is one process with one device. All ranks take the same steps; where the docstrings say "all ranks", each must
make the call or the others wait.
"""

import contextlib
import copy
import io
import itertools
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from crawl2chat.model.head_loss import ChunkLoss
from crawl2chat.model.transformer import Block, Decoder, Transformer
from crawl2chat.parallel import torchrun as processes

BYTES_PER_PARAMETER = 16  # the weight, its gradient and two of the optimiser's, in fp32
REPLICA_SHARE = 0.3  # of a GPU's memory that those may take if each is to hold all of them; the rest is activations
SILENCE = timedelta(minutes=30)  # without an answer from a rank, after which it counts as lost

_groups = itertools.count()  # each group of processes finds its members under a name of its own

T = TypeVar("T")
Stack = Callable[[Tensor], Tensor]  # of matrices (N, I, J), each for itself → the same shape


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model together; `Ranks()` is the only one."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, values: Sequence[float]) -> Tensor:
        """Every rank's values, (ranks, values) in float64, on all ranks; through host memory, past the GPUs."""
        mine = torch.tensor(values, dtype=torch.float64)
        if self.size == 1:
            return mine[None]
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyones, mine)
        return torch.stack(everyones)

    def gather_objects(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks, on all ranks. Values are pickled."""
        if self.size == 1:
            return [value]
        everyones: list[Any] = [None] * self.size
        dist.all_gather_object(everyones, value)
        return everyones

    def from_first(self, value: T) -> T:
        """The first rank's value, on all ranks; what the others give is ignored. Pickled, except for tensors.

        Those, such as a model's weights, arrive one by one in host memory, and equal ones are one.
        """
        if self.size == 1:
            return value
        pickler = _WithoutTensors(buffer := io.BytesIO())
        if self.first:
            pickler.dump(value)
        message: list[Any] = [buffer.getvalue(), [(t.shape, t.dtype, t.requires_grad) for t in pickler.tensors]]
        dist.broadcast_object_list(message)
        if self.first:
            for tensor in pickler.tensors:
                _broadcast(tensor.detach().cpu().contiguous())
            return value
        content, forms = message
        tensors = []
        for shape, dtype, requires_grad in forms:
            _broadcast(tensor := torch.empty(shape, dtype=dtype))
            tensors.append(tensor.requires_grad_(requires_grad))
        return cast(T, _WithTensors(io.BytesIO(content), tensors).load())

    def meet(self) -> None:
        """Wait for all ranks."""
        self.gather([0.0])

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Only the first rank has work in the block; the others wait at its end, however long it takes."""
        if self.size == 1:
            yield
            return
        with processes.first_rank_first():
            yield

    def rows(self, n: int, rank: int | None = None) -> slice:
        """The rows of n that a rank (this one) holds: as torch.chunk and FSDP cut, so the last may have fewer."""
        most = -(-n // self.size)
        rank = self.rank if rank is None else rank
        return slice(min(n, rank * most), min(n, (rank + 1) * most))


SINGLE_PROCESS = Ranks()


class _WithoutTensors(pickle.Pickler):
    """Leaves tensors out of what is pickled, and keeps them in `tensors`, each once."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []
        self._places: dict[int, int] = {}

    def persistent_id(self, value: object) -> tuple[int, bool] | None:
        if not isinstance(value, Tensor):
            return None
        if id(value) not in self._places:
            self._places[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self._places[id(value)], isinstance(value, nn.Parameter)


class _WithTensors(pickle.Unpickler):
    """Puts the tensors back that `_WithoutTensors` left out."""

    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._tensors: list[Tensor] = tensors

    def persistent_load(self, place: tuple[int, bool]) -> Tensor:
        number, is_parameter = place
        if is_parameter and not isinstance(self._tensors[number], nn.Parameter):
            tensor = self._tensors[number]
            self._tensors[number] = nn.Parameter(tensor.detach(), tensor.requires_grad)
        return self._tensors[number]


def _broadcast(tensor: Tensor) -> None:
    """From the first rank to all, in place, as bytes: libraries don't have all types of numbers."""
    if tensor.numel():
        dist.broadcast(tensor.detach().view(-1).view(torch.uint8), src=0)


@contextlib.contextmanager
def process_group(device: str) -> Iterator[Ranks]:
    """All processes that torchrun started, at the same block; without torchrun, this one alone.

    Each takes the GPU of its LOCAL_RANK where the device is cuda. Raises StageError where there is no such GPU.
    """
    if processes.world_size() == 1:
        yield SINGLE_PROCESS
        return
    backend = "gloo"
    if device == "cuda":
        from crawl2chat.stages.files import StageError

        if processes.local_rank() >= torch.cuda.device_count():
            raise StageError(
                f"process {processes.local_rank()} of this machine has no GPU of its own: there are "
                f"{torch.cuda.device_count()}; start as many with --nproc-per-node"
            )
        torch.cuda.set_device(processes.local_rank())
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend,
        store=dist.PrefixStore(  # type: ignore[attr-defined]
            f"group/{next(_groups)}", processes.store()
        ),
        rank=processes.rank(),
        world_size=processes.world_size(),
        timeout=SILENCE,
    )
    yield Ranks(processes.rank(), processes.world_size())
    dist.destroy_process_group()  # but after an error, as it might wait for a rank that is gone


def choose_parallel(
    asked: Literal["auto", "ddp", "fsdp"], model: nn.Module, ranks: Ranks, device: str
) -> Literal["alone", "ddp", "fsdp"]:
    """Whole replicas while they and their optimiser fit well into a GPU, since that takes the least communication."""
    if ranks.size == 1:
        return "alone"
    if asked != "auto":
        return asked
    if device != "cuda":
        return "ddp"
    memory = torch.cuda.get_device_properties().total_memory
    n_parameters = sum(p.numel() for p in model.parameters())
    return "fsdp" if n_parameters * BYTES_PER_PARAMETER > REPLICA_SHARE * memory else "ddp"


class ParallelModel:
    """A module as one rank trains it: on its device, in its precision, compiled, and wrapped by DDP or FSDP.

    `module` holds the parameters that the optimiser moves: those given, or with fsdp this rank's rows of each.
    """

    def __init__(
        self,
        given: nn.Module,
        ranks: Ranks = SINGLE_PROCESS,
        parallel: Literal["auto", "ddp", "fsdp"] = "auto",
        *,
        device: str,
        bf16: bool = False,
        compiled: bool = False,
        one_shape: bool = True,
    ) -> None:
        """one_shape: whether all rows have equally many tokens, for which to compile.

        Moves the module to the device, but with fsdp: then a copy is cut up, and `whole` brings it up to date."""
        self.device, self.bf16, self.compiled = device, bf16, compiled
        self._given, self._ranks = given, ranks
        chosen = choose_parallel(parallel, given, ranks, device)
        self.module = copy.deepcopy(given) if chosen == "fsdp" else given.to(device)
        self.module.train()
        if compiled:
            compile_parts(self.module, one_shape)
        self._wrapped = self.module
        if chosen == "fsdp":
            _shard(self.module, ranks, device, bf16)
            if not ranks.first:
                given.to("meta")  # of which only the first rank makes use
        if chosen == "ddp":
            self._wrapped = nn.parallel.DistributedDataParallel(
                self.module,
                device_ids=[torch.cuda.current_device()] if device == "cuda" else None,
                gradient_as_bucket_view=True,
            )

    def __call__(self, *inputs: Tensor, **options: Tensor) -> Tensor:
        """The module's forward pass of this rank's rows; all ranks."""
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16):
            return cast(Tensor, self._wrapped(*inputs, **options))

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.module.named_parameters()

    def micro_batch(self, last: bool) -> AbstractContextManager[Any]:
        """Where a micro-batch's forward and backward pass belong: only after the last are gradients exchanged.

        They come out as the mean over the ranks.
        """
        if isinstance(self._wrapped, nn.parallel.DistributedDataParallel) and not last:
            return cast(AbstractContextManager[Any], self._wrapped.no_sync())
        if _is_sharded(self._wrapped):
            self._wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
            self._wrapped.set_is_last_backward(last)  # type: ignore[operator]
        return nullcontext()

    def clip_gradients(self, max_norm: float) -> float:
        """Scale the gradients of the whole model down to this norm; returns the norm they had. All ranks."""
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), max_norm)
        return full(norm).item()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """In the block the module that was given is complete, on the first rank, and runs uncompiled. All ranks.

        With fsdp that one is in host memory and visits the first rank's device.
        """
        eager = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
        if not _is_sharded(self.module):
            self.module.eval()
            with eager:  # measurements have other shapes, each of which would be compiled
                yield
            self.module.train()
            return
        with torch.no_grad():
            given = dict(self._given.named_parameters())
            for name, mine in self.module.named_parameters():
                tensor = full(mine)
                if self._ranks.first:
                    given[name].copy_(tensor)
        if self._ranks.first:
            self._given.to(self.device).eval()
        with eager:
            yield
        if self._ranks.first:
            self._given.to("cpu")


def compile_parts(model: nn.Module, one_shape: bool) -> None:
    """Compile each block, the last norm and the loss of a chunk of logits; for one shape, or for changing ones.

    Blocks are alike, and so are chunks: compiled one by one they take a quarter of the whole's time to compile, and
    step as fast.
    """
    torch.compiler.reset()  # what earlier stages compiled, for other shapes
    dynamic = False if one_shape else None
    for part in model.modules():
        if isinstance(part, Decoder):
            for module in (*part.layers, part.norm):
                module.compile(dynamic=dynamic)
        elif isinstance(part, ChunkLoss):
            part.compile(dynamic=dynamic)
        elif isinstance(part, Transformer):
            part.compiled = True


def _is_sharded(module: nn.Module) -> bool:
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def _shard(model: nn.Module, ranks: Ranks, device: str, bf16: bool) -> None:
    """FSDP2: each rank holds some rows of every parameter, and a block's are gathered when it is their turn."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # inputs stay as they are: rotations and the losses' weights are meant to be fp32
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if bf16 and device == "cuda":  # half the bytes to gather; autocast would make bf16 of them anyway
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(device, (ranks.size,))
    for block in [part for part in model.modules() if isinstance(part, Block)]:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    # embedding, last norm and head stay fp32, so that the residual stream does, as on one device
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds: a view of the rows of a sharded one, or all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """A sharded tensor with the rows, or the sums, of all ranks. All ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def each_matrix(function: Stack, parts: Sequence[Tensor], whole: Tensor, ranks: Ranks) -> list[Tensor]:
    """`function` of each of several matrices shaped and sharded as `whole`, each rank working out a share. All ranks.

    parts: what this rank holds of each, all of it or some rows. Rows go to the rank whose turn the matrix is and
    come back, so that none ever holds all matrices (Moonlight, arXiv 2502.16982, section 2.3, with a worker for each);
    of replicas each rank has what it needs, and only results are exchanged (as in nanochat's DistMuon).
    Returns the same parts of the results.
    """
    if ranks.size == 1:
        return list(function(torch.stack(list(parts))).unbind(0))
    each = -(-len(parts) // ranks.size)
    held = torch.stack([*parts, *[torch.zeros_like(parts[0])] * (each * ranks.size - len(parts))])
    result = torch.empty_like(held)
    if not isinstance(whole, DTensor):
        mine = function(held[ranks.rank * each : (ranks.rank + 1) * each])
        dist.all_gather(list(torch.split(result, each)), mine.contiguous())
        return list(result[: len(parts)].unbind(0))
    n_rows, columns = whole.shape
    rows = [len(range(n_rows)[ranks.rows(n_rows, rank)]) for rank in range(ranks.size)]
    sent = [each * len(parts[0]) * columns] * ranks.size
    received = [each * n * columns for n in rows]
    gathered = held.new_empty(sum(received))
    dist.all_to_all_single(gathered, held.flatten(), received, sent)
    by_rank = [part.view(each, n, columns) for part, n in zip(torch.split(gathered, received), rows, strict=True)]
    worked = function(torch.cat(by_rank, dim=1))
    returned = torch.cat([part.flatten() for part in torch.split(worked, rows, dim=1)])
    dist.all_to_all_single(result.view(-1), returned, sent, received)
    return list(result[: len(parts)].unbind(0))
