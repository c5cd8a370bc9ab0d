"""What the page Inside is given: the numbers of the model, small, and clear words for what there is not."""

import asyncio
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crawl2chat.evals.base.heads import score_heads
from crawl2chat.model.inside import Change, look_inside
from crawl2chat.serve.app.inside_passes import (
    MAX_FLOP,
    Passes,
    PassRequest,
    in_pieces,
    max_tokens,
    small_map,
    strongest_neurons,
    triangle,
)
from crawl2chat.serve.errors import ApiError

TEXT = "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills, 3 bridges"
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def decoded(response):
    """A binary body's header and arrays, as the page reads them."""
    assert response.status_code == 200, response.text
    body = response.content
    (length,) = struct.unpack("<I", body[:4])
    header = json.loads(body[4 : 4 + length])
    arrays = {
        a["name"]: np.frombuffer(body, a["dtype"], int(np.prod(a["shape"])), offset=4 + length + a["offset"]).reshape(
            a["shape"]
        )
        for a in header["arrays"]
    }
    return header, arrays


@pytest.fixture
def ask(served):
    def asking(what, **fields):
        return served.http.post(f"/app/inside/{what}", json={"text": TEXT, "model": "sft", **fields})

    return asking


@pytest.fixture
def engine(served):
    """What the stage sft runs on, for what its answers should be; it is looked at, not run."""
    return next(offer.read() for offer in served.pool.models if offer.stage == "sft")


@pytest.fixture
def inside(engine):
    return look_inside(engine.model, ids_of(engine))


def ids_of(engine, text=TEXT):
    return [engine.tokenizer.end_of_text, *engine.tokenizer.encode(text)]


def same(found, expected):
    torch.testing.assert_close(
        torch.from_numpy(found.copy()), expected.to(torch.from_numpy(found.copy()).dtype), **CLOSE
    )


def test_a_pass_shows_the_models_own_predictions(ask, engine, inside):
    header, arrays = decoded(ask("pass"))
    ids = ids_of(engine)
    assert [token["id"] for token in header["tokens"]] == ids
    assert header["tokens"][0] == {
        "id": ids[0],
        "text": "<|endoftext|>",
        "bytes": b"<|endoftext|>".hex(),
        "control": True,
    }
    with torch.no_grad():
        p_tv = engine.model(torch.tensor([ids]))[0].softmax(-1)
    top = p_tv.topk(8)
    same(arrays["lens_probabilities"][-1], top.values)
    same(arrays["lens_ids"][-1], top.indices)
    names = {token["id"]: token["text"] for token in header["vocabulary"]}
    assert set(names) == set(arrays["lens_ids"].ravel().tolist())
    scores = score_heads(inside)
    assert header["pairs"] == scores.pairs > 0
    same(arrays["scores"], torch.stack([scores.induction_lh, scores.previous_lh, scores.first_lh]))
    assert arrays["random_scores"].shape == (2, 3, 4)
    same(arrays["stream_norms"][::2], torch.stack([x_tc.norm(dim=-1) for x_tc in inside.stream]))
    assert header["parts"]["total"] == engine.model.n_parameters()
    assert len(ask("pass").content) < 500_000


def test_a_head_shows_its_numbers_exactly(ask, inside):
    header, arrays = decoded(ask("head", layer=1, head=3))
    found, T = inside.layer(1), len(inside)
    assert header["key_head"] == 1  # two query heads share a key head
    same(arrays["q"], found.q_htd[3])
    same(arrays["k"], found.k_gtd[1])
    same(arrays["v"], found.v_gtd[1])
    rows, columns = np.tril_indices(T)
    for name, expected in (("scores", found.scores_htt[3]), ("attention", found.attention_htt[3])):
        same(arrays[name], expected[rows, columns])
    squared = np.zeros((T, T), np.float32)
    squared[rows, columns] = arrays["attention"]
    np.testing.assert_allclose(squared.sum(-1), 1, atol=1e-4)
    np.testing.assert_allclose(squared @ arrays["v"], arrays["mixed"], atol=1e-4)
    raw = decoded(ask("head", layer=1, head=3, raw=True))[1]
    same(raw["q"], found.q_raw_htd[3])
    same(raw["k"], found.k_raw_gtd[1])


def test_a_block_shows_one_positions_way_through_it(ask, inside):
    _, arrays = decoded(ask("block", layer=2, at=7))
    found = inside.layer(2)
    same(arrays["entering"], inside.stream[2][7])
    same(arrays["leaving"], inside.stream[3][7])
    same(arrays["active"], found.active_tm[7])
    same(arrays["q"], found.q_htd[:, 7].flatten())
    np.testing.assert_allclose(
        arrays["entering"] + arrays["attended"] + arrays["written"], arrays["leaving"], atol=1e-4, rtol=1e-4
    )
    assert arrays["maps"].shape == (4, len(inside), len(inside))


