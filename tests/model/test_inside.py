"""A pass that is looked into: the numbers of `Transformer`, and what changes do to them."""

import pytest
import torch
from models import SHAPES, random_model

from crawl2chat.model.inside import Change, Inside, flop_per_token, look_inside

TEXT = [5, 40, 7, 40, 7, 96, 0, 13, 5, 40]
OTHER = [9, 2, 2, 61, 33, 8, 90, 4, 17, 50]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(params=SHAPES)
def model(request):
    return random_model(request.param)


def logits_of(model, ids=TEXT):
    with torch.inference_mode():
        return model(torch.tensor([ids]))[0]


def test_the_stream_reproduces_the_models_logits(model):
    inside = look_inside(model, TEXT)
    torch.testing.assert_close(inside.logits(3), logits_of(model), **CLOSE)
    assert inside.logits(3, slice(4, 6)).shape == (2, 97)


def test_what_the_parts_write_adds_up_to_the_stream(model):
    inside = look_inside(model, TEXT)
    written = [t for i in range(3) for found in [inside.layer(i)] for t in (found.attended_tc, found.written_tc)]
    torch.testing.assert_close(inside.stream[0] + sum(written), inside.stream[3], **CLOSE)
    for i in range(3):
        found = inside.layer(i)
        torch.testing.assert_close(found.between_tc, inside.between[i])
        by_head = sum(inside.head_writes(i, found, head) for head in range(model.config.num_attention_heads))
        torch.testing.assert_close(by_head, found.attended_tc, **CLOSE)


def test_attention_is_causal_and_its_rows_add_up_to_1(model):
    for i in range(3):
        attention_htt = look_inside(model, TEXT).layer(i).attention_htt
        torch.testing.assert_close(attention_htt.sum(-1), torch.ones(attention_htt.shape[:2]), **CLOSE)
        assert not attention_htt.triu(1).any()


def test_a_block_holds_what_the_models_own_parts_compute(model):
    """Taken off the model by hooks, so that the second statement of the block can't drift from the first."""
    inside = look_inside(model, TEXT)
    found_in = [inside.layer(i) for i in range(3)]
    taken = {}
    for i, block in enumerate(model.model.layers):
        for name in ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp"):
            block.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, key=(i, name): taken.__setitem__(key, output[0])
            )
    logits_of(model)
    for i, (block, found) in enumerate(zip(model.model.layers, found_in, strict=True)):
        torch.testing.assert_close(found.normed_tc, taken[i, "input_layernorm"], **CLOSE)
        torch.testing.assert_close(found.attended_tc, taken[i, "self_attn"], **CLOSE)
        torch.testing.assert_close(found.mlp_normed_tc, taken[i, "post_attention_layernorm"], **CLOSE)
        torch.testing.assert_close(found.written_tc, taken[i, "mlp"], **CLOSE)
        rope = inside.cos_td[None, None], inside.sin_td[None, None]
        with torch.no_grad():
            q, k, v = block.self_attn.heads(found.normed_tc[None], rope)
        group = model.config.num_attention_heads // model.config.num_key_value_heads
        torch.testing.assert_close(found.q_htd, q[0], **CLOSE)
        torch.testing.assert_close(found.k_gtd.repeat_interleave(group, 0), k[0], **CLOSE)
        torch.testing.assert_close(found.v_gtd.repeat_interleave(group, 0), v[0], **CLOSE)


def test_a_head_reads_the_keys_and_values_of_its_group():
    model = random_model("grouped heads")
    found = look_inside(model, TEXT).layer(1)
    for head in range(8):
        key_head = head // 4
        scores_tt = found.q_htd[head] @ found.k_gtd[key_head].T / 4  # √16
        torch.testing.assert_close(scores_tt, found.scores_htt[head], **CLOSE)
        torch.testing.assert_close(found.attention_htt[head] @ found.v_gtd[key_head], found.mixed_htd[head], **CLOSE)


def test_the_last_lens_equals_the_logits(model):
    inside = look_inside(model, TEXT)
    expected = logits_of(model).softmax(-1)
    lens = inside.lens(3, 5)
    torch.testing.assert_close(lens.probabilities_tk, expected.topk(5).values, **CLOSE)
    torch.testing.assert_close(expected.gather(-1, lens.ids_tk), lens.probabilities_tk, **CLOSE)
    pinned_tn = (inside.logits_of(3, [7, 96]) - lens.log_total_t[:, None]).exp()
    torch.testing.assert_close(pinned_tn, expected[:, [7, 96]], **CLOSE)


def test_an_earlier_lens_is_the_head_on_that_layers_stream(model):
    inside = look_inside(model, TEXT)
    found = inside.layer(1)
    expected = model.logits(model.model.norm(found.entering_tc)).softmax(-1)
    torch.testing.assert_close(inside.lens(1, 3).probabilities_tk, expected.topk(3).values, **CLOSE)


def test_an_ablated_head_equals_the_model_without_its_columns(model):
    inside = look_inside(model, TEXT, [Change("head", 1, head=2)])
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[:, 32:48] = 0
    torch.testing.assert_close(inside.logits(3), logits_of(model), **CLOSE)


