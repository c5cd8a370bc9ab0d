"""What the embedding of a token tells about the letters in it, and why letters are counted better one by one.

A token is a number to the model: which letters it stands for is written nowhere, and can only be learned where a text
spells it out (Kaushal and Mahowald, arXiv 2206.02608, find it learned in part by models a thousand times larger).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crawl2chat.evals.base.subject import Subject
from crawl2chat.evals.bits_per_byte import count_ids
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tokenizer import Tokenizer

Floats = NDArray[np.float64]
FOLDS = 5
RIDGE = 1e-3  # of inputs whose deviation is 1; up to 10⁴ brings the counts from tokens nowhere above the guess
PROPERTIES: dict[str, Callable[[str], str]] = {
    "first_letter": lambda token: token.strip()[0].lower(),
    "last_letter": lambda token: token[-1].lower(),
    "length": lambda token: str(len(token.strip())),
    "leading_space": lambda token: str(token.startswith(" ")),
    "capital": lambda token: str(token.strip()[0].isupper()),
}
COUNTED = "earst"  # letters that many words hold, some of them twice


def embeddings(subject: Subject) -> Floats:
    """The input embedding of every id."""
    with torch.no_grad():
        weight: Floats = subject.model.model.embed_tokens.weight.double().cpu().numpy()
    return weight


def read_tokens(subject: Subject, embedded: Floats) -> list[Figure]:
    """What can be read linearly of a token from its embedding, of the half met more and the half met less often.

    Read from tokens that the readout was not fitted to; the guess always says what is most common.
    """
    letters = re.compile(rb" ?[A-Za-z]{2,}")
    n_met = count_ids(subject.training, len(embedded))
    tokens = [(id, text.decode()) for text, id in subject.tokenizer.ranks.items() if letters.fullmatch(text)]
    met = sorted((token for token in tokens if n_met[token[0]]), key=lambda token: -n_met[token[0]])
    figures: list[Figure] = []
    for how_often, some in (("often_met", met[: len(met) // 2]), ("rarely_met", met[len(met) // 2 :])):
        if len(some) < FOLDS:
            continue
        for name, of_token in PROPERTIES.items():
            labels = [of_token(text) for _, text in some]
            kinds = sorted(set(labels))
            targets = np.array([[float(label == kind) for kind in kinds] for label in labels])
            read = readout(embedded[[id for id, _ in some]], targets).argmax(axis=1)
            right = int((read == targets.argmax(axis=1)).sum())
            figures.append(share(f"{how_often}_token_tells/{name}", right, len(some)))
            guess = Counter(labels).most_common(1)[0][1] / len(some)
            figures.append(Figure(f"{how_often}_token_guess/{name}", guess, "share", None, len(some)))
    return figures


def count_letters(tokenizer: Tokenizer, words: Sequence[str], embedded: Floats) -> list[Figure]:
    """How often a letter stands in a word, read from the sum of its tokens' embeddings and of its letters'.

    The readout is linear and fitted to other words. Shares are over words, of five letters asked for in each.
    """
    if len(words) < FOLDS:
        return []
    as_tokens = np.array([embedded[tokenizer.encode(f" {word}")].sum(axis=0) for word in words])
    as_letters = np.array([embedded[tokenizer.encode(" " + " ".join(word))].sum(axis=0) for word in words])
    counts = np.array([[float(word.count(letter)) for letter in COUNTED] for word in words])
    common = np.array([Counter(column).most_common(1)[0][0] for column in counts.T.tolist()])
    figures: list[Figure] = []
    for name, read in (
        ("tokens", readout(as_tokens, counts)),
        ("letters", readout(as_letters, counts)),
        ("guess", np.broadcast_to(common, counts.shape)),
    ):
        right = (read.round() == counts).mean(axis=1)
        figures.append(mean(f"letter_count_read/{name}", right.tolist(), "share"))
    return figures


def readout(inputs: Floats, targets: Floats) -> Floats:
    """Ridge regression of targets (N, K) on inputs (N, C), each row predicted from the other folds."""
    centred = inputs - inputs.mean(axis=0)
    spread = float(centred.std()) or 1.0
    rows = np.concatenate([centred / spread, np.ones((len(inputs), 1))], axis=1)
    fold = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    predicted = np.zeros_like(targets)
    for k in range(FOLDS):
        known = rows[fold != k]
        weights = np.linalg.solve(known.T @ known + RIDGE * np.eye(rows.shape[1]), known.T @ targets[fold != k])
        predicted[fold == k] = rows[fold == k] @ weights
    return predicted
