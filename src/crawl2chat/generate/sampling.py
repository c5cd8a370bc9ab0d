"""The controls of sampling: what each does to the logits of the next token, as pure functions.

In this order, that of transformers where it has the control:

1. logit bias (`add_bias`)
2. repetition penalty (CTRL, arXiv 1909.05858, section 4.1) of every token in prompt or answer
3. presence and frequency penalties (OpenAI's API) of every token in the answer
4. temperature
5. top-k (arXiv 1805.04833), 6. top-p (arXiv 1904.09751), 7. min-p (arXiv 2407.01082); a token left out has logit −inf

Temperature 0 takes the most probable token after 1 to 3. `sample` is the whole of it for one sequence; the engine does
the same for a batch by the faster ways of `drawing`.

Shapes: V vocabulary.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from crawl2chat.generate.settings import Sampling

Written = tuple[Sequence[int], Sequence[int]]  # a sequence's prompt and its answer so far


def sample(logits_v: Tensor, written: Written, sampling: Sampling, uniform: float) -> int:
    """Return the next token's id: that at the quantile `uniform`, in [0, 1), of the controlled distribution."""
    logits_v = control(logits_v, written, sampling)
    if sampling.greedy:
        return int(logits_v.argmax())
    cumulative_v = logits_v.softmax(dim=-1).double().cumsum(dim=-1)
    return int(torch.searchsorted(cumulative_v, uniform * float(cumulative_v[-1]), right=True))


def control(logits_v: Tensor, written: Written, sampling: Sampling) -> Tensor:
    """Return the logits (V,) that the next token is drawn from, or at temperature 0 chosen from."""
    prompt, answer = written
    logits_v = add_bias(logits_v, sampling.logit_bias)
    logits_v = penalise_repetition(logits_v, {*prompt, *answer}, sampling.repetition_penalty)
    logits_v = penalise_answer(logits_v, answer, sampling.presence_penalty, sampling.frequency_penalty)
    if sampling.greedy:
        return logits_v
    logits_v = logits_v / sampling.temperature
    return keep_min_p(keep_top_p(keep_top_k(logits_v, sampling.top_k), sampling.top_p), sampling.min_p)


def add_bias(logits_v: Tensor, bias: Mapping[int, float]) -> Tensor:
    """Add a number to the logits of some tokens; −inf leaves one out."""
    logits_v = logits_v.clone()
    for id, value in bias.items():
        logits_v[id] += value
    return logits_v


def penalise_repetition(logits_v: Tensor, ids: Collection[int], penalty: float) -> Tensor:
    """Divide positive logits of these tokens by the penalty and multiply negative ones, so that both fall."""
    logits_v, places = logits_v.clone(), sorted(ids)
    of_these = logits_v[places]
    logits_v[places] = torch.where(of_these < 0, of_these * penalty, of_these / penalty)
    return logits_v


def penalise_answer(logits_v: Tensor, answer: Sequence[int], presence: float, frequency: float) -> Tensor:
    """Subtract `presence` from the logit of every token of the answer, and `frequency` once per occurrence."""
    logits_v = logits_v.clone()
    for id, count in Counter(answer).items():
        logits_v[id] -= presence + count * frequency
    return logits_v


def keep_top_k(logits_v: Tensor, k: int) -> Tensor:
    """Leave out all but the k most probable tokens (ties with the last one stay); 0 keeps all."""
    if not 0 < k < len(logits_v):
        return logits_v
    return logits_v.masked_fill(logits_v < logits_v.topk(k).values[-1], -math.inf)


def keep_top_p(logits_v: Tensor, p: float) -> Tensor:
    """Keep the smallest set of tokens whose probabilities add up to p; 1 keeps all.

    A token stays if those that are more probable add up to less than p.
    """
    if p >= 1:
        return logits_v
    descending = logits_v.softmax(dim=-1).sort(descending=True)
    before_v = descending.values.cumsum(dim=-1) - descending.values
    return logits_v.index_fill(-1, descending.indices[before_v >= p], -math.inf)


def keep_min_p(logits_v: Tensor, share: float) -> Tensor:
    """Keep tokens with at least this share of the probability of the most probable one; 0 keeps all."""
    if share == 0:
        return logits_v
    return logits_v.masked_fill(logits_v < logits_v.max() + math.log(share), -math.inf)
