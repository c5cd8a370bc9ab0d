import pytest
import torch
import torch.nn.functional as F

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.attention import attend, mask_within, positions_within
from crawl2chat.model.cpu_attention import BlockwiseCausal

DOCUMENTS_BT = torch.tensor([[0] * 5 + [1] * 1 + [2] * 7 + [-1] * 3, [0] * 16, [0] * 2 + [1] * 14])


@pytest.fixture
def model():
    transformer = Transformer(ModelConfig(97, 32, 64, 2, 4, 2, 16, max_position_embeddings=16))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.ndim == 1))
    return transformer


def stretches():
    """(row, begin, end) of every document."""
    for row, documents in enumerate(DOCUMENTS_BT.tolist()):
        for number in dict.fromkeys(documents):
            begin = documents.index(number)
            yield row, begin, begin + documents.count(number)


def loss_and_gradients(model, losses):
    model.zero_grad()
    loss = sum(losses)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


def test_positions_begin_anew_with_each_document():
    assert positions_within(DOCUMENTS_BT).tolist() == [
        [*range(5), 0, *range(7), *range(3)], [*range(16)], [*range(2), *range(14)],
    ]  # fmt: skip


def test_logits_and_gradients_are_those_of_each_document_alone(model):
    ids = torch.randint(97, (3, 17), generator=torch.Generator().manual_seed(1))
    logits = model(ids[:, :-1], documents_bt=DOCUMENTS_BT)
    alone = {(row, begin, end): model(ids[row : row + 1, begin:end]) for row, begin, end in stretches()}
    for (row, begin, end), theirs in alone.items():
        torch.testing.assert_close(logits[row : row + 1, begin:end], theirs, atol=1e-4, rtol=1e-4)

    together, gradients = loss_and_gradients(
        model, [F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")]
    )
    separate, expected = loss_and_gradients(
        model,
        [
            F.cross_entropy(theirs[0], ids[row, begin + 1 : end + 1], reduction="sum")
            for (row, begin, end), theirs in alone.items()
        ],
    )
    assert together == pytest.approx(separate, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=2e-3, rtol=1e-3, msg=name)


def test_without_the_documents_tokens_do_see_what_is_before_them(model):
    ids = torch.randint(97, (3, 16), generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(model(ids), model(ids, documents_bt=DOCUMENTS_BT), atol=1e-2)


def queries_keys_values():
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(3, 2, 16, 8, generator=generator, requires_grad=True) for _ in range(3)]


def test_attention_in_blocks_is_that_under_the_whole_mask_with_its_gradients():
    mask = mask_within(DOCUMENTS_BT, blocks=False)
    inputs = queries_keys_values()
    expected, found = attend(*inputs, mask), BlockwiseCausal.apply(*inputs, 5, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_flex_attention_is_that_under_the_whole_mask():
    inputs = [x.detach() for x in queries_keys_values()]  # torch has no backward pass of FlexAttention for CPUs
    expected, found = (attend(*inputs, mask_within(DOCUMENTS_BT, blocks=blocks)) for blocks in (False, True))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
