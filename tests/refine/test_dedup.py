import numpy as np
from warcs import prose

from crawl2chat.refine.dedup import Copy, find_copies, sign
from crawl2chat.refine.settings import DedupSettings

SETTINGS = DedupSettings()


def copies(texts: list[str], settings: DedupSettings = SETTINGS) -> dict[int, Copy]:
    signatures = [sign(text, settings) for text in texts]
    buckets = np.zeros((len(texts), settings.buckets), np.uint64)
    low_bytes = np.zeros((len(texts), settings.buckets * settings.hashes_per_bucket), np.uint8)
    for i, signature in enumerate(signatures):
        if len(signature.buckets):
            buckets[i], low_bytes[i] = signature.buckets, signature.low_bytes
    return find_copies([s.exact for s in signatures], buckets, low_bytes, [len(t) for t in texts], settings)


def test_equal_but_for_case_and_blanks_is_an_exact_copy_of_the_longest():
    text = prose(1)
    assert copies([text.upper(), text.replace(" ", "  "), prose(2)]) == {0: Copy(1, exact=True)}


def test_a_small_edit_is_a_near_copy_and_the_longest_stays():
    text = prose(1, 60)
    assert copies([text, prose(2, 60), text + " And one sentence more."]) == {0: Copy(2, exact=False)}


def test_of_equal_texts_the_first_stays():
    assert copies([prose(1)] * 3) == {1: Copy(0, exact=True), 2: Copy(0, exact=True)}


def test_exact_copies_of_a_near_copy_name_the_text_that_stays():
    text, longer = prose(1, 60), prose(1, 60) + " And one sentence more."
    assert copies([text, text, longer]) == {0: Copy(2, exact=False), 1: Copy(2, exact=True)}


def test_copies_of_copies_are_one_cluster():
    words = prose(1, 90).split()
    chain = [" ".join(words[i * 12 : i * 12 + 600]) for i in range(5)]
    found = copies(chain)
    assert len({found.get(i, Copy(i, exact=True)).kept for i in range(5)}) == 1


def test_pages_that_quote_the_same_passage_stay():
    passage = prose(0, 24)
    assert copies([f"{prose(2 * i, 21)}\n\n{passage}\n\n{prose(2 * i + 1, 21)}" for i in range(1, 129)]) == {}


def test_empty_and_tiny_texts_are_compared_too():
    assert copies(["", "", "!", "yes", "no", "Yes"]) == {1: Copy(0, exact=True), 5: Copy(3, exact=True)}
    assert copies(["yes, it is!", "yes it is"]) == {1: Copy(0, exact=False)}
    assert copies([]) == {}


def test_each_kind_can_be_switched_off():
    texts = [prose(1), prose(1), prose(1) + " More."]
    assert copies(texts, DedupSettings(exact=False, near=False)) == {}
    assert set(copies(texts, DedupSettings(near=False))) == {1}


def test_near_copies_are_found_as_often_as_the_theory_says():
    """At similarity s a pair meets in a bucket with probability 1 - (1 - s^8)^14: 0.92 at 0.8."""
    settings = DedupSettings(buckets=14, hashes_per_bucket=8)
    random = np.random.default_rng(0)
    met = 0
    for _ in range(200):
        shared, own, other = (random.integers(10**9, size=n).astype(str).tolist() for n in (804, 100, 100))
        pair = [sign(" ".join(shared + rest), settings).buckets for rest in (own, other)]
        met += bool((pair[0] == pair[1]).any())
    assert 0.86 < met / 200 < 0.97


def test_signatures_never_change():
    """Signatures are kept in files; when this fails, raise SIGNATURE_VERSION and write the new numbers here."""
    settings = DedupSettings(buckets=14, hashes_per_bucket=8)
    signature = sign("The miller went down to the river in the morning.", settings)
    assert signature.exact.hex() == "df3e4cc4716baff7ff904fc45e4037fc"
    assert signature.buckets[:2].tolist() == [9581344823409859237, 16326121731904660520]
    assert signature.low_bytes[:6].tolist() == [222, 52, 244, 234, 104, 226]
