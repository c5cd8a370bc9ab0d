"""Loss as a function of model size and tokens, fitted to a few runs: a larger one is known before it is paid for."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXPONENTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5)  # where fits start
HUBER = 0.01  # of log loss: 1 %. Seeds move a small run by some 0.3 %, so that all but failed runs count in full
STARTS, ITERATIONS = 6, 100
N_PARAMETERS = 5
# logs of E, A, B, alpha, beta in fits: an exponent above 2.7 only says that its term is none by the second size
LEAST, MOST = np.array([-30, -30, -30, -5, -5.0]), np.array([30, 30, 30, 1, 1.0])


@dataclass(frozen=True)
class Run:
    """One finished training: parameters that compute, tokens seen, loss on held-out text in any unit."""

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class ScalingLaw:
    """loss(N, D) = E + A/N^alpha + B/D^beta (Hoffmann et al., arXiv 2203.15556, section 3.3)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return float(self.E + self.A * parameters**-self.alpha + self.B * tokens**-self.beta)

    def best_size(self, flop: float) -> tuple[float, float]:
        """Parameters and tokens of the least loss for so much compute, taken as 6·N·D (same paper, equation 4)."""
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = ratio * (flop / 6) ** (self.beta / (self.alpha + self.beta))
        return parameters, flop / 6 / parameters


def fit_scaling_law(runs: Sequence[Run]) -> ScalingLaw:
    """The law of least Huber loss between predicted and measured log loss.

    Raises ValueError where the runs can't tell the law's five numbers apart.
    """
    _enough(runs)
    logs = np.log([astuple(run) for run in runs])
    return _fit(logs[:, 0], logs[:, 1], logs[None, :, 2])[0]


def refit_scaling_law(runs: Sequence[Run], law: ScalingLaw, draws: int, seed: int) -> list[ScalingLaw]:
    """Laws of runs as they might have come out: the law's own losses, each off by some run's error.

    The errors are scaled by √(runs / (runs - 5)), since five numbers were fitted to them. Their spread is the fit's
    uncertainty if the law's form is right (of 16 simulated runs, intervals said to be of 95 % held the truth in 85 to
    90 %); that it is wrong, no resampling shows. Whole runs are not drawn anew: of so few, too little would be left.
    """
    _enough(runs)
    logs = np.log([astuple(run) for run in runs])
    fitted = np.log([law.loss(run.parameters, run.tokens) for run in runs])
    errors = scaled_errors(runs, law)
    drawn = np.random.default_rng(seed).choice(errors, (draws, len(runs)))
    return _fit(logs[:, 0], logs[:, 1], fitted + drawn)


def scaled_errors(runs: Sequence[Run], law: ScalingLaw) -> Array:
    """log(measured / predicted) of each run, centred, and as large as it is likely to be for a new one."""
    errors = np.log([run.loss / law.loss(run.parameters, run.tokens) for run in runs])
    return (errors - errors.mean()) * np.sqrt(len(runs) / (len(runs) - N_PARAMETERS))


def _enough(runs: Sequence[Run]) -> None:
    sizes, lengths = {run.parameters for run in runs}, {run.tokens for run in runs}
    if len(runs) <= N_PARAMETERS or len(sizes) < 3 or len(lengths) < 3:
        raise ValueError(
            f"{len(runs)} runs of {len(sizes)} sizes and {len(lengths)} numbers of tokens can't tell a scaling law; "
            f"expected {N_PARAMETERS + 1} or more, of three sizes and three numbers of tokens at least"
        )


def _fit(log_n: Array, log_d: Array, log_loss_kr: Array) -> list[ScalingLaw]:
    """Fits of K sets of losses of the same R runs, all at once: of each the best of those from all starts."""
    x_r, y_r = log_n - log_n.mean(), log_d - log_d.mean()  # centred, the five numbers depend less on each other
    starts = np.stack([_starts(x_r, y_r, losses) for losses in np.exp(log_loss_kr)])
    K, S, _ = starts.shape
    targets = np.repeat(log_loss_kr, S, axis=0)
    theta, objective = _descend(starts.reshape(K * S, -1), x_r, y_r, targets)
    best = objective.reshape(K, S).argmin(axis=1)
    laws = []
    for log_e, log_a, log_b, log_alpha, log_beta in theta.reshape(K, S, -1)[np.arange(K), best]:
        alpha, beta = np.exp(log_alpha), np.exp(log_beta)
        A, B = np.exp(log_a + alpha * log_n.mean()), np.exp(log_b + beta * log_d.mean())
        laws.append(ScalingLaw(float(np.exp(log_e)), float(A), float(B), float(alpha), float(beta)))
    return laws


