import threading
import time

import numpy as np
import pytest
import torch

from crawl2chat.tokenizer.shards import write_tokens
from crawl2chat.train.data import AHEAD, DocumentBatches, RowBatches, prefetched

TEXTS = [f"Document {i} tells of {i * 7} mills and nothing else. " * (1 + i % 4) for i in range(40)]
PACKINGS = pytest.mark.parametrize("packing", ["best_fit", "concatenate"])


@pytest.fixture
def documents(tokenizer, tmp_path):
    return write_tokens(TEXTS, tokenizer, tmp_path / "tokens")


def assert_equal(one, other):
    for name in ("inputs_bt", "targets_bt", "weights_bt", "documents_bt"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_documents_come_back_with_their_end_of_text_in_front(documents, tokenizer):
    assert len(documents) == len(TEXTS)
    for i, text in enumerate(TEXTS):
        ids = documents[i].tolist()
        assert ids[0] == tokenizer.end_of_text
        assert tokenizer.decode(ids[1:]) == text
    assert documents.n_bytes.tolist() == [len(text.encode()) for text in TEXTS]


@PACKINGS
def test_every_token_is_an_input_once_an_epoch_and_the_next_epoch_has_another_order(documents, packing):
    batches = DocumentBatches(documents, seq_len=16, rows=1, seed=3, packing=packing)
    n = batches.rows_per_epoch
    epochs = [[batches(i) for i in range(e * n, (e + 1) * n)] for e in range(3)]
    for epoch in epochs:
        inputs = torch.cat([batch.inputs_bt[batch.weights_bt > 0] for batch in epoch])
        assert torch.equal(
            torch.bincount(inputs, minlength=500), torch.from_numpy(np.bincount(documents.ids, minlength=500))
        )
    assert any(not torch.equal(a.inputs_bt, b.inputs_bt) for a, b in zip(epochs[0], epochs[1], strict=True))


@PACKINGS
def test_the_target_is_the_next_token_of_the_document_and_end_of_text_behind_it(documents, tokenizer, packing):
    batches = DocumentBatches(documents, seq_len=16, rows=4, seed=0, packing=packing, attend="document")
    known = {
        tuple(ids[i : i + 2]) for d in range(len(documents)) for ids in [documents[d].tolist()] for i in range(len(ids))
    }
    known = {pair if len(pair) == 2 else (*pair, tokenizer.end_of_text) for pair in known}
    for step in range(5):
        batch = batches(step)
        real = batch.weights_bt > 0
        assert set(zip(batch.inputs_bt[real].tolist(), batch.targets_bt[real].tolist(), strict=True)) <= known
        assert (batch.inputs_bt[~real] == tokenizer.end_of_text).all()
        inside = real[:, 1:] & (batch.documents_bt[:, 1:] == batch.documents_bt[:, :-1])
        assert torch.equal(batch.inputs_bt[:, 1:][inside], batch.targets_bt[:, :-1][inside])


def test_a_batch_is_a_function_of_the_step_alone_also_where_epochs_meet(documents):
    def batches():
        return DocumentBatches(documents, seq_len=16, rows=5, seed=1, packing="best_fit", attend="document")

    whole = batches()
    steps = 3 * whole.rows_per_epoch // 5
    assert steps * 5 > 2 * whole.rows_per_epoch
    assert whole.rows_per_epoch % 5  # so that a batch straddles two epochs
    expected = [whole(step) for step in range(steps)]
    for begin in range(steps):  # as after a resume
        assert_equal(batches()(begin), expected[begin])


def test_rows_do_not_depend_on_the_batch_size(documents):
    small = DocumentBatches(documents, seq_len=16, rows=2, seed=1)
    large = DocumentBatches(documents, seq_len=16, rows=4, seed=1)
    assert torch.equal(torch.cat([small(6).inputs_bt, small(7).inputs_bt]), large(3).inputs_bt)


def test_no_documents_are_an_error(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="no documents to train on"):
        DocumentBatches(write_tokens([], tokenizer, tmp_path / "tokens"), seq_len=16, rows=1, seed=0)


def test_ready_rows_are_each_taken_once_an_epoch():
    ids = np.arange(30, dtype=np.int64).reshape(10, 3)
    batches = RowBatches(ids, np.ones_like(ids, dtype=np.float32), rows=5, seed=0)
    taken = torch.cat([batches(0).inputs_bt, batches(1).inputs_bt])
    assert sorted(taken[:, 0].tolist()) == ids[:, 0].tolist()


def test_batches_made_ahead_are_the_same_and_few(documents):
    alone = DocumentBatches(documents, seq_len=16, rows=5, seed=1, attend="document")
    made = []

    def noted(step):
        made.append((step, threading.current_thread() is threading.main_thread()))
        return alone(step)

    with prefetched(noted, 9) as batches:
        for step in range(3, 9):
            assert_equal(batches(step), alone(step))
            time.sleep(0.01)
            assert max(step for step, _ in made) <= step + AHEAD
    assert made == [(step, False) for step in range(3, 9)]  # each once, none behind the last step


def test_an_error_of_the_thread_reaches_the_caller_at_its_step_and_ends_it(documents):
    def broken(step):
        if step == 2:
            raise OSError("the disk is gone")
        return step

    before = threading.active_count()
    with prefetched(broken, 10) as batches:
        assert [batches(0), batches(1)] == [0, 1]
        with pytest.raises(OSError, match="the disk is gone"):
            batches(2)
    assert threading.active_count() == before


def test_a_trainer_that_fails_leaves_no_thread_behind():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), prefetched(lambda step: step, 10) as batches:
        batches(0) / 0
    assert threading.active_count() == before
