"""The quality classifier against fastText, on the same texts: does it tell prose from pages, and how fast?

    python bench/classify.py --shared FOLDER [--seeds 3]

Positive: paragraphs of prose/prose.txt.gz. Negative: the text of web-pages/web-pages.warc.gz. Two settings: all pages
against all paragraphs, and English pages alone with both cut to 150 words, so that neither language nor length
tells them apart. A tenth is held out. fastText (pip install fasttext-wheel) is trained as DCLM did: pairs of words, its
defaults otherwise, on the same normalised words; left out where it is not installed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from crawl2chat.crawl import Page, read_warc
from crawl2chat.refine import extract_text
from crawl2chat.refine.quality.classify import read_training_texts, train
from crawl2chat.refine.text.language import identify_language
from crawl2chat.refine.text.ngram_hash import words_of
from crawl2chat.stages.figures import area_under_roc

CUT = 150  # words
Scorer = Callable[[str], float]


def ours(positive: list[str], negative: list[str]) -> Scorer:
    return train(positive, negative, held_out=0.01).score


def fasttext(positive: list[str], negative: list[str]) -> Scorer:
    import fasttext

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for label, texts in (("p", positive), ("n", negative)):
            file.writelines(f"__label__{label} {' '.join(words_of(text))}\n" for text in texts)
        file.flush()
        model = fasttext.train_supervised(file.name, wordNgrams=2, thread=1, verbose=0)

    def score(text: str) -> float:
        chances = {
            label: chance for chance, label in model.f.predict(" ".join(words_of(text)) + "\n", 2, 0.0, "strict")
        }
        return chances["__label__p"] - chances["__label__n"]

    return score


def measure(
    method: Callable[[list[str], list[str]], Scorer], positive: list[str], negative: list[str], seed: int
) -> tuple[float, float, float, float]:
    """Accuracy (mean of both classes) and AUC on the tenth held out; seconds of training; texts scored a second."""
    random = np.random.default_rng(seed)
    shuffled = [[texts[i] for i in random.permutation(len(texts))] for texts in (positive, negative)]
    held = [texts[: len(texts) // 10] for texts in shuffled]
    began = time.process_time()
    score = method(*(texts[len(texts) // 10 :] for texts in shuffled))
    trained = time.process_time()
    good, bad = (np.array([score(text) for text in texts]) for texts in held)
    seconds = time.process_time() - trained
    accuracy = (np.mean(good > 0) + np.mean(bad <= 0)) / 2
    return accuracy, area_under_roc(good.tolist(), bad.tolist()), trained - began, (len(good) + len(bad)) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/prose and data/web-pages")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = options.shared / "data"
    prose = sorted(set(read_training_texts([data / "prose" / "prose.txt.gz"], "prose")))
    crawl = read_warc(str(data / "web-pages" / "web-pages.warc.gz"))
    pages = [extract_text(page.body, page.content_type) for page in crawl if isinstance(page, Page)]
    pages = sorted({page for page in pages if page})
    english = [page for page in pages if identify_language(page)[0] == "en"]
    cut = [[" ".join(text.split()[:CUT]) for text in texts if len(text.split()) >= CUT] for texts in (prose, english)]
    print(f"{'texts':24} {'method':10} {'accuracy':>8} {'AUC':>7} {'training':>9} {'texts':>8}")
    for name, positive, negative in (("all", prose, pages), (f"English, {CUT} words", *cut)):
        for method in (ours, fasttext):
            try:
                rounds = [measure(method, positive, negative, seed) for seed in range(options.seeds)]
            except ImportError:
                continue
            accuracy, auc, seconds, speed = (statistics.median(column) for column in zip(*rounds, strict=True))
            figures = f"{100 * accuracy:6.1f} % {auc:7.4f} {seconds:7.1f} s {speed:6,.0f} /s"
            print(f"{name:24} {method.__name__:10} {figures}")
        print(f"{'':24} ({len(positive):,} and {len(negative):,} texts)")


if __name__ == "__main__":
    main()
