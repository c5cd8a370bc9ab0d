"""Is a text like those that one wants? A linear model over hashed words and pairs of words, as fastText's.

DCLM (arXiv 2406.11794) keeps the best 10 % of a crawl by such a model and found it better than embeddings,
perplexity and language models as judges.
"""

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from crawl2chat.refine.documents import Losses, is_text, read_texts
from crawl2chat.refine.text.ngram_hash import text_ngrams
from crawl2chat.stages.figures import area_under_roc
from crawl2chat.stages.files import StageError, atomic_write, read_json, write_json
from crawl2chat.stages.progress import Progress
from crawl2chat.stages.text_files import NotText, decode_lossy, open_utf8, read_text

VERSION = 2  # of the features; raise it when the same text gets others
WEIGHTS, ABOUT = "classifier.safetensors", "classifier.json"
BATCH = 32  # texts
RATE = 0.1  # of AdaGrad: how far a weight moves when it is first touched
MIN_TEXTS = 5  # that have a feature; what fewer have is learned by heart and misleads (AUC 0.98 instead of 0.93)
PERCENTILES = range(0, 101, 5)

Features = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """weights: (2^bits,) of the features. about: what it was trained on and how well it did on texts held out."""

    weights: Floats = field(repr=False)
    bias: float
    about: dict[str, Any] = field(repr=False)

    @property
    def bits(self) -> int:
        return len(self.weights).bit_length() - 1

    def score(self, text: str) -> float:
        """Log odds that the text is a positive one rather than a negative one: above 0 it rather is."""
        return self.score_features(features_of(text, self.bits))

    def score_features(self, features: Features) -> float:
        return float(self.weights[features].sum(dtype=np.float64)) / math.sqrt(len(features) or 1) + self.bias

    def describe(self) -> str:
        """What it was trained on and how well it did, for people."""
        learned, held = self.about["trained_on"], self.about["held_out"]
        return (
            f"trained on {learned['positive']:,} positive and {learned['negative']:,} negative texts; of "
            f"{held['positive']:,} and {held['negative']:,} held out: "
            f"accuracy {100 * held['accuracy']:.1f} % (mean of both classes), AUC {held['auc']:.4f}"
        )

    def save(self, folder: Path) -> None:
        """Write it, in place of another classifier. Raises StageError for a folder that holds anything else."""
        from safetensors.numpy import save_file

        if folder.exists() and not (folder / ABOUT).exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise StageError(f"{folder}: exists and is not a classifier; give --out a new folder")
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            save_file({"weights": self.weights, "bias": np.array([self.bias], np.float32)}, temporary / WEIGHTS)
            write_json(temporary / ABOUT, self.about)