def test_the_stream_and_the_neurons(ask, inside):
    _, arrays = decoded(ask("stream", at=5))
    assert arrays["stream"].shape == (7, 32)
    same(arrays["stream"][-1], inside.stream[3][5])
    same(arrays["stream"][1], inside.between[0][5])
    header, arrays = decoded(ask("mlp", layer=0))
    same(arrays["active"], inside.layer(0).active_tm)
    assert header["n_all"] == len(arrays["neurons"]) == 64


def test_pinned_tokens_have_their_probabilities_at_all_layers(ask, inside):
    header, arrays = decoded(ask("pins", ids=[5, 300]))
    assert [token["id"] for token in header["tokens"]] == [5, 300]
    expected = torch.stack([inside.logits(layer).softmax(-1)[:, [5, 300]] for layer in range(4)])
    same(arrays["probabilities"], expected)


def test_what_a_part_writes_adds_up_to_the_logits(ask, inside, engine):
    """Direct attribution: the most raised token of a head has the logit that its output alone contributes."""
    raised = ask("writes", layer=2, head=1, at=9).json()["raised"]
    found = inside.layer(2)
    with torch.no_grad():
        scale = (inside.stream[3][9].square().mean() + 1e-6).rsqrt()
        written_c = inside.head_writes(2, found, 1)[9]
        logits_v = engine.model.lm_head.weight @ (written_c * scale * engine.model.model.norm.weight)
    assert raised[0]["id"] == int(logits_v.argmax())
    assert raised[0]["logit"] == pytest.approx(float(logits_v.max()), rel=1e-4)
    assert len(ask("writes", layer=2, at=9).json()["lowered"]) == 5


def test_changes_move_the_probabilities_as_in_the_model(ask, inside, engine):
    change = {"part": "head", "layer": 1, "head": 2}
    found = ask("compare", at=12, changes=[change]).json()
    after = look_inside(engine.model, ids_of(engine), [Change("head", 1, 2)]).logits(3)[12].softmax(-1)
    before = inside.logits(3)[12].softmax(-1)
    assert {t["id"] for t in found["tokens"]} == {*before.topk(10).indices.tolist(), *after.topk(10).indices.tolist()}
    for token in found["tokens"]:
        assert token["before"] == pytest.approx(before[token["id"]].item(), abs=1e-4)
        assert token["after"] == pytest.approx(after[token["id"]].item(), abs=1e-4)
    assert found["divergence"] == pytest.approx(float((before * (before / after).log2()).sum()), rel=1e-3)
    _, arrays = decoded(ask("pass", changes=[change]))
    same(arrays["lens_probabilities"][-1][12], after.topk(8).values)


def test_a_patched_stream_gives_the_other_texts_predictions(ask, engine):
    other = TEXT.replace("17", "23")  # as many tokens
    patch = {"part": "residual", "layer": 0, "patched": True}
    _, patched = decoded(ask("pass", other=other, changes=[patch]))
    _, plain = decoded(ask("pass", text=other))
    np.testing.assert_allclose(patched["lens_probabilities"], plain["lens_probabilities"], atol=1e-4)
    mismatch = ask("pass", other="short", changes=[patch])
    assert mismatch.status_code == 400
    assert "as many tokens" in mismatch.json()["error"]["message"]


def test_effects_are_those_of_leaving_each_part_out(ask, engine, inside):
    header, arrays = decoded(ask("effects", at=10))
    p_v = inside.logits(3)[10].softmax(-1)
    id = int(p_v.argmax())
    assert header["token"]["id"] == id
    assert header["probability"] == pytest.approx(p_v[id].item(), abs=1e-4)
    assert arrays["without"].shape == (3, 5)
    without_mlp = look_inside(engine.model, ids_of(engine), [Change("mlp", 1)]).logits(3)[10].softmax(-1)[id]
    assert arrays["without"][1, 4] == pytest.approx(without_mlp.item(), abs=1e-4)


def test_texts_are_read_as_documents_questions_or_bare(ask, engine):
    tokenizer = engine.tokenizer
    ids = {form: [t["id"] for t in decoded(ask("pass", text="Hi", form=form))[0]["tokens"]]
           for form in ("document", "chat", "bare")}  # fmt: skip
    assert ids["document"] == [tokenizer.end_of_text, *tokenizer.encode("Hi")]
    assert ids["bare"] == tokenizer.encode("Hi")
    assert ids["chat"] == tokenizer.encode_chat([{"role": "user", "content": "Hi"}], add_generation_prompt=True)[0]


def test_control_look_alikes_stay_text(ask, engine):
    header, _ = decoded(ask("pass", text="<|im_end|>"))
    assert len(header["tokens"]) > 2
    assert [token["control"] for token in header["tokens"][1:]] == [False] * (len(header["tokens"]) - 1)


def test_a_long_text_is_cut_and_the_page_hears_of_it(ask, engine):
    header, arrays = decoded(ask("pass", text=TEXT * 20))
    assert header["n_all"] > header["most_tokens"] == len(header["tokens"]) == 256
    assert arrays["maps"].shape[-1] <= 48
    assert len(ask("pass", text=TEXT * 20).content) < 500_000
    assert len(ask("head", text=TEXT * 20, layer=0, head=0).content) < 500_000


