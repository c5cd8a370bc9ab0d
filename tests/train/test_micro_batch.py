from contextlib import nullcontext

import pytest
import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.train.data import Batch
from crawl2chat.train.distributed import Ranks
from crawl2chat.train.memory import (
    CPU_ACTIVATIONS,
    MicroBatch,
    activation_bytes,
    cpu_tokens,
    explain_out_of_memory,
    ran_out_of_memory,
    rows_within,
)
from crawl2chat.train.next_token import add_gradients
from crawl2chat.train.settings import TrainSettings

ROWS, SEQ_LEN, CLASSES = 12, 8, 5


def settings(**values) -> TrainSettings:
    return TrainSettings(seq_len=SEQ_LEN, batch_tokens=ROWS * SEQ_LEN, **values)


def micro_batch_of(device="cuda", label="pretrain", alone=True, **values) -> MicroBatch:
    return MicroBatch(settings(**values), device, label, of_step=ROWS * SEQ_LEN, alone=alone)


class Learner:
    """A loss that takes only a few rows at a time, as a small memory does, and fails on its way."""

    device, ranks = "cpu", Ranks()

    def __init__(self, fits: int, error: Exception) -> None:
        self.model = self
        self.weight = torch.nn.Parameter(torch.full((CLASSES,), 0.1))
        self.fits, self.error, self.seen = fits, error, []

    def micro_batch(self, last):
        return nullcontext()

    def __call__(self, inputs_bt, *, targets_bt, weights_bt):
        self.seen.append(len(inputs_bt))
        if len(inputs_bt) > self.fits:
            self.weight.sum().backward()  # what a failed attempt leaves must not count
            raise self.error
        return (self.weight[inputs_bt] * targets_bt * weights_bt).sum()

    def discard(self):
        self.weight.grad = None

    def gradients(self, micro_batch: MicroBatch) -> float:
        generator = torch.Generator().manual_seed(0)
        ids_bt = torch.randint(CLASSES, (ROWS, SEQ_LEN), generator=generator)
        batch = Batch(ids_bt, ids_bt.flip(1), torch.rand(ROWS, SEQ_LEN, generator=generator))
        weight = batch.weights_bt.sum().item()
        return micro_batch.fitting(
            lambda tokens: add_gradients(self, batch, tokens, weight), self.discard, rows=ROWS, row_tokens=SEQ_LEN
        )


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError("Unable to allocate 2.00 GiB for an array"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_largest_micro_batch_that_fits_is_found_and_the_step_is_that_of_the_whole_batch(error, capsys):
    whole, small = Learner(ROWS, error), Learner(4, error)
    expected = whole.gradients(micro_batch_of())
    micro_batch = micro_batch_of()
    assert small.gradients(micro_batch) == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(small.weight.grad, whole.weight.grad)
    assert whole.seen == [12]
    assert small.seen == [12, 6, 3, 3, 3, 3]
    said = capsys.readouterr().err
    assert "pretrain: memory ran out; going on with 24 tokens per forward pass, 96 per step as before" in said
    small.gradients(micro_batch)
    assert small.seen[6:] == [3, 3, 3, 3]  # what is found stays


def test_an_error_that_is_not_about_memory_is_not_tried_again():
    learner = Learner(4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        learner.gradients(micro_batch_of())
    assert learner.seen == [12]


def test_a_size_that_was_set_is_kept_and_the_error_says_the_next_smaller_one():
    micro_batch = micro_batch_of(micro_batch_tokens=48)
    with (
        pytest.raises(
            StageError, match=r"out of memory; set pretrain\.micro_batch_tokens = 24 \(now 48\); a step keeps its"
        ),
        explain_out_of_memory("pretrain", micro_batch.advice),
    ):
        Learner(4, ERRORS[0]).gradients(micro_batch)


def test_one_of_several_ranks_does_not_try_again_alone_and_says_what_to_set_for_its_share():
    micro_batch = micro_batch_of(alone=False)
    learner = Learner(4, ERRORS[0])
    batch = Batch(*[torch.zeros(ROWS // 2, SEQ_LEN, dtype=torch.long)] * 3)
    with (
        pytest.raises(StageError, match=r"set pretrain\.micro_batch_tokens = 24 \(now 48\)"),
        explain_out_of_memory("pretrain", micro_batch.advice),
    ):
        micro_batch.fitting(
            lambda tokens: add_gradients(learner, batch, tokens, 1.0),
            learner.discard,
            rows=ROWS // 2,
            row_tokens=SEQ_LEN,
        )
    assert learner.seen == [6]


def test_when_one_sequence_is_too_much_the_error_names_the_sequence_and_the_model():
    micro_batch = micro_batch_of(label="sft")
    with (
        pytest.raises(StageError, match=r"sft: out of memory; one sequence of 8 tokens .* lower sft\.seq_len or"),
        explain_out_of_memory("sft", micro_batch.advice),
    ):
        Learner(0, ERRORS[0]).gradients(micro_batch)


def test_the_size_found_divides_the_batch_and_what_is_set_is_never_exceeded():
    for tokens in range(SEQ_LEN, ROWS * SEQ_LEN + 1):
        rows = rows_within(micro_batch_of(micro_batch_tokens=tokens).tokens // SEQ_LEN, ROWS)
        assert ROWS % rows == 0
        assert rows * SEQ_LEN <= tokens


def test_a_cpu_starts_with_the_size_that_was_fastest_there():
    large = TrainSettings(seq_len=256, batch_tokens=65_536)
    assert MicroBatch(large, "cpu", "pretrain", of_step=large.batch_tokens).tokens == 2048
    assert MicroBatch(large, "cuda", "pretrain", of_step=large.batch_tokens).tokens == 65_536


def test_torchs_own_words_for_a_full_memory_are_recognised():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 48)
    assert ran_out_of_memory(raised.value)
    assert not ran_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_a_cpu_takes_fewer_tokens_of_a_large_model_at_once():
    small = Transformer(ModelConfig(64, 32, 64, 2, 4, 2, 16, max_position_embeddings=32))
    assert cpu_tokens(small) == 2048
    assert cpu_tokens(small, most=100) == 100
    with torch.device("meta"):
        large = Transformer(ModelConfig(64, 576, 1536, 30, 9, 3, 64, max_position_embeddings=8192))
    of_block = activation_bytes(large.config, "cpu", bf16=False, compiled=False)
    assert 0.9 * CPU_ACTIVATIONS < cpu_tokens(large) * 30 * of_block <= CPU_ACTIVATIONS
