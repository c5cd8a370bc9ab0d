import json

import numpy as np
import pytest
from train_extractor import (
    GoldPage,
    is_test_page,
    label_blocks,
    read_gold,
    segment_scores,
    train,
    write_networks,
)
from warcs import page_record, write_warc

from crawl2chat.refine.text import block_features, main_content
from crawl2chat.refine.text.block_features import CONTEXT_FEATURES
from crawl2chat.refine.text.html_blocks import html_blocks


def gold_page(must: list[str], must_not: list[str]) -> GoldPage:
    return GoldPage("https://example.org/", b"", "text/html", must, must_not)


def test_all_pages_of_a_site_are_in_one_part_and_the_parts_do_not_change():
    assert is_test_page("https://example.org/a") == is_test_page("http://www.example.org/b?c")
    parts = [is_test_page(f"https://www.site{i}.example/") for i in range(1000)]
    assert 330 < sum(parts) < 470
    assert parts[:8] == [False, True, False, True, False, False, False, False]


def test_segments_are_counted():
    pages = [gold_page(["a b", "c"], ["d"]), gold_page(["e"], ["f", "g"])]
    precision, recall, f1 = segment_scores(["a\n b d", "e f"], pages)
    assert (precision, recall) == (2 / 4, 2 / 3)
    assert f1 == pytest.approx(4 / 7)


def test_blocks_are_labelled_by_gold_first_and_by_the_others_else():
    blocks = html_blocks("<p>gold here<p>bad here<p>kept by one<p>kept by none")
    page = gold_page(["gold"], ["bad"])
    labels, weights = label_blocks(blocks, page, ["kept by one", "other"], weak=0.25)
    assert labels.tolist() == [1, 0, 0.5, 0]
    assert weights.tolist() == [1, 1, 0.25, 0.25]


def test_gold_is_matched_to_its_pages(tmp_path):
    write_warc(tmp_path / "a.warc.gz", [page_record(1, "One."), page_record(2, "Two.")])
    row = {"url": "https://host2.example.org/2 ", "must_contain": ["a \n b"], "must_not_contain": []}
    (tmp_path / "gold.jsonl").write_text(json.dumps(row) + "\n")
    (page,) = read_gold(tmp_path / "a.warc.gz", tmp_path / "gold.jsonl")
    assert (page.url, page.must_contain) == ("https://host2.example.org/2", ["a b"])
    assert "Two." in page.html


def test_a_trained_network_learns_its_examples():
    features, labels = made_examples(len(block_features.FEATURES))
    network = train(features, labels, np.ones(2000, np.float32))
    assert ((network(features) > 0.5) == labels).mean() > 0.8
    again = train(features, labels, np.ones(2000, np.float32))
    assert (again.inner == network.inner).all()


def test_networks_are_the_same_when_read_again(tmp_path, monkeypatch):
    networks = []
    for names in (block_features.FEATURES, CONTEXT_FEATURES):
        features, labels = made_examples(len(names))
        networks.append((features, train(features, labels, np.ones(2000, np.float32))))
    write_networks(networks[0][1], networks[1][1], tmp_path / "weights.json")
    # joined to a folder, an absolute path stays
    monkeypatch.setattr(main_content, "WEIGHTS", tmp_path / "weights.json")
    main_content._networks.cache_clear()
    read = main_content._networks()
    main_content._networks.cache_clear()
    for (features, network), again in zip(networks, read, strict=True):
        np.testing.assert_allclose(again(features), network(features), atol=0.02)


def made_examples(width: int) -> tuple[np.ndarray, np.ndarray]:
    features = np.random.default_rng(0).normal(size=(2000, width)).astype(np.float32)
    return features, (features[:, 0] + features[:, 1] > 0).astype(np.float32)
