import pytest
import torch

from crawl2chat.stages.files import StageError
from crawl2chat.train.data import Batch
from crawl2chat.train.loss import add_gradients
from crawl2chat.train.micro_batch import MicroBatch, explain_out_of_memory, ran_out_of_memory
from crawl2chat.train.settings import TrainSettings

ROWS, SEQ_LEN, CLASSES = 12, 8, 5


def settings(**values) -> TrainSettings:
    return TrainSettings(seq_len=SEQ_LEN, batch_tokens=ROWS * SEQ_LEN, **values)


class Learner:
    """A loss that takes no more than so many rows at a time, as a small memory does, and fails on its way."""

    def __init__(self, fits: int, error: Exception) -> None:
        self.weight = torch.nn.Parameter(torch.full((CLASSES,), 0.1))
        self.fits, self.error, self.seen = fits, error, []

    def loss_of(self, inputs_bt, targets_bt, weights_bt):
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
        return micro_batch.fitting(ROWS, lambda rows: add_gradients(self.loss_of, batch, rows, "cpu"), self.discard)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError("Unable to allocate 2.00 GiB for an array"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_largest_micro_batch_that_fits_is_found_and_the_step_is_that_of_the_whole_batch(error, capsys):
    whole, small = Learner(ROWS, error), Learner(4, error)
    expected = whole.gradients(MicroBatch(settings(), "cuda", "pretrain"))
    micro_batch = MicroBatch(settings(), "cuda", "pretrain")
    assert small.gradients(micro_batch) == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(small.weight.grad, whole.weight.grad)
    assert whole.seen == [12]
    assert small.seen == [12, 6, 3, 3, 3, 3]
    said = capsys.readouterr().err
    assert "pretrain: memory ran out; going on with 24 tokens a forward pass, 96 a step as before" in said
    small.gradients(micro_batch)
    assert small.seen[6:] == [3, 3, 3, 3]  # what is found stays


def test_an_error_that_is_not_about_memory_is_not_tried_again():
    learner = Learner(4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        learner.gradients(MicroBatch(settings(), "cuda", "pretrain"))
    assert learner.seen == [12]


def test_a_size_that_was_set_is_kept_and_the_error_says_the_next_smaller_one():
    micro_batch = MicroBatch(settings(micro_batch_tokens=48), "cuda", "pretrain")
    with (
        pytest.raises(
            StageError, match=r"out of memory; set pretrain\.micro_batch_tokens = 24 \(now 48\); a step keeps its"
        ),
        explain_out_of_memory("pretrain", micro_batch.advice),
    ):
        Learner(4, ERRORS[0]).gradients(micro_batch)


def test_one_of_several_ranks_does_not_try_again_alone_and_says_what_to_set_for_its_share():
    micro_batch = MicroBatch(settings(), "cuda", "pretrain", alone=False)
    learner = Learner(4, ERRORS[0])
    with (
        pytest.raises(StageError, match=r"set pretrain\.micro_batch_tokens = 24 \(now 48\)"),
        explain_out_of_memory("pretrain", micro_batch.advice),
    ):
        micro_batch.fitting(ROWS // 2, lambda rows: learner.loss_of(*[torch.zeros(rows, SEQ_LEN)] * 3), learner.discard)
    assert learner.seen == [6]


def test_when_one_sequence_is_too_much_the_error_names_the_sequence_and_the_model():
    micro_batch = MicroBatch(settings(), "cuda", "sft")
    with (
        pytest.raises(StageError, match=r"sft: out of memory; one sequence of 8 tokens .* lower sft\.seq_len or"),
        explain_out_of_memory("sft", micro_batch.advice),
    ):
        Learner(0, ERRORS[0]).gradients(micro_batch)


def test_the_size_found_divides_the_batch_and_what_is_set_is_never_exceeded():
    for tokens in range(SEQ_LEN, ROWS * SEQ_LEN + 1):
        rows = MicroBatch(settings(micro_batch_tokens=tokens), "cpu", "pretrain").rows(ROWS)
        assert ROWS % rows == 0
        assert rows * SEQ_LEN <= tokens


def test_a_cpu_starts_with_the_size_that_was_fastest_there():
    large = TrainSettings(seq_len=256, batch_tokens=65_536)
    assert MicroBatch(large, "cpu", "pretrain").rows(256) * 256 == 2048
    assert MicroBatch(large, "cuda", "pretrain").rows(256) * 256 == 65_536


def test_torchs_own_words_for_a_full_memory_are_recognised():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 48)
    assert ran_out_of_memory(raised.value)
    assert not ran_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
