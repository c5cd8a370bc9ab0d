"""The learning rate over a run: warm-up, stable, decay to zero."""


def lr_scale(step: int, steps: int, warmup: float, decay: float) -> float:
    """Factor on the learning rate at `step` of `steps` (WSD, arXiv 2405.18392; linear to zero, 2502.15938).

    Rises linearly over the first `warmup` share of the steps, falls linearly over the last `decay` share.
    The first step already moves and the last one still does.
    """
    rise = (step + 1) / max(1.0, warmup * steps)
    fall = (steps - step) / max(1.0, decay * steps)
    return min(1.0, rise, fall)
