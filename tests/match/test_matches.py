import numpy as np
import pytest
from effort import assert_linear
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl2chat.match.matches import covered_words, find_matches, training_texts
from crawl2chat.match.suffix_array import SuffixArray
from crawl2chat.refine.documents import Document
from crawl2chat.tokenizer.shards import write_tokens

OLD = "When the tired bridge forgot the river, eleven grey lanterns burned behind the mill."


def documents(*texts):
    return [Document(f"d{i}", text, f"http://host/{i}") for i, text in enumerate(texts)]


def naive_matches(texts, sources, least):
    """For every place the longest run that stands in a source, by trying all; those within the one before left out."""
    sources = [source.split() for source in sources]
    found = []
    for words in map(str.split, texts):
        longest = [
            max((n for n in range(len(words) - i + 1) if copies(words[i : i + n], sources)), default=0)
            for i in range(len(words))
        ]
        found.append(
            [
                (i, n, copies(words[i : i + n], sources))
                for i, n in enumerate(longest)
                if n >= least and (i == 0 or longest[i - 1] <= n)
            ]
        )
    return found


def copies(run, sources):
    return sum(words[i : i + len(run)] == run for words in sources for i in range(len(words) - len(run) + 1))


some_words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=14).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(some_words, max_size=3), st.lists(some_words, max_size=4), st.integers(1, 4))
def test_matches_are_those_that_trying_all_runs_finds(texts, sources, least):
    found = find_matches(texts, documents(*sources), least)
    as_words = [
        [(len(text[: m.begin].split()), m.words, m.copies) for m in matches]
        for text, matches in zip(texts, found, strict=True)
    ]
    assert as_words == naive_matches(texts, sources, least)


@given(st.lists(st.integers(0, 2), max_size=30))
def test_a_suffix_array_is_the_sorted_suffixes(ids):
    ids = [*ids, 3]
    array = SuffixArray(np.array(ids))
    assert array.order.tolist() == sorted(range(len(ids)), key=lambda i: ids[i:])


def test_a_match_says_where_how_long_how_often_and_in_which_document_first():
    text = f"It said: “{OLD}” and then it closed."
    sources = documents("Nothing here.", f"A sign.\n\n{OLD} Nobody reads it.", OLD.replace(" ", "\n"))
    ((match,),) = find_matches([text], sources)
    assert text[match.begin : match.end] == OLD
    assert (match.words, match.copies, match.document, match.url) == (14, 2, "d1", "http://host/1")
    assert covered_words(text, [match]) == (14, 20)


def test_words_of_a_long_text_with_many_matches_are_counted_quickly():
    """Each word was held against each match."""
    sources = [" ".join(f"w{7 * i + j}" for j in range(9)) for i in range(12_000)]
    text = " x ".join(sources)
    (matches,) = find_matches([text], documents(*sources))
    assert len(matches) == 12_000
    assert covered_words(text, matches) == (9 * 12_000, 10 * 12_000 - 1)

    def count(share: float) -> None:
        n = round(12_000 * share)
        covered_words(text[: matches[n - 1].end], matches[:n])

    assert_linear(count)


def test_a_word_glued_to_a_quotation_mark_is_no_other_word(tokenizer, tmp_path):
    """As tokens are: the one of `“When` differs from that of `When`."""
    training = write_tokens(["One reads: “" + OLD], tokenizer, tmp_path / "tokens")
    ((match,),) = find_matches([OLD], training_texts(tokenizer, training))
    assert (match.words, match.begin, match.end) == (14, 0, len(OLD))


@pytest.mark.parametrize("changed", [OLD.replace("river,", "river"), OLD.replace("river", "River")])
def test_punctuation_and_case_are_compared(changed):
    assert find_matches([changed], documents(OLD), 9) == [[]]


def test_marks_of_punctuation_are_no_words():
    text = "a . . . . . . . . . . b"
    assert find_matches([text], documents(text)) == [[]]
    assert find_matches([text], documents(text), 2)[0][0].words == 2


def test_no_match_goes_on_into_the_next_document():
    found = find_matches([OLD], documents(OLD[:40], OLD[40:]), 2)[0]
    assert [OLD[match.begin : match.end] for match in found] == [OLD[:39], OLD[40:]]


def test_training_texts_are_the_documents_without_their_first_token(tokenizer, tmp_path):
    texts = ["The mill.", OLD, "ünï 東京"]
    training = write_tokens(texts, tokenizer, tmp_path / "tokens")
    assert [document.text for document in training_texts(tokenizer, training)] == texts


def test_of_nothing_there_are_no_matches():
    assert find_matches([], documents(OLD)) == []
    assert find_matches(["", OLD], []) == [[], []]
    assert find_matches([""], documents(OLD)) == [[]]
    with pytest.raises(ValueError, match="must be at least 1"):
        find_matches([OLD], documents(OLD), 0)


@pytest.mark.parametrize(
    "passage",
    [
        "他们先清理了河道里的淤泥，又到山上挑选合适的木料。",
        "พวกเขาเริ่มจากการขุดโคลนออกจากลำธาร แล้วจึงขึ้นไปบนภูเขา",
        "सबसे पहले उन्होंने नाले से कीचड़ निकाला और फिर पहाड़ पर गए।",
    ],
)
def test_matches_are_found_in_scripts_without_spaces_and_with_vowel_signs(passage):
    text = f"He quoted: {passage} Then he left."
    ((match,),) = find_matches([text], documents(f"开始。{passage}“结束”", "something else"))
    assert text[match.begin : match.end] == passage
    assert 8 <= match.words < len(passage)
    words, all_words = covered_words(text, [match])
    assert (words, all_words) == (match.words, match.words + 5)
