"""One step of sampling, taken apart: the distribution after each control, and which control left a token out.

S controls in the order in which they act, V vocabulary.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crawl2chat.generate.drawing import Controls, most_probable_place
from crawl2chat.generate.sampling import Written
from crawl2chat.generate.settings import Sampling

# name of each control, and the settings that it reads
CONTROLS: dict[str, tuple[str, ...]] = {
    "logit_bias": ("logit_bias",),
    "repetition_penalty": ("repetition_penalty",),
    "presence_and_frequency": ("presence_penalty", "frequency_penalty"),
    "temperature": ("temperature",),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
}
NEUTRAL = Sampling()


@dataclass(frozen=True)
class Trace:
    """Log-probabilities before all controls (row 0) and after each; −inf for tokens that were left out."""

    log_p_sv: Tensor  # (1 + S, V), in nats
    active: tuple[bool, ...]  # of each control: whether its setting is not the neutral one
    dropped_by_v: Tensor  # (V,): the place in CONTROLS of the control that left the token out, −1 for none
    before_choice: int | None  # temperature 0 only: the last row before a token is chosen, which the engine reports

    @property
    def reported(self) -> Tensor:
        """(V,): log-probabilities as `Completion.logprobs` has them after the controls."""
        return self.log_p_sv[-1 if self.before_choice is None else self.before_choice]

    @property
    def left(self) -> list[int]:
        """Of each row, how many tokens can still be drawn."""
        return (self.log_p_sv > -torch.inf).sum(dim=-1).tolist()

    @property
    def model_mass(self) -> list[float]:
        """Of each row, the probability that the model gave, before all controls, to the tokens that are left."""
        kept_sv = self.log_p_sv > -torch.inf
        return (self.log_p_sv[:1].exp() * kept_sv).sum(dim=-1, dtype=torch.float64).tolist()

    @property
    def entropy(self) -> list[float]:
        """Of each row, in nats. exp of it is the perplexity: among how many equal choices one would be as unsure."""
        log_p_sv = self.log_p_sv.double()
        terms_sv = torch.where(log_p_sv > -torch.inf, log_p_sv.exp() * log_p_sv, 0.0)
        return (-terms_sv.sum(dim=-1)).clamp(min=0).tolist()


@torch.inference_mode()
def trace_controls(logits_v: Tensor, written: Written, sampling: Sampling) -> Trace:
    """What each control makes of one step's logits (V,).

    The engine's own controls are run on the settings up to each control, with all later ones neutral. So what stands
    after the last one is what the engine draws from, also where it draws among a few tokens by a shorter way.
    written: the ids of the prompt and of the answer so far, for the penalties.
    """
    logits_1v = logits_v[None].float()
    rows = [logits_1v.log_softmax(dim=-1)[0]]
    active: list[bool] = []
    so_far, before_choice = NEUTRAL, None
    for place, fields in enumerate(CONTROLS.values()):
        given = {name: getattr(sampling, name) for name in fields}
        so_far = replace(so_far, **given)
        active.append(any(value != getattr(NEUTRAL, name) for name, value in given.items()))
        if before_choice is not None:
            active[-1] = False  # nothing is left to choose from
            rows.append(rows[-1])
        elif so_far.greedy:
            before_choice = place
            chosen_v = torch.full_like(rows[-1], -torch.inf)
            chosen_v[most_probable_place(_controlled(logits_1v, written, so_far)[None])] = 0.0
            rows.append(chosen_v)
        else:
            rows.append(_controlled(logits_1v, written, so_far).log_softmax(dim=-1) if active[-1] else rows[-1])
    log_p_sv = torch.stack(rows)
    gone_sv = (log_p_sv[1:] == -torch.inf) & (log_p_sv[:-1] > -torch.inf)
    dropped_by_v = torch.where(gone_sv.any(dim=0), gone_sv.int().argmax(dim=0), -1)
    return Trace(log_p_sv, tuple(active), dropped_by_v, before_choice)


def _controlled(logits_1v: Tensor, written: Written, sampling: Sampling) -> Tensor:
    """Logits (V,) that the engine draws from."""
    controls = Controls([sampling], logits_1v.device)
    cut_1k, ids_1k = controls.drawn_from(controls.shift(logits_1v, [written]), short=sampling.short)
    if ids_1k is None:
        return cut_1k[0]
    return torch.full_like(logits_1v, -torch.inf).scatter(-1, ids_1k, cut_1k)[0]
