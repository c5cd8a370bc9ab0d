"""What the trainer reads of answers: prompts with their answers as rows of a batch.

Shapes: P prompts, K answers each, B sequences, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import torch
from torch import Tensor

from crawl2chat.chat.tools import Episode
from crawl2chat.generate.request import Completion
from crawl2chat.model.ragged import pad
from crawl2chat.rl.tool_use import ToolAnswer

Prompts = list[list[int]]  # (P) token ids, such as of `encode_chat(…, add_generation_prompt=True)`
Groups = list[list[Completion]]  # (P, K)


@dataclass
class Sample:
    """A prompt with one answer to it, or with tools an episode of the answer, as the trainer reads it.

    of: number of the answer in the batch. weight: of its tokens (`answer_weights`). Log-probabilities of its
    tokens: `old`, the trainer's before the first of several updates; `reference`, the start's. entropy: of the
    distributions that they were drawn from, if this rank has learned from them.
    """

    prompt: list[int]
    answer: Completion
    advantage: float
    weight: float = 1.0
    old: Tensor | None = None
    reference: Tensor | None = None
    entropy: Tensor | None = None
    of: int = 0
    episode: Episode | None = None

    @property
    def ids(self) -> list[int]:
        return self.episode.ids if self.episode else self.prompt + self.answer.ids

    @property
    def logprobs(self) -> list[float]:
        """Of the tokens that the model wrote, as the sampler had them."""
        return list(compress(self.episode.logprobs, self.episode.is_model)) if self.episode else self.answer.logprobs

    @property
    def place(self) -> list[int]:
        """Of these tokens among predictions, which are one place before their tokens."""
        if self.episode:
            return [i - 1 for i, is_model in enumerate(self.episode.is_model) if is_model]
        return list(range(len(self.prompt) - 1, len(self) - 1))

    def __len__(self) -> int:
        return len(self.episode.ids) if self.episode else len(self.prompt) + len(self.answer.ids)


def samples_of(prompts: Prompts, groups: Groups, advantages_pk: Tensor) -> list[Sample]:
    """One sample per answer, prompt by prompt; of an answer with tools, one per episode."""
    samples: list[Sample] = []
    places = [(prompt, answer) for prompt, group in zip(prompts, groups, strict=True) for answer in group]
    for n, ((prompt, answer), advantage) in enumerate(zip(places, advantages_pk.flatten().tolist(), strict=True)):
        episodes = answer.episodes if isinstance(answer, ToolAnswer) else [None]
        samples += [Sample(prompt, answer, advantage, of=n, episode=episode) for episode in episodes]
    return samples


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Ids (B, T) padded on the right; mask and sampler's log-probabilities, (B, T − 1); advantages and weights (B)."""
    ids_bt = pad([sample.ids for sample in samples])
    mask_bt = torch.zeros(len(samples), ids_bt.shape[1] - 1)
    for row, sample in enumerate(samples):
        mask_bt[row, sample.place] = 1
    sampled_bt = rows_of([(sample.place, torch.tensor(sample.logprobs)) for sample in samples], mask_bt)
    advantages_b, weights_b = torch.tensor([(sample.advantage, sample.weight) for sample in samples]).T
    return ids_bt, mask_bt, sampled_bt, advantages_b, weights_b


def rows_of(values: Sequence[tuple[list[int], Tensor | None]], like_bt: Tensor) -> Tensor:
    """Each row's values at their places, and zeros elsewhere."""
    rows_bt = torch.zeros_like(like_bt)
    for row, (place, values_t) in enumerate(values):
        if values_t is not None:
            rows_bt[row, place] = values_t.to(rows_bt)
    return rows_bt
