"""Each control, the plain and the fast one, gives what transformers' logits processor gives on the same logits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl2chat.generate.drawing import Controls, cut_min_p, cut_top_k, cut_top_p, draw
from crawl2chat.generate.sampling import control, keep_min_p, keep_top_k, keep_top_p, sample
from crawl2chat.generate.settings import CONTROLS, SHORT_LIST, Sampling

B, V = 6, 700
PROMPTS = torch.randint(V, (B, 30), generator=torch.Generator().manual_seed(5))
NOTHING = [((), ())] * B


@pytest.fixture
def logits():
    return torch.randn(B, V, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("k", [1, 5, 699, 700, 5000])
def test_top_k_equals_transformers(logits, theirs, k):
    expected = theirs.TopKLogitsWarper(k)(None, logits)
    torch.testing.assert_close(cut_top_k(logits, k), expected)
    torch.testing.assert_close(torch.stack([keep_top_k(logits_v, k) for logits_v in logits]), expected)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.1, 1, 10])
def test_top_p_equals_transformers_for_small_and_large_nuclei(logits, theirs, p, spread):
    logits = logits * spread
    expected = theirs.TopPLogitsWarper(p)(None, logits)
    torch.testing.assert_close(cut_top_p(logits, p), expected)
    torch.testing.assert_close(torch.stack([keep_top_p(logits_v, p) for logits_v in logits]), expected)


@pytest.mark.parametrize("p", [0.0, 0.01, 0.3, 1.0])
def test_min_p_equals_transformers(logits, theirs, p):
    expected = theirs.MinPLogitsWarper(p)(None, logits)
    torch.testing.assert_close(cut_min_p(logits, p), expected)
    torch.testing.assert_close(torch.stack([keep_min_p(logits_v, p) for logits_v in logits]), expected)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_the_repetition_penalty_equals_transformers(logits, theirs, penalty):
    written = [(row[:20].tolist(), row[20:].tolist()) for row in PROMPTS]
    expected = theirs.RepetitionPenaltyLogitsProcessor(penalty)(PROMPTS, logits)
    controls = Controls([Sampling(repetition_penalty=penalty)] * B)
    torch.testing.assert_close(controls(logits, written), expected)


def test_logit_bias_equals_transformers(logits, theirs):
    bias = {3: 2.5, 17: -4.0, 699: float("-inf")}
    expected = theirs.SequenceBiasLogitsProcessor({(id,): value for id, value in bias.items()})(PROMPTS, logits)
    torch.testing.assert_close(Controls([Sampling(logit_bias=bias)] * B)(logits, NOTHING), expected)


def test_presence_and_frequency_are_taken_off_by_the_formula_of_openai(logits):
    answer = [4, 4, 4, 9]
    controlled = Controls([Sampling(presence_penalty=0.5, frequency_penalty=0.25)] * B)(logits, [([7], answer)] * B)
    expected = logits.clone()
    expected[:, 4] -= 3 * 0.25 + 0.5
    expected[:, 9] -= 1 * 0.25 + 0.5
    torch.testing.assert_close(controlled, expected)


def test_all_controls_compose_in_transformers_order(logits, theirs):
    ours = Sampling(0.7, 60, 0.8, min_p=0.05, repetition_penalty=1.2, logit_bias={5: 3.0})
    expected = logits
    for processor in (
        theirs.SequenceBiasLogitsProcessor({(5,): 3.0}),
        theirs.RepetitionPenaltyLogitsProcessor(1.2),
        theirs.TemperatureLogitsWarper(0.7),
        theirs.TopKLogitsWarper(60),
        theirs.TopPLogitsWarper(0.8),
        theirs.MinPLogitsWarper(0.05),
    ):
        expected = processor(PROMPTS, expected)
    torch.testing.assert_close(Controls([ours] * B)(logits, [(row.tolist(), ()) for row in PROMPTS]), expected)


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 7, 40, 900]),
    top_p=st.sampled_from([0.2, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.4]),
    presence_penalty=st.sampled_from([0.0, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    logit_bias=st.dictionaries(st.integers(0, V - 1), st.floats(-5, 5, width=32), max_size=3),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(SAMPLINGS, min_size=1, max_size=B))
def test_a_sequence_is_controlled_by_its_own_settings_alone(samplings):
    logits = torch.randn(len(samplings), V, generator=torch.Generator().manual_seed(1)) * 2
    written = [(row[:9].tolist(), row[9:].tolist()) for row in PROMPTS[: len(samplings)]]
    together = Controls(samplings)(logits, written)
    for i, sampling in enumerate(samplings):
        alone = Controls([sampling])(logits[i : i + 1], written[i : i + 1])[0]
        assert torch.equal(together[i], alone)


@settings(max_examples=60, deadline=None)
@given(SAMPLINGS.filter(lambda s: s.short))
def test_of_the_most_probable_tokens_the_same_are_kept_as_of_all(sampling):
    logits = torch.randn(B, V, generator=torch.Generator().manual_seed(2)) * 2
    controls = Controls([sampling] * B)
    few = logits.topk(SHORT_LIST)
    kept = torch.full_like(logits, -torch.inf).scatter(-1, few.indices, controls.cut_sorted(few.values))
    torch.testing.assert_close(kept, controls.cut(logits))


@settings(max_examples=60, deadline=None)
@given(st.lists(SAMPLINGS, min_size=1, max_size=B), st.integers(0, 1000))
def test_the_fast_way_for_a_batch_gives_what_one_sequence_gets_by_the_plain_one(samplings, seed):
    logits = torch.randn(len(samplings), V, generator=torch.Generator().manual_seed(seed)) * 2
    written = [(row[:9].tolist(), row[9:].tolist()) for row in PROMPTS[: len(samplings)]]
    controls = Controls(samplings)
    fast = controls(logits, written)
    plain = torch.stack([control(*of_one) for of_one in zip(logits, written, samplings, strict=True)])
    torch.testing.assert_close(fast, plain)
    drawn = controls.draw(fast, [np.random.default_rng((seed, i)) for i in range(len(samplings))])
    for i, sampling in enumerate(samplings):
        uniform = np.random.default_rng((seed, i)).random()
        assert drawn[i] == sample(logits[i], written[i], sampling, uniform)


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(4000, 4)
    drawn = draw(logits, torch.tensor(np.random.default_rng(0).random(4000)))
    shares = torch.bincount(drawn, minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03, rtol=0)


def test_a_token_left_out_is_never_drawn_not_even_at_the_ends():
    logits = torch.tensor([[-torch.inf, 1.0, 0.5, -torch.inf]]).expand(3, 4)
    ends = torch.tensor([0.0, 0.5, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert set(draw(logits, ends).tolist()) <= {1, 2}


def test_impossible_settings_are_all_named():
    with pytest.raises(ValueError, match=r"temperature = -1.*top_p = 2.*min_p = 3.*repetition_penalty = 0"):
        Sampling(temperature=-1, top_p=2, min_p=3, repetition_penalty=0)
    with pytest.raises(ValueError, match="must be numbers"):
        Sampling(logit_bias={3: float("nan")})


def test_every_setting_has_its_help_and_its_default_within_its_bounds():
    numbers = [name for name in CONTROLS if name not in ("stop", "logit_bias")]
    assert all(control.help for control in CONTROLS.values())
    assert all(CONTROLS[name].allows(getattr(Sampling(), name)) for name in numbers)
    with pytest.raises(ValueError, match=r"^min_p = nan: must be from 0 to 1$"):
        Sampling(min_p=float("nan"))
    with pytest.raises(ValueError, match=r"^temperature = 1e-05: must be 0, or from 0\.0001 to 10000$"):
        Sampling(temperature=1e-5)
