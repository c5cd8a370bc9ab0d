import runpy
from itertools import product
from pathlib import Path

import numpy as np
import pytest

BENCH = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "scaling_law.py"), run_name="scaling_law")
Run, ScalingLaw, fit_scaling_law, refit_scaling_law = (
    BENCH[name] for name in ("Run", "ScalingLaw", "fit_scaling_law", "refit_scaling_law")
)

CHINCHILLA = ScalingLaw(E=1.817, A=482.0, B=2085.4, alpha=0.3478, beta=0.3658)  # as Besiroglu et al. refitted it
SIZES, LENGTHS = (1e7, 3e7, 1e8, 3e8), (3e8, 1e9, 3e9, 1e10)


def runs(noise: float = 0.0, seed: int = 0) -> list:
    errors = np.random.default_rng(seed).normal(0, noise, len(SIZES) * len(LENGTHS))
    return [
        Run(n, d, CHINCHILLA.loss(n, d) * np.exp(error))
        for (n, d), error in zip(product(SIZES, LENGTHS), errors, strict=True)
    ]


def test_a_law_is_found_again_from_its_own_losses():
    found = fit_scaling_law(runs())
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(CHINCHILLA, name), rel=0.02), name


@pytest.mark.no_cover  # thousands of fits of a few lines
def test_a_larger_run_is_foretold_from_noisy_ones_and_as_often_as_said():
    truth = CHINCHILLA.loss(3e9, 6e10)
    covered = 0
    for seed in range(12):
        noisy = runs(0.003, seed)
        law = fit_scaling_law(noisy)
        assert law.loss(3e9, 6e10) == pytest.approx(truth, rel=0.03)
        again = [other.loss(3e9, 6e10) for other in refit_scaling_law(noisy, law, 40, seed)]
        low, high = np.percentile(again, [2.5, 97.5])
        covered += low <= truth <= high
    assert covered >= 8  # of about 10 that simulations of many more find


def test_one_run_that_failed_does_not_rule():
    spoiled = runs()
    spoiled[5] = Run(spoiled[5].parameters, spoiled[5].tokens, spoiled[5].loss * 1.3)
    assert fit_scaling_law(spoiled).loss(1e9, 3e10) == pytest.approx(CHINCHILLA.loss(1e9, 3e10), rel=0.01)


def test_the_same_runs_give_the_same_law_in_any_order():
    noisy = runs(0.003)
    assert fit_scaling_law(noisy).loss(1e9, 3e10) == pytest.approx(fit_scaling_law(noisy[::-1]).loss(1e9, 3e10))
    law = fit_scaling_law(noisy)
    assert refit_scaling_law(noisy, law, 5, seed=1) == refit_scaling_law(noisy, law, 5, seed=1)


def test_the_best_size_for_a_compute_is_best():
    n, d = CHINCHILLA.best_size(1e21)
    assert 6 * n * d == pytest.approx(1e21)
    assert CHINCHILLA.loss(n, d) < min(CHINCHILLA.loss(n * f, d / f) for f in (0.9, 1.1))


def test_too_few_runs_are_no_law():
    with pytest.raises(ValueError, match=r"5 runs of 2 sizes and 4 numbers of tokens can't tell a scaling law"):
        fit_scaling_law(runs()[:5])
