import math

import pytest
import torch

from crawl2chat.model.adapters import AdaptedTransformer, AdapterShape
from crawl2chat.rl.preferences.direct import (
    DirectPreference,
    Pair,
    all_logprobs,
    direct_loss,
    pair_fit,
    pairs_of,
    with_reference,
)
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Answer, Prompt, Ranking
from crawl2chat.train.loop import Learner, train

SETTINGS = PreferSettings(
    method="dpo", steps=6, pairs=4, matrix_lr=0.003, embedding_lr=0.002, replay_weight=0, checkpoint_every=2
)
PAIRS = [Pair([5, 6, 7 + i], ([20 + i, 21], [60, 61 + i, 62])) for i in range(8)]


def ranking(groups, ended=True):
    texts = [text for group in groups for text in group]
    places = iter(range(len(texts)))
    order = tuple(tuple(next(places) for _ in group) for group in groups)
    return Ranking(1, Prompt("Q?"), tuple(Answer(text, ended, "m") for text in texts), "anna", None, order)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("dpo", -math.log(1 / (1 + math.exp(-0.5 * (2.0 + 3.0))))),
        ("dpo_norm", -math.log(1 / (1 + math.exp(-0.5 * (2.0 / 4 + 3.0 / 2))))),
        ("ipo", (2.0 / 4 + 3.0 / 2 - 1.0) ** 2),
    ],
)
def test_each_loss_is_its_papers(loss, expected):
    """log π/π₀ is 2 of the chosen answer's 4 tokens and −3 of the rejected one's 2; β = 0.5."""
    found = direct_loss(torch.tensor([2.0]), torch.tensor([-3.0]), torch.tensor([[4, 2]]), loss, 0.5)
    assert found.tolist() == pytest.approx([expected])


def test_at_the_start_the_gradient_is_that_of_half_beta_times_the_difference(model):
    """−log σ(β·m) has the slope −β/2 at m = 0: of one pair, that of −β/2 · (log π(chosen) − log π(rejected))."""
    (pair,) = with_reference(model, PAIRS[:1], SETTINGS)
    ids = [pair.prompt + answer for answer in pair.answers]
    log_p = [model(torch.tensor([row]))[0].log_softmax(-1) for row in ids]
    logprobs = [log_p_tv[range(2, len(row) - 1), row[3:]].sum() for log_p_tv, row in zip(log_p, ids, strict=True)]
    model.zero_grad()
    (-SETTINGS.beta / 2 * (logprobs[0] - logprobs[1])).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    assert [value.item() for value in logprobs] == pytest.approx(pair.reference, abs=1e-4)
    model.zero_grad()
    accumulate(model, [pair])
    assert all(torch.allclose(p.grad, e, atol=1e-6) for p, e in zip(model.parameters(), expected, strict=True))


def accumulate(model, pairs, tokens=0):
    settings = SETTINGS.model_copy(update={"pairs": len(pairs), "micro_batch_tokens": tokens})
    objective = DirectPreference(model, pairs, settings, "dpo")
    return objective.accumulate_gradients(0, Learner(objective, 1, settings, "prefer"))


def test_any_split_into_micro_batches_has_the_same_loss_and_gradients(model):
    pairs = with_reference(model, PAIRS, SETTINGS)
    found = []
    for tokens in (10_000, 12):
        model.zero_grad()
        found.append((accumulate(model, pairs, tokens), [p.grad.clone() for p in model.parameters()]))
    assert found[0][0]["loss"] == pytest.approx(found[1][0]["loss"], rel=1e-5) == pytest.approx(math.log(2), rel=1e-4)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[0][1], found[1][1], strict=True))


@pytest.mark.parametrize("loss", ["dpo", "ipo", "dpo_norm"])
@pytest.mark.parametrize("adapted", [False, True])
def test_training_puts_the_pairs_in_order_and_only_an_adapter_moves_if_there_is_one(model, tmp_path, loss, adapted):
    pairs = with_reference(model, PAIRS, SETTINGS)
    assert pair_fit(model, pairs, 0.1).accuracy == 0.5
    before = [p.clone() for p in model.parameters()]
    policy = AdaptedTransformer.on(model, AdapterShape(4, 2.0)).initialise(0) if adapted else model
    objective = DirectPreference(policy, pairs, SETTINGS, loss)
    train(objective, SETTINGS.steps, SETTINGS, tmp_path, label="prefer", adapter_lr=0.02)
    fit = pair_fit(policy, pairs, 0.1)
    assert fit.accuracy == 1
    assert fit.loss < math.log(2)
    assert adapted == all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_pairs_are_of_every_two_answers_with_an_order_and_fit_the_context(tokenizer):
    pairs = pairs_of([ranking([["a"], ["b", "c"]])], tokenizer, 64)
    assert [tuple(tokenizer.decode(ids[:-1]) for ids in pair.answers) for pair in pairs] == [("a", "b"), ("a", "c")]
    assert all(ids[-1] == tokenizer.end_of_turn for pair in pairs for ids in pair.answers)
    (cut,) = pairs_of([ranking([["a"], ["b"]], ended=False)], tokenizer, 64)
    assert tokenizer.end_of_turn not in cut.answers[0]
    assert pairs_of([ranking([["a"], ["b " * 80]])], tokenizer, 64) == []


def test_log_probabilities_dont_depend_on_what_is_read_along(model):
    together, alone = all_logprobs(model, PAIRS), [all_logprobs(model, [pair])[0] for pair in PAIRS]
    assert torch.allclose(torch.tensor(together), torch.tensor(alone), atol=1e-4)