def test_what_costs_much_is_looked_at_for_fewer_tokens(served, monkeypatch):
    model = served.pool.default.model
    assert max_tokens(model) == 256
    monkeypatch.setattr("crawl2chat.serve.app.inside_passes.flop_per_token", lambda _: MAX_FLOP / 100)
    assert max_tokens(model) == 100


def test_of_many_passes_the_last_ones_are_kept(served):
    async def here():
        return False

    loaded, request = served.pool.default, SimpleNamespace(is_disconnected=here)
    passes = Passes(memory=200_000)

    async def story():
        first = await passes.of(loaded, PassRequest(text=TEXT), request)
        again = await passes.of(loaded, PassRequest(text=TEXT), request)
        for i in range(20):
            await passes.of(loaded, PassRequest(text=f"{TEXT} {i}"), request)
        return first, again, await passes.of(loaded, PassRequest(text=TEXT), request)

    first, again, later = asyncio.run_coroutine_threadsafe(story(), served.server._loop).result(60)
    assert first is again
    assert first is not later
    assert sum(inside.n_bytes for inside in passes.kept[loaded].values()) <= 200_000


def test_work_for_a_client_that_has_hung_up_ends(served):
    done, asked = [], []

    def work():
        try:
            while True:
                yield
        finally:
            done.append("ended")

    async def gone():
        asked.append(1)
        return len(asked) == 2

    request = SimpleNamespace(is_disconnected=gone, scope={})
    asking = in_pieces(served.pool.default, work(), request)
    with pytest.raises(ApiError, match="hung up"):
        asyncio.run_coroutine_threadsafe(asking, served.server._loop).result(60)
    assert done == ["ended"]
    assert request.scope["outcome"] == "gone"


def test_every_stage_can_be_looked_into(ask):
    found = [decoded(ask("pass", model=stage))[1]["lens_probabilities"] for stage in ("pretrain", "sft", "prefer")]
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found[1], found[2])


def test_slices_of_a_pass_do_not_run_the_model_again(served, ask, monkeypatch):
    runs = []
    from crawl2chat.serve.app import inside_passes as passes

    class Counted(passes.Inside):
        def __init__(self, *arguments):
            runs.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(passes, "Inside", Counted)
    text = TEXT + " and nothing else"
    ask("block", text=text, layer=0, at=0)
    for layer in range(3):
        ask("head", text=text, layer=layer, head=0)
        ask("mlp", text=text, layer=layer)
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("what", "fields", "message"),
    [
        ("pass", {"text": ""}, None),
        ("pass", {"text": "", "form": "bare"}, "text: holds no token"),
        ("pass", {"form": "poem"}, "form = \"poem\": expected 'document', 'chat' or 'bare'"),
        ("pass", {"text": "x" * 20_001}, "at most 20000 characters"),
        ("pass", {"layer": 1}, "layer: no such field"),
        ("pass", {"changes": [{"part": "mlp", "layer": 7}]}, "changes: layer 7 of a change: expected 0 to 2"),
        ("pass", {"changes": [{"part": "mlp", "layer": 0, "patched": True}]}, "needs another complete pass"),
        ("pass", {"changes": [{"part": "tail", "layer": 0}]}, "changes.0.part = \"tail\""),
        ("pass", {"changes": [{"part": "mlp", "layer": 0}] * 33}, "at most 32"),
        ("head", {"layer": 0, "head": 4}, "head = 4: expected 0 to 3"),
        ("head", {"layer": -1, "head": 0}, "layer = -1"),
        ("block", {"layer": 3, "at": 0}, "layer = 3: expected 0 to 2"),
        ("stream", {"at": 10_000}, "at = 10000: expected 0 to"),
        ("stream", {}, "at: is missing"),
        ("pins", {"ids": [1_000_000]}, "ids: has the token id 1000000; expected ids from 0 to"),
        ("pins", {"ids": []}, "ids"),
        ("effects", {"at": 0, "id": 1_000_000}, "id: has the token id 1000000"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_refused_in_words(ask, what, fields, message):
    answer = ask(what, **fields)
    if message is None:  # an empty document still begins with its control token
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_maps_keep_small_and_the_greatest_shares():
    shares = torch.eye(100)[None].clone()
    shares[0, 70, 3] = 0.01
    found = small_map(shares, 48)
    assert found.shape == (1, 34, 34)
    assert found[0, 0, 0] == 255
    assert found[0, 23, 1] == round(255 * 0.1)
    assert small_map(shares, 100).shape == (1, 100, 100)


def test_a_triangle_holds_the_rows_of_what_the_mask_leaves():
    assert triangle(torch.arange(9).reshape(3, 3)).tolist() == [0, 3, 4, 6, 7, 8]


def test_of_many_neurons_those_that_are_strongest_somewhere_are_shown():
    active_tm = torch.zeros(400, 1000)
    active_tm[17, 5], active_tm[3, 999] = -9, 4
    active, chosen = strongest_neurons(active_tm)
    assert active.shape == (400, 300)
    assert {5, 999} <= set(chosen.tolist())
    assert active[17, chosen.tolist().index(5)] == -9
