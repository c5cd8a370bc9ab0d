"""Reading over a cache gives the logits of reading at once, whatever else is in the batch, by torch and by numba."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import SHAPES, random_model

from crawl2chat.model import CachedTransformer, load_model, save_model
from crawl2chat.model.cached import attention_spans

LENGTH = 96


def some_ids(n, seed=1):
    return torch.randint(97, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(params=[False, True], ids=["torch", "numba"], scope="module")
def compiled(request):
    if request.param:
        pytest.importorskip("numba")
    return request.param


def read_alone(model, ids, rows=8, **form):
    """The logits behind the last token, of a prefilled prompt and then a decoded token."""
    cached = CachedTransformer(model, rows, LENGTH, **form)
    if len(ids) > 1:
        cached.prefill([0], [0], [ids[:-1]])
    return cached.decode([(ids[-1], len(ids) - 1)])[0]


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    return random_model(request.param)


def test_read_in_pieces_the_logits_equal_transformers(model, compiled, tmp_path):
    transformers = pytest.importorskip("transformers")
    save_model(model, tmp_path, stop_ids=[1], pad_id=0)
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = [some_ids(60, 1), some_ids(60, 2)]
    cached = CachedTransformer(model, 4, LENGTH, compiled=compiled)
    features = [cached.prefill([2, 0], [0, 0], [ids[0][:33], ids[1][:7]])]
    features.append(cached.prefill([0], [7], [ids[1][7:33]]))
    first = [cached.head(features[0][0, :33]), cached.head(torch.cat([features[0][1, :7], features[1][0, :26]]))]
    later = [cached.decode([(ids[1][i], i), None, (ids[0][i], i)])[[2, 0]] for i in range(33, 60)]
    ours = torch.stack([torch.cat([first[k], torch.stack([step[k] for step in later])]) for k in (0, 1)])
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(torch.tensor(ids)).logits, atol=1e-4, rtol=1e-4)


def test_a_single_row_gives_the_logits_of_many(model, compiled):
    ids = some_ids(20)
    alone, among = (read_alone(model, ids, rows, compiled=compiled) for rows in (1, 8))
    torch.testing.assert_close(alone, among, atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, LENGTH - 1), min_size=1, max_size=20), st.data())
def test_a_token_has_the_same_logits_in_any_batch_to_the_last_bit(compiled, lengths, data):
    model = random_model("grouped heads")
    form = {
        "compiled": compiled,
        "weights": data.draw(st.sampled_from([None, "bfloat16", "int8"])) if compiled else None,
    }
    row = data.draw(st.integers(0, len(lengths) - 1))
    prompts = [some_ids(n, seed) for seed, n in enumerate(lengths)]
    cached = CachedTransformer(model, len(lengths) + 1, LENGTH, **form)
    longer = [i for i, ids in enumerate(prompts) if len(ids) > 1]
    if longer:
        cached.prefill(longer, [0] * len(longer), [prompts[i][:-1] for i in longer])
    together = cached.decode([(ids[-1], len(ids) - 1) for ids in prompts])[row]
    assert torch.equal(together, read_alone(model, prompts[row], **form))


def test_what_an_earlier_sequence_left_in_a_row_is_not_seen(compiled):
    model = random_model("tied")
    cached = CachedTransformer(model, 4, LENGTH, compiled=compiled)
    cached.prefill([0], [0], [some_ids(90, 5)])
    ids = some_ids(12)
    cached.prefill([0], [0], [ids[:-1]])
    assert torch.equal(cached.decode([(ids[-1], 11)])[0], read_alone(model, ids, compiled=compiled))


def test_a_copied_beginning_is_as_good_as_one_that_was_read(compiled):
    model = random_model("tied")
    cached = CachedTransformer(model, 4, LENGTH, compiled=compiled)
    ids = some_ids(40)
    cached.prefill([3], [0], [ids[:30]])
    cached.cache.copy(3, 1, 30)
    cached.prefill([1], [30], [ids[30:-1]])
    torch.testing.assert_close(cached.decode([None, (ids[-1], 39)])[1], read_alone(model, ids), atol=1e-4, rtol=1e-4)


def test_after_training_refresh_reads_the_new_weights(compiled):
    model = random_model("tied")
    cached = CachedTransformer(model, 4, LENGTH, compiled=compiled)
    assert not cached.refresh()
    before = cached.decode([(5, 0)])[0].clone()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.add_(0.1)
    assert cached.refresh()
    after = cached.decode([(5, 0)])[0]
    assert not torch.allclose(before, after)
    with torch.no_grad():
        torch.testing.assert_close(after, model(torch.tensor([[5]]))[0, 0], atol=1e-4, rtol=1e-4)


def test_bf16_is_near_the_transformer_in_bf16(tmp_path):
    save_model(random_model("untied"), tmp_path, stop_ids=[1], pad_id=0)
    model = load_model(tmp_path, dtype=torch.bfloat16)
    ids = some_ids(30)
    with torch.no_grad():
        whole = model(torch.tensor([ids]))[0, -1].float()
    ours = read_alone(model, ids).float()
    assert (ours - whole).norm() < 0.03 * whole.norm()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_every_row_is_attended_over_all_its_keys_by_its_last_span(keys):
    keys = [16 * n for n in keys]
    (everyone, limit), *longer = attention_spans(keys)
    assert everyone == slice(0, len(keys))
    reached = dict.fromkeys(range(len(keys)), limit) | {rows.start: n for rows, n in longer}
    assert all(reached[row] >= n for row, n in enumerate(keys))


def test_one_long_row_does_not_make_all_others_long():
    spans = attention_spans([64] * 60 + [4096])
    assert spans == [(slice(0, 61), 64), (slice(60, 61), 4096)]
