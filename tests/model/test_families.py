"""Our logits are transformers' on random weights of every family, with every way of stretching RoPE."""

import copy
import json

import pytest
import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import CachedTransformer, load_model, save_model
from crawl2chat.model.inside import look_inside
from crawl2chat.stages.files import StageError

transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.15, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ROPE = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn with mscale": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0,
        "mscale_all_dim": 0.5, "beta_fast": 16, "truncate": False,
    },
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}  # fmt: skip
CASES = {
    "llama 2": ("llama", {"num_key_value_heads": 4}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, wide heads": ("llama", {"head_dim": 32, "tie_word_embeddings": True}),
    "smollm2": ("llama", {"num_attention_heads": 6, "hidden_size": 96, "tie_word_embeddings": True}),
    **{f"llama, {name}": ("llama", {"rope_scaling": table}) for name, table in ROPE.items()},
    "mistral, all is seen": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": 7}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2, one group": ("qwen2", {"num_key_value_heads": 1, "rope_theta": 1e6}),
    "qwen2, upper layers": ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "qwen3, yarn": ("qwen3", {"head_dim": 16, "rope_scaling": ROPE["yarn"]}),
    "qwen3, alternating": (
        "qwen3",
        {"head_dim": 16, "use_sliding_window": True, "sliding_window": 5,
         "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
}  # fmt: skip
LENGTH = 100  # beyond the 64 tokens of the config, and the 16 of some originals


def their_model(case: str):
    family, changes = CASES[case]
    config = transformers.AutoConfig.for_model(family, **SMALL | copy.deepcopy(changes))  # it writes into tables
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases are zero and norms one until trained
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.float()


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    theirs = their_model(request.param)
    theirs.save_pretrained(folder)
    return load_model(folder), theirs, folder, request.param


def some_ids(n: int, rows: int = 1) -> torch.Tensor:
    return torch.randint(97, (rows, n), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_logits_equal_transformers_beyond_the_original_context(pair):
    ours, theirs, _, _ = pair
    ids = some_ids(LENGTH, rows=2)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_logits_over_the_cache_equal_transformers(pair):
    ours, theirs, _, _ = pair
    ids = some_ids(LENGTH)[0].tolist()
    read = LENGTH - 8
    cached = CachedTransformer(ours, 2, LENGTH)
    cached.prefill([0], [0], [ids[:read]])
    theirs(torch.tensor([ids[:5]]))  # or its dynamic scaling would remember the longest text so far
    with_cache = theirs(torch.tensor([ids[:read]]), use_cache=True).past_key_values
    for place in range(read, LENGTH):
        expected = theirs(torch.tensor([[ids[place]]]), past_key_values=with_cache, use_cache=True).logits[0, -1]
        torch.testing.assert_close(cached.decode([(ids[place], place)])[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_shown_inside_adds_up_to_the_logits(pair):
    ours, _, _, _ = pair
    ids = some_ids(40)
    inside = look_inside(ours, ids[0].tolist())
    torch.testing.assert_close(inside.logits(ours.config.num_hidden_layers), ours(ids)[0], atol=1e-4, rtol=1e-4)


def test_gradients_equal_transformers(pair):
    ours, theirs, _, _ = pair
    ids = some_ids(30, rows=2)
    for model in (ours, theirs):
        model.zero_grad()
    ours(ids[:, :-1], targets_bt=ids[:, 1:]).backward()
    logits = theirs(ids[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=2e-3, rtol=1e-3, msg=name)


@torch.no_grad()
def test_documents_in_a_row_are_read_as_if_alone(pair):
    ours, _, _, _ = pair
    ids = some_ids(50)
    documents = torch.tensor([[0] * 20 + [1] * 30])
    together = ours(ids, documents)
    torch.testing.assert_close(together[:, 20:], ours(ids[:, 20:]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[:, :20], ours(ids[:, :20]), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_came_in_as_one_family_goes_out_as_the_same(pair, tmp_path):
    ours, theirs, _, case = pair
    save_model(ours, tmp_path, stop_ids=[2], pad_id=0)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert again.config.model_type == CASES[case][0]
    ids = some_ids(LENGTH)
    torch.testing.assert_close(again(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)
    assert load_model(tmp_path).config == ours.config


@torch.no_grad()
def test_a_config_that_is_written_from_scratch_describes_the_same_model(pair, tmp_path):
    ours, theirs, _, _ = pair
    ours.config.original.clear()
    save_model(ours, tmp_path, stop_ids=[2], pad_id=0)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = some_ids(LENGTH)
    torch.testing.assert_close(again(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)


OLD_FORMS = {  # how transformers 4 wrote what 5 has in `rope_parameters`
    "plain": ({"rope_theta": 5e5, "rope_scaling": None}, {"rope_theta": 5e5, "rope_type": "default"}),
    "type": (
        {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0},
    ),
    "rope_type": (
        {"rope_theta": 5e5, "rope_scaling": ROPE["llama3"]},
        {"rope_theta": 5e5, **ROPE["llama3"]},
    ),
}


@pytest.mark.parametrize("form", OLD_FORMS)
def test_configs_of_transformers_4_and_5_mean_the_same(form, tmp_path):
    their_model("llama 2").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    content = {k: v for k, v in json.loads(file.read_text()).items() if k != "rope_parameters"}
    four, five = OLD_FORMS[form]
    file.write_text(json.dumps(content | four))
    old = load_model(tmp_path).config
    file.write_text(json.dumps(content | {"rope_parameters": five}))
    assert load_model(tmp_path).config == old


@torch.no_grad()
def test_batching_does_not_change_tokens_of_any_family(pair, tokenizer):
    ours, _, _, _ = pair
    engine = Engine(ours, tokenizer, max_batch=4)
    prompts = [some_ids(n)[0].tolist() for n in (3, 17, 30)]
    greedy = Sampling(temperature=0, max_tokens=12)
    together = [completion.ids for completion in engine.generate(prompts, greedy)]
    alone = [engine.generate([prompt], greedy)[0].ids for prompt in prompts]
    assert together == alone


REFUSED = {
    "a mixture of experts": ({"num_local_experts": 8}, "num_local_experts = 8: mixtures of experts"),
    "a quantised checkpoint": ({"quantization_config": {"quant_method": "gptq"}}, "quantised checkpoints"),
    "another family": ({"model_type": "gemma2"}, "model_type is 'gemma2', expected one of llama, mistral, qwen2"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
    "a stretch that is not known": ({"rope_parameters": {"rope_type": "longrope"}}, "of type 'longrope', supported"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1e.09; expected at most 1,000"),
    "a text for a number": ({"hidden_size": "64"}, "hidden_size = '64'; expected a whole number"),
    "half a head": ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    "layers of no kind": (
        {"model_type": "qwen3", "use_sliding_window": True, "layer_types": ["none"] * 3},
        "layer_types = .*expected full_attention or sliding_attention",
    ),
    "no factor": ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "of type 'linear' has no factor"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_refused_by_name(what, tmp_path):
    their_model("llama 2").save_pretrained(tmp_path)
    changes, told = REFUSED[what]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(StageError, match=told):
        load_model(tmp_path)


def test_weights_stay_in_the_type_they_are_stored_in_when_asked(tmp_path):
    their_model("qwen2").to(torch.bfloat16).save_pretrained(tmp_path)
    assert load_model(tmp_path, dtype=None).lm_head.weight.dtype == torch.bfloat16
    assert load_model(tmp_path).lm_head.weight.dtype == torch.float32
