"""What changes over a run: the learning rate (warm-up, stable, decay to zero) and Muon's momentum."""


def lr_scale(step: int, steps: int, warmup: float, decay: float) -> float:
    """Factor on the learning rate at `step` of `steps` (WSD, arXiv 2405.18392; linear to zero, 2502.15938).

    Rises linearly over the first `warmup` share of the steps, falls linearly over the last `decay` share.
    The first step already moves and the last one still does.
    """
    rise = (step + 1) / max(1.0, warmup * steps)
    fall = (steps - step) / max(1.0, decay * steps)
    return min(1.0, rise, fall)


def muon_momentum(step: int, steps: int, warmup: float) -> float:
    """Muon's momentum at `step` of `steps`: rises linearly from 0.85 to 0.95 over the first `warmup` share.

    Early gradients turn quickly, so a long memory of them misleads (modded-nanogpt raises it over 300 steps).
    """
    return 0.95 - 0.1 * max(0.0, 1 - step / max(1.0, warmup * steps)) if warmup else 0.95