@pytest.mark.parametrize(
    ("part", "zeroed"), [("attention", ["self_attn.o_proj"]), ("mlp", ["mlp.down_proj"]),
                         ("block", ["self_attn.o_proj", "mlp.down_proj"])],
)  # fmt: skip
def test_an_ablated_part_equals_the_model_without_it(model, part, zeroed):
    inside = look_inside(model, TEXT, [Change(part, 1)])
    for name in zeroed:
        model.model.layers[1].get_submodule(name).weight.data.zero_()
    torch.testing.assert_close(inside.logits(3), logits_of(model), **CLOSE)


def test_an_ablated_position_leaves_the_ones_before_it_alone(model):
    inside = look_inside(model, TEXT, [Change("mlp", 0, at=6)])
    plain = look_inside(model, TEXT)
    torch.testing.assert_close(inside.logits(3)[:6], plain.logits(3)[:6], **CLOSE)
    assert not torch.allclose(inside.logits(3)[6:], plain.logits(3)[6:], **CLOSE)


@pytest.mark.parametrize("part", ["head", "attention", "mlp", "block", "residual"])
def test_patching_with_its_own_activations_changes_nothing(model, part):
    plain = look_inside(model, TEXT)
    changes = [Change(part, i, head=1 if part == "head" else None, patched=True) for i in range(3)]
    patched = look_inside(model, TEXT, changes, other=look_inside(model, TEXT))
    torch.testing.assert_close(patched.logits(3), plain.logits(3), **CLOSE)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_patching_the_whole_stream_gives_the_other_texts_logits(model, layer):
    other = look_inside(model, OTHER)
    patched = look_inside(model, TEXT, [Change("residual", layer, patched=True)], other)
    torch.testing.assert_close(patched.logits(3), logits_of(model, OTHER), **CLOSE)


def test_a_patched_position_takes_the_other_texts_value(model):
    other = look_inside(model, OTHER[:4])
    patched = look_inside(model, TEXT, [Change("mlp", 1, at=8, patched=True, source=2)], other)
    found, plain = patched.layer(1), look_inside(model, TEXT).layer(1)
    torch.testing.assert_close(found.written_tc[8], other.layer(1).written_tc[2])
    torch.testing.assert_close(found.written_tc[:8], plain.written_tc[:8])
    head = look_inside(model, TEXT, [Change("head", 1, head=3, at=8, patched=True, source=2)], other).layer(1)
    torch.testing.assert_close(head.mixed_htd[3, 8], other.layer(1).mixed_htd[3, 2])
    torch.testing.assert_close(head.mixed_htd[:3], plain.mixed_htd[:3])


def test_a_pass_can_be_patched_from_a_changed_one(model):
    ablated = look_inside(model, TEXT, [Change("block", 0)])
    patched = look_inside(model, TEXT, [Change("residual", 1, patched=True)], ablated)
    torch.testing.assert_close(patched.logits(3), ablated.logits(3), **CLOSE)


def test_weights_of_16_bits_are_computed_with_in_32():
    model = random_model("grouped heads").bfloat16()
    inside = look_inside(model, TEXT)
    assert inside.logits(3).dtype == torch.float32
    torch.testing.assert_close(inside.logits(3), logits_of(model.float()), **CLOSE)


def test_a_block_at_a_time_until_there_is_none():
    model = random_model("tied")
    inside = Inside(model, TEXT)
    assert not inside.complete
    assert [inside.advance() for _ in range(4)] == [True, True, False, False]
    assert inside.complete
    assert inside.n_bytes == (2 * 3 + 1) * len(TEXT) * 32 * 4


def test_flop_count_the_products():
    model = random_model("untied")
    per_block = 32 * 64 * 4 + 3 * 32 * 80 + 2 * 16 + 2 * 32
    assert flop_per_token(model) == 2 * 3 * per_block + 2 * 4 * 32 * 97


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change("mlp", 3), "layer 3 of a change: expected 0 to 2"),
        (Change("residual", 4), "layer 4 of a change: expected 0 to 3"),
        (Change("head", 0), "expected one for part head"),
        (Change("mlp", 0, head=1), "only there"),
        (Change("head", 0, head=4), "head 4 of a change: expected 0 to 3"),
        (Change("mlp", 0, at=10), "position 10 of a change: expected 0 to 9"),
        (Change("mlp", 0, at=1, source=1), "no source"),
        (Change("mlp", 0, at=1, patched=True, source=3), "position 3 of the other text: expected 0 to 2"),
        (Change("mlp", 0, patched=True), "as many tokens: this one has 10, the other one 3"),
    ],
)
def test_what_a_pass_does_not_have_is_refused(change, message):
    model = random_model("tied")
    with pytest.raises(ValueError, match=message):
        Inside(model, TEXT, [change], look_inside(model, OTHER[:3]))


def test_a_patch_needs_another_complete_pass_of_this_model():
    model, patch = random_model("tied"), Change("mlp", 0, patched=True)
    for other in (None, Inside(model, TEXT), look_inside(random_model("tied"), TEXT)):
        with pytest.raises(ValueError, match="another complete pass of the same model"):
            Inside(model, TEXT, [patch], other)


def test_ids_that_are_none_are_refused():
    with pytest.raises(ValueError, match="no tokens"):
        Inside(random_model("tied"), [])
    with pytest.raises(ValueError, match="no token 97"):
        Inside(random_model("tied"), [3, 97])
