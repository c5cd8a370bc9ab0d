import pytest
import torch
from models import SHAPES, random_model

from crawl2chat.evals import scoring
from crawl2chat.evals.scoring import Score, Span, score
from crawl2chat.model.ragged import common_prefix


def alone(model, span):
    """−ln p of each scored token, by a forward pass of this one sequence."""
    with torch.no_grad():
        log_p = model(torch.tensor([span.ids]))[0].log_softmax(dim=-1)
    nats = [-log_p[i - 1, span.ids[i]].item() for i in range(span.start, len(span.ids))]
    greedy = all(log_p[i - 1].argmax().item() == span.ids[i] for i in range(span.start, len(span.ids)))
    return sum(nats), len(nats), greedy


@pytest.fixture(params=SHAPES)
def model(request):
    return random_model(request.param)


def groups(model):
    draw = torch.Generator().manual_seed(1)

    def ids(n):
        return torch.randint(0, 97, (n,), generator=draw).tolist()

    long, short = ids(30), ids(5)
    with torch.no_grad():
        best = model(torch.tensor([long]))[0, -1].argmax().item()
    return [
        [Span(long + ids(n), 30) for n in (1, 4, 2)],  # choices behind a long beginning, one of a single token
        [Span([*long, best], 30), Span([*long, (best + 1) % 97], 30)],  # and all of them of a single token
        [Span(short + ids(9), 5), Span(short + ids(12), 5)],  # a beginning too short to be shared
        [Span(long[:20] + ids(2) + short, 22), Span(long[:20] + ids(3) + short, 23)],  # a common end
        [Span(ids(17), 1)],
        [Span(ids(2), 1)],
        [Span(long + ids(3), 25), Span(long + ids(3), 25)],  # scored from within the beginning on
    ]


def test_spans_that_share_a_beginning_get_the_scores_that_they_get_alone(model):
    asked = groups(model)
    found = score(model, asked)
    assert [len(group) for group in found] == [len(group) for group in asked]
    for spans, scores in zip(asked, found, strict=True):
        for span, got in zip(spans, scores, strict=True):
            nats, tokens, greedy = alone(model, span)
            assert got.nats == pytest.approx(nats, abs=2e-4)
            assert (got.tokens, got.greedy) == (tokens, greedy)
            assert got.mean == pytest.approx(nats / tokens, abs=2e-4)
    assert found[1][0].greedy
    assert not found[1][1].greedy


def test_batches_and_pieces_of_logits_change_no_score(model, monkeypatch):
    together = score(model, groups(model))
    monkeypatch.setitem(scoring.BATCH_TOKENS, "cpu", 1)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 2 * 97)
    for some, others in zip(together, score(model, groups(model)), strict=True):
        for a, b in zip(some, others, strict=True):
            assert a.nats == pytest.approx(b.nats, abs=2e-4)
            assert (a.tokens, a.greedy) == (b.tokens, b.greedy)


def test_what_choices_begin_with_is_read_once(monkeypatch):
    model = random_model("tied")
    read = []
    head = model.logits
    monkeypatch.setattr(model, "logits", lambda x: (read.append(len(x)), head(x))[1])
    rows = scoring._rows(0, [Span([*range(40), letter], 40) for letter in (50, 51, 52, 53)])
    assert [len(row.ids) for row in rows] == [40]
    score(model, [[Span([*range(40), letter], 40) for letter in (50, 51, 52, 53)]])
    assert read == [1]  # logits at a single place


def test_all_spans_are_counted_as_they_are_scored():
    model = random_model("tied")
    counts = []
    score(model, groups(model), counts.append)
    assert sum(counts) == sum(map(len, groups(model)))


def test_the_common_prefix_is_that_of_all():
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5], [1, 2]]) == 2
    assert common_prefix([[1, 2, 3], [1, 9, 3], [1, 2, 3]]) == 1
    assert common_prefix([[1], [2]]) == 0
    assert common_prefix([[3, 4]]) == 2


def test_of_nothing_the_score_is_nothing():
    model = random_model("tied")
    assert score(model, []) == []
    assert score(model, [[Span([1, 2, 3], 3)]]) == [[Score(0, 0, True)]]
