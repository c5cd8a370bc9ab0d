"""Learn which blocks are main text, from pages with gold: python scripts/train_extractor.py WARC GOLD.

GOLD is JSONL: `url`, `must_contain` and `must_not_contain`, lists of segments of the page. A block with a segment is an
example of weight 1; the other blocks are weak examples, labelled by whether trafilatura keeps them, as it comes and
where it favours precision, which counts twice, so that pages unlike those of the few gold segments come out well too.
The second network learns from scores that the first one gives to sites it has not seen, as it will meet them later.
Sites whose name's hash ends in 6 to 9 are the test part, which only `bench/extract.py` looks at.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import xxhash

from crawl2chat.crawl import Page, read_warc
from crawl2chat.refine.text import main_content
from crawl2chat.refine.text.block_features import (
    CONTEXT_FEATURES,
    FEATURES,
    Floats,
    block_features,
    features_in_context,
)
from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.refine.text.extract import clean_characters, render_markdown
from crawl2chat.refine.text.html_blocks import html_blocks
from crawl2chat.refine.text.html_tags import Block
from crawl2chat.refine.text.main_content import WEIGHTS, Network, choose_blocks
from crawl2chat.stages.files import atomic_write
from crawl2chat.stages.progress import Progress

WEAK = 0.1  # weight of an example without gold; 0.02 to 0.4 are within 0.008 of F1 on the training part
HIDDEN = 32
EPOCHS = 12
FOLDS = 4


@dataclass(frozen=True)
class GoldPage:
    """A page and the segments, white space collapsed, that its main text must and must not contain."""

    url: str
    body: bytes = field(repr=False)
    content_type: str
    must_contain: list[str]
    must_not_contain: list[str]

    @property
    def html(self) -> str:
        return decode_html(self.body, self.content_type)


def read_gold(warc: Path, gold: Path) -> Iterator[GoldPage]:
    """The pages of a WARC that the gold file speaks of."""
    rows = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
    wanted = {row["url"].strip(): row for row in rows}
    for page in read_warc(str(warc)):
        row = wanted.get(page.url.strip()) if isinstance(page, Page) else None
        if row:
            assert isinstance(page, Page)
            segments = ([squash(text) for text in row[name]] for name in ("must_contain", "must_not_contain"))
            yield GoldPage(page.url.strip(), page.body, page.content_type, *segments)


def is_test_page(url: str) -> bool:
    """The same for all pages of a site, by the last two labels of its host."""
    return xxhash.xxh3_64_intdigest(site_of(url).encode()) % 10 >= 6


def site_of(url: str) -> str:
    """The last two labels of the host: whole sites fall into one part, at times several sites together (co.uk)."""
    return ".".join((urlsplit(url).hostname or "").split(".")[-2:])


def squash(text: str) -> str:
    """Text with single blanks: how gold segments are compared."""
    return " ".join(clean_characters(text).split())


def segment_scores(texts: Sequence[str], pages: Sequence[GoldPage]) -> tuple[float, float, float]:
    """Precision, recall and F1 over all segments: which are in the text, as they must or must not."""
    squashed = [squash(text) for text in texts]
    pairs = list(zip(squashed, pages, strict=True))
    hits = [segment in text for text, page in pairs for segment in page.must_contain]
    wrong = [segment in text for text, page in pairs for segment in page.must_not_contain]
    precision, recall = sum(hits) / max(sum(hits) + sum(wrong), 1), sum(hits) / max(len(hits), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def other_extractors(html: str) -> list[str]:
    """The text that trafilatura keeps, white space collapsed: by default, and twice where it favours precision."""
    import trafilatura

    default, precise = (
        squash(trafilatura.extract(html, include_comments=False, favor_precision=mode) or "") for mode in (False, True)
    )
    return [default, precise, precise]


def label_blocks(blocks: Sequence[Block], page: GoldPage, others: Sequence[str], weak: float) -> tuple[Floats, Floats]:
    """(blocks,) labels from 0 to 1 and (blocks,) weights of the examples."""
    labels, weights = np.zeros((2, len(blocks)), np.float32)
    for i, block in enumerate(blocks):
        text = squash(block.text)
        good = sum(segment in text for segment in page.must_contain)
        bad = sum(segment in text for segment in page.must_not_contain)
        if good or bad:
            labels[i], weights[i] = good / (good + bad), 1
        else:
            lines = [squash(line) for line in block.text.split("\n")]
            labels[i] = np.mean([[line in other for line in lines] for other in others])
            weights[i] = weak
    return labels, weights


@dataclass(frozen=True)
class Examples:
    """By page: its blocks, and (blocks, features), labels and weights; the fold of its site."""

    blocks: Sequence[Sequence[Block]]
    features: Sequence[Floats]
    labels: Sequence[Floats]
    weights: Sequence[Floats]
    fold: Sequence[int]

    def train_both(self, pages: Sequence[int]) -> tuple[Network, Network]:
        """The network for a block by itself, and the one for a block among scores, from some of the pages."""
        contexts: dict[int, Floats] = {}
        for k in range(FOLDS):
            unseen = [i for i in pages if self.fold[i] == k]
            if unseen:
                network = self._train([i for i in pages if self.fold[i] != k], self.features)
                contexts |= {i: self.in_context(i, network(self.features[i])) for i in unseen}
        return self._train(pages, self.features), self._train(pages, contexts)

    def in_context(self, page: int, scores: Floats) -> Floats:
        return features_in_context(self.blocks[page], self.features[page], scores)

    def _train(self, pages: Sequence[int], features: Sequence[Floats] | dict[int, Floats]) -> Network:
        columns = (features, self.labels, self.weights)
        return train(*(np.concatenate([column[i] for i in pages]) for column in columns))


def train(features: Floats, labels: Floats, weights: Floats, *, seed: int = 0, hidden: int = HIDDEN) -> Network:
    """Fit a network to examples; features: (blocks, features)."""
    import torch
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale < 1e-3, 1, scale)
    x, y, w = (torch.from_numpy(array) for array in ((features - mean) / scale, labels, weights))
    inner, outer = torch.nn.Linear(x.shape[1], hidden), torch.nn.Linear(hidden, 1)
    model = torch.nn.Sequential(torch.nn.Dropout(0.1), inner, torch.nn.ReLU(), torch.nn.Dropout(0.3), outer)
    batch = 512
    steps = EPOCHS * (len(x) // batch + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            losses = F.binary_cross_entropy_with_logits(model(x[rows])[:, 0], y[rows], reduction="none")
            optimizer.zero_grad()
            (losses * w[rows]).sum().div(w.mean() * batch).backward()
            optimizer.step()
            schedule.step()
    # the scaling of the features moves into the weights
    inner_weights = (inner.weight.detach().numpy().T / scale[:, None]).astype(np.float32)
    bias = (inner.bias.detach().numpy() - mean @ inner_weights).astype(np.float32)
    return Network(inner_weights, bias, outer.weight.detach().numpy()[0], float(outer.bias.detach()))


def write_networks(first: Network, second: Network, path: Path) -> None:
    """Write both as JSON that a person can read and a diff can show: one line per feature."""

    def numbers(values: Floats) -> str:
        return json.dumps([float(f"{value:.4g}") for value in values])

    def written(network: Network, features: Sequence[str]) -> str:
        rows = ",\n".join(f'  "{name}": {numbers(row)}' for name, row in zip(features, network.inner, strict=True))
        return (
            f'{{"inner": {{\n{rows}\n}},\n"inner_bias": {numbers(network.inner_bias)},\n'
            f'"outer": {numbers(network.outer)},\n"outer_bias": {network.outer_bias:.4g}}}'
        )

    with atomic_write(path) as temporary:
        temporary.write_text(
            f'{{"block": {written(first, FEATURES)},\n"context": {written(second, CONTEXT_FEATURES)}}}\n',
            encoding="utf-8",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("warc", type=Path)
    parser.add_argument("gold", type=Path)
    parser.add_argument(
        "--weak", type=float, default=WEAK, help="weight of an example without gold (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path(main_content.__file__).with_name(WEIGHTS))
    options = parser.parse_args()
    pages = [page for page in read_gold(options.warc, options.gold) if not is_test_page(page.url)]
    blocks = [html_blocks(page.html) for page in pages]
    pages, blocks = map(list, zip(*((page, b) for page, b in zip(pages, blocks, strict=True) if b), strict=True))
    labels, weights = [], []
    with Progress("what others keep", len(pages), "pages") as bar:
        for page, of_page in zip(pages, blocks, strict=True):
            of_blocks = label_blocks(of_page, page, other_extractors(page.html), options.weak)
            labels.append(of_blocks[0])
            weights.append(of_blocks[1])
            bar.update(len(labels))
    fold = [xxhash.xxh3_64_intdigest(f"{site_of(page.url)} fold".encode()) % FOLDS for page in pages]
    examples = Examples(blocks, [block_features(of_page) for of_page in blocks], labels, weights, fold)
    texts = [""] * len(pages)
    for k in range(FOLDS):
        first, second = examples.train_both([i for i in range(len(pages)) if fold[i] != k])
        for i in range(len(pages)):
            if fold[i] == k:
                scores = second(examples.in_context(i, first(examples.features[i])))
                texts[i] = render_markdown(choose_blocks(blocks[i], scores))
    print(
        "{} pages, {} folds: precision {:.4f}, recall {:.4f}, F1 {:.4f}".format(
            len(pages), FOLDS, *segment_scores(texts, pages)
        )
    )
    write_networks(*examples.train_both(range(len(pages))), options.out)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