@lru_cache(maxsize=2)
def load_classifier(folder: str) -> Classifier:
    """The model that `Classifier.save` left, read once per process. Raises StageError if there is none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder).expanduser()
    try:
        about = read_json(path / ABOUT)
        tensors = load_file(path / WEIGHTS)
        model = Classifier(tensors["weights"], float(tensors["bias"][0]), about)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise StageError(f"{folder}: no classifier here ({error}); make one with `crawl2chat classify`") from error
    if about.get("version") != VERSION or 1 << model.bits != len(model.weights):
        raise StageError(f"{folder}: a classifier of version {about.get('version')}, not {VERSION}; train it again")
    return model


def features_of(text: str, bits: int) -> Features:
    """Each word and each pair of neighbours once, as numbers below 2^bits. How often it occurs does not count."""
    hashed = [grams for _, grams in text_ngrams(text, (1, 2))]
    if not hashed:
        return np.zeros(0, np.uint32)
    return np.unique((np.concatenate(hashed) >> np.uint64(64 - bits)).astype(np.uint32))


def train(
    positive: Iterable[str],
    negative: Iterable[str],
    *,
    bits: int = 20,
    epochs: int = 5,
    held_out: float = 0.1,
    seed: int = 0,
) -> Classifier:
    """Fit a logistic regression by AdaGrad (Duchi et al. 2011) and measure it on a share of the texts held out.

    Both classes count the same, however many texts they have. Texts that occur twice are taken once, as one
    could be held out and the other learned from. Raises StageError for classes with too few texts.
    """
    classes = [_distinct(texts, bits) for texts in (negative, positive)]
    random = np.random.default_rng(seed)
    parts = [_split(texts, held_out, random) for texts in classes]
    for name, (held, learned) in zip(("negative", "positive"), parts, strict=True):
        if not held or not learned:
            raise StageError(
                f"classify: {len(held) + len(learned)} different {name} texts are too few to learn from; give "
                "--positive and --negative, or --labels"
            )
    learned_from, labels = _common(
        parts[0][1] + parts[1][1], np.repeat([0.0, 1.0], [len(parts[0][1]), len(parts[1][1])]), bits
    )
    weights, bias = _fit(learned_from, labels, bits, epochs, random)
    model = Classifier(weights.astype(np.float32), float(np.float32(bias)), {})  # as it will be saved
    scores = [np.array([model.score_features(text) for text in held]) for held, _ in parts]
    about = {
        "version": VERSION,
        "settings": {"bits": bits, "epochs": epochs, "held_out": held_out, "seed": seed},
        "trained_on": {"positive": len(parts[1][1]), "negative": len(parts[0][1])},
        "held_out": {
            "positive": len(scores[1]),
            "negative": len(scores[0]),
            "accuracy": (np.mean(scores[1] > 0) + np.mean(scores[0] <= 0)) / 2,  # of both classes the mean
            "auc": area_under_roc(scores[1].tolist(), scores[0].tolist()),
        },
        "percentiles": {  # scores of the held-out texts below which 0 %, 5 % ... of them lie
            "positive": np.percentile(scores[1], PERCENTILES).round(4).tolist(),
            "negative": np.percentile(scores[0], PERCENTILES).round(4).tolist(),
        },
    }
    return Classifier(model.weights, model.bias, about)


def train_from_files(
    positive: Sequence[Path], negative: Sequence[Path], labels: Sequence[Path], threshold: float, **settings: Any
) -> Classifier:
    """Train on texts of files (see `read_training_texts`) and on a judge's labels, positive from `threshold` on.

    settings: of `train`. Raises StageError if files can't be read or a class has no texts.
    """
    good, bad = read_labels(labels, threshold)
    return train(
        chain(read_training_texts(positive, "positive"), good),
        chain(read_training_texts(negative, "negative"), bad),
        **settings,
    )


def _distinct(texts: Iterable[str], bits: int) -> list[Features]:
    """Features of texts that have any, each set of them once."""
    distinct: dict[bytes, Features] = {}
    for text in texts:
        features = features_of(text, bits)
        if len(features):
            distinct.setdefault(xxhash.xxh3_128_digest(features.tobytes()), features)
    return list(distinct.values())


def _split(texts: list[Features], share: float, random: np.random.Generator) -> tuple[list[Features], list[Features]]:
    order = random.permutation(len(texts)).tolist()
    count = round(share * len(texts))
    return [texts[i] for i in order[:count]], [texts[i] for i in order[count:]]


def _common(
    texts: list[Features], labels: npt.NDArray[np.float64], bits: int
) -> tuple[list[Features], npt.NDArray[np.float64]]:
    """Texts without their rare features, and the labels of those that have any left."""
    counts = np.zeros(1 << bits, np.int64)
    for text in texts:
        counts[text] += 1
    is_common = counts >= MIN_TEXTS
    texts = [text[is_common[text]] for text in texts]
    has_any = [i for i, text in enumerate(texts) if len(text)]
    return [texts[i] for i in has_any], labels[has_any]


def _fit(
    texts: list[Features], labels: npt.NDArray[np.float64], bits: int, epochs: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], float]:
    """Weights (2^bits,) and bias that make the labels (0 or 1) likely."""
    weights, squares = np.zeros(1 << bits), np.zeros(1 << bits)
    bias, bias_squares = 0.0, 1e-12
    share = labels.mean()
    if not 0 < share < 1:
        raise StageError(f"classify: words that {MIN_TEXTS} texts share are in one class alone; give more texts")
    importance = np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))
    batches = math.ceil(len(texts) / BATCH)
    with Progress("classify", epochs * batches, "batches") as bar:
        for epoch in range(epochs):
            order = random.permutation(len(texts))
            lost = 0.0
            for i in range(batches):
                batch = order[i * BATCH : (i + 1) * BATCH]
                flat = np.concatenate([texts[j] for j in batch])
                lengths = np.array([len(texts[j]) for j in batch])
                scale = 1 / np.sqrt(lengths)
                margins = np.add.reduceat(weights[flat], np.cumsum(lengths) - lengths) * scale + bias
                chances = 0.5 * (1 + np.tanh(margins / 2))  # the logistic function, without overflow
                wrong = (chances - labels[batch]) * importance[batch] / len(batch)
                lost += float(
                    np.sum(importance[batch] * np.logaddexp(0, np.where(labels[batch] == 1, -1, 1) * margins))
                )
                gradient = np.bincount(flat, np.repeat(wrong * scale, lengths), 1 << bits)
                touched = np.flatnonzero(gradient)
                squares[touched] += gradient[touched] ** 2
                weights[touched] -= RATE * gradient[touched] / np.sqrt(squares[touched])
                bias_squares += float(wrong.sum()) ** 2
                bias -= RATE * float(wrong.sum()) / math.sqrt(bias_squares)
                seen = min((i + 1) * BATCH, len(texts))
                bar.update(epoch * batches + i + 1, f"epoch {epoch + 1}/{epochs}  loss {lost / seen:.3f}")
    return weights, bias


def read_training_texts(files: Sequence[Path], label: str) -> Iterator[str]:
    """Texts of Parquet (column text), JSON lines (text), folders of them, or text files, whose paragraphs are texts."""
    if not files:
        return
    with Progress(label, len(files), "files") as bar:
        count = 0
        for i, file in enumerate(files):
            for text in _paragraphs(file) if file.is_file() and is_text(file) else read_texts(file, label="classify"):
                count += 1
                bar.update(i, f"{count:,} texts")
                yield text
        bar.update(len(files), f"{count:,} texts")


def read_labels(files: Sequence[Path], threshold: float) -> tuple[list[str], list[str]]:
    """Texts that a judge gave at least `threshold`, and the others; those it gave no score are left out."""
    good: list[str] = []
    bad: list[str] = []
    for file in files:
        try:
            rows = [json.loads(line) for line in read_text(file).split("\n") if line.strip()]
            scored = [(float(row["score"]), str(row["text"])) for row in rows if row["score"] is not None]
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise StageError(f"{file}: no labels ({error!r}); expected what `crawl2chat judge` writes") from error
        good += [text for score, text in scored if score >= threshold]
        bad += [text for score, text in scored if score < threshold]
    return good, bad


def _paragraphs(file: Path) -> Iterator[str]:
    """Stretches of lines between empty ones; bytes that are not UTF-8 become U+FFFD and are reported in the end."""
    losses = Losses()
    paragraph: list[str] = []
    at = 0
    try:
        with open_utf8(file) as content:
            for raw in content:
                line, bad, first = decode_lossy(raw)
                if bad:
                    losses.add_bad_bytes(file.name, bad, f"byte {at + first:,}")
                at += len(raw)
                if line.strip():
                    paragraph.append(line.replace("\r\n", "\n"))
                elif paragraph:
                    yield "".join(paragraph)
                    paragraph = []
            if paragraph:
                yield "".join(paragraph)
    except (OSError, EOFError, zlib.error, NotText) as error:
        raise StageError(f"{file}: can't be read ({error}); expected paragraphs with empty lines between") from error
    losses.report("classify")
