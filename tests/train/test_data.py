import numpy as np
import pytest
import torch

from crawl2chat.tokens.shards import write_tokens
from crawl2chat.train.data import DocumentBatches, RowBatches

TEXTS = [f"Document {i} tells of {i * 7} mills and nothing else. " * (1 + i % 4) for i in range(40)]


@pytest.fixture
def documents(tokenizer, tmp_path):
    return write_tokens(TEXTS, tokenizer, tmp_path / "tokens")


def test_documents_come_back_with_their_end_of_text_in_front(documents, tokenizer):
    assert len(documents) == len(TEXTS)
    for i, text in enumerate(TEXTS):
        ids = documents[i].tolist()
        assert ids[0] == tokenizer.end_of_text
        assert tokenizer.decode(ids[1:]) == text
    assert documents.n_bytes.tolist() == [len(text.encode()) for text in TEXTS]


def test_an_epoch_holds_each_token_once_and_the_next_epoch_has_another_order(documents):
    batches = DocumentBatches(documents, seq_len=16, rows=1, seed=3)
    epoch = [batches(i).targets_bt[0] for i in range(batches.rows_per_epoch)]
    counts = torch.bincount(torch.cat(epoch), minlength=500)
    expected = np.bincount(documents.ids, minlength=500)
    missing = expected.sum() - batches.rows_per_epoch * 16  # the first token and an incomplete last row
    assert 1 <= missing <= 16
    assert np.abs(expected - counts.numpy()).sum() == missing
    following = [batches(batches.rows_per_epoch + i).targets_bt[0] for i in range(batches.rows_per_epoch)]
    assert any(not torch.equal(a, b) for a, b in zip(epoch, following, strict=True))


def test_targets_are_the_inputs_one_token_on(documents):
    batch = DocumentBatches(documents, seq_len=16, rows=4, seed=0)(2)
    assert torch.equal(batch.inputs_bt[:, 1:], batch.targets_bt[:, :-1])


def test_a_batch_is_a_function_of_the_step_alone(documents):
    one, other = (DocumentBatches(documents, seq_len=16, rows=5, seed=1) for _ in range(2))
    for step in (40, 3, 17):  # another order, across epochs
        other(step)
    assert torch.equal(one(17).inputs_bt, other(17).inputs_bt)


def test_rows_do_not_depend_on_the_batch_size(documents):
    small = DocumentBatches(documents, seq_len=16, rows=2, seed=1)
    large = DocumentBatches(documents, seq_len=16, rows=4, seed=1)
    assert torch.equal(torch.cat([small(6).inputs_bt, small(7).inputs_bt]), large(3).inputs_bt)


def test_too_few_tokens_are_an_error(documents):
    with pytest.raises(ValueError, match="don't fill one sequence of 1000000"):
        DocumentBatches(documents, seq_len=1_000_000, rows=1, seed=0)


def test_ready_rows_are_each_taken_once_an_epoch():
    ids = np.arange(30, dtype=np.int64).reshape(10, 3)
    batches = RowBatches(ids, np.ones_like(ids, dtype=np.float32), rows=5, seed=0)
    taken = torch.cat([batches(0).inputs_bt, batches(1).inputs_bt])
    assert sorted(taken[:, 0].tolist()) == ids[:, 0].tolist()