def _starts(x_r: Array, y_r: Array, loss_r: Array) -> Array:
    """The closest of a grid over the exponents, with E, A, B of least squares, in which the law is linear.

    Returns (STARTS, 5): logs of E, A, B, alpha, beta. Besiroglu et al. (arXiv 2404.10102) descend from all of a grid
    over the five numbers instead, 4,500 points.
    """
    starts = []
    for alpha in EXPONENTS:
        for beta in EXPONENTS:
            terms = np.stack([np.ones_like(x_r), np.exp(-alpha * x_r), np.exp(-beta * y_r)], axis=1)
            solution = np.linalg.lstsq(terms / loss_r[:, None], np.ones_like(loss_r), rcond=None)[0]
            least = 0.01 * loss_r.min()
            starts.append([*np.log(np.maximum(solution, least)), np.log(alpha), np.log(beta)])
    theta = np.array(starts)
    errors, _ = _errors(theta, x_r, y_r, np.log(loss_r)[None])
    return theta[np.argsort(_huber(errors), kind="stable")[:STARTS]]


def _descend(theta: Array, x_r: Array, y_r: Array, targets: Array) -> tuple[Array, Array]:
    """Levenberg–Marquardt on Huber-weighted errors of log loss, each row of theta (M, 5) for itself.

    targets: (M, runs). Returns theta and the objective (M,) where it came to rest.
    """
    damping = np.full(len(theta), 1e-3)
    errors, slopes = _errors(theta, x_r, y_r, targets)
    objective = _huber(errors)
    for _ in range(ITERATIONS):
        weights = np.minimum(1, HUBER / np.maximum(np.abs(errors), 1e-12))
        weighted = slopes * weights[:, :, None]
        curvature = np.einsum("mri,mrj->mij", weighted, slopes) + damping[:, None, None] * np.eye(N_PARAMETERS)
        step = np.linalg.solve(curvature, np.einsum("mri,mr->mi", weighted, errors)[:, :, None])[:, :, 0]
        moved = np.clip(theta - np.clip(step, -1, 1), LEAST, MOST)
        new_errors, new_slopes = _errors(moved, x_r, y_r, targets)
        better = _huber(new_errors) < objective
        theta = np.where(better[:, None], moved, theta)
        errors = np.where(better[:, None], new_errors, errors)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        objective = _huber(errors)
        damping = np.clip(np.where(better, damping / 3, damping * 3), 1e-12, 1e6)
    return theta, objective


def _errors(theta: Array, x_r: Array, y_r: Array, targets: Array) -> tuple[Array, Array]:
    """Predicted minus measured log loss (M, runs), and its slopes by the five numbers (M, runs, 5)."""
    log_e, log_a, log_b, log_alpha, log_beta = theta.T[:, :, None]
    alpha, beta = np.exp(log_alpha), np.exp(log_beta)
    terms = np.stack(np.broadcast_arrays(log_e, log_a - alpha * x_r, log_b - beta * y_r), axis=-1)
    largest = terms.max(axis=-1, keepdims=True)
    total = largest + np.log(np.exp(terms - largest).sum(axis=-1, keepdims=True))
    shares = np.exp(terms - total)  # of E, A/N^alpha, B/D^beta in the loss
    by_exponents = np.stack([-shares[..., 1] * alpha * x_r, -shares[..., 2] * beta * y_r], axis=-1)
    return total[..., 0] - targets, np.concatenate([shares, by_exponents], axis=-1)


def _huber(errors: Array) -> Array:
    size = np.abs(errors)
    return np.where(size <= HUBER, size**2 / 2, HUBER * (size - HUBER / 2)).sum(axis=1)
