"""How a text is cut and how its tokens came to be."""

import regex
from hypothesis import example, given
from hypothesis import strategies as st

from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.inspection import Merge, cut, grapheme_ends, parts_of, replay, visible
from crawl2chat.tokenizer.public import load_public

GPT4 = load_public("gpt4")
# words, so that long tokens are met, and anything
TEXTS = st.lists(
    st.one_of(st.text(max_size=5), st.sampled_from(["the miller", " understanding", "東京", "🙂", "    "]))
).map("".join)
# "abcd" is a token to which no merges lead: bc, with the lowest rank, is merged first, and a and d are left
SKIPPING = Encoding(
    {bytes([i]): i for i in range(256)} | {b"bc": 256, b"ab": 257, b"abcd": 258, b"cd": 259}, {}, r"\w+|\W+"
)


def applied(encoding: Encoding, content: bytes, merges: list[Merge]) -> list[int]:
    """The ids after each merge was made on what the ones before had left."""
    parts = {i: (i + 1, encoding.ranks[content[i : i + 1]]) for i in range(len(content))}
    for merge in merges:
        inner = [begin for begin in parts if merge.begin <= begin < merge.end]
        assert inner[0] == merge.begin
        assert parts[inner[-1]][0] == merge.end
        if merge.middle is not None:
            assert inner == [merge.begin, merge.middle]
        for begin in inner:
            del parts[begin]
        assert encoding.ranks[content[merge.begin : merge.end]] == merge.rank
        parts = dict(sorted({**parts, merge.begin: (merge.end, merge.rank)}.items()))
    return [id for _, id in parts.values()]


@given(TEXTS)
def test_merges_end_at_the_ids_of_encode(tokenizer, text):
    for encoding in (GPT4, tokenizer):
        seen = cut(encoding, text)
        assert applied(encoding, seen.content, replay(encoding, seen)) == encoding.encode(text)


@given(st.text("abcd ", max_size=30))
@example("abc abcd")
def test_a_whole_piece_that_is_a_token_is_one_without_merges_that_lead_to_it(text):
    seen = cut(SKIPPING, text)
    merges = replay(SKIPPING, seen)
    assert applied(SKIPPING, seen.content, merges) == SKIPPING.encode(text)
    whole = [merge for merge in merges if merge.middle is None]
    assert len(whole) == text.split().count("abcd")


@given(st.text("abehilmnort ", max_size=60))
def test_each_merge_is_the_lowest_rank_in_the_whole_text(text):
    """Told by an encoder that goes through all the pieces at once."""
    content = text.encode()
    borders = {match.start() for match in regex.finditer(GPT4.pattern, text)}
    parts = list(range(len(content) + 1))
    for merge in replay(GPT4, cut(GPT4, text)):
        pairs = [(GPT4.ranks.get(content[parts[i] : parts[i + 2]]), parts[i : i + 3])
                 for i in range(len(parts) - 2) if parts[i + 1] not in borders]  # fmt: skip
        rank, place = min((rank, place) for rank, place in pairs if rank is not None)
        assert (merge.rank, [merge.begin, merge.middle, merge.end]) == (rank, place)
        parts.remove(place[1])


def test_parts_are_what_was_merged_last():
    assert parts_of(b" the", GPT4.ranks) == (b" th", b"e")
    assert parts_of(b"a", GPT4.ranks) is None
    assert parts_of(b"abcd", SKIPPING.ranks) is None


@given(TEXTS)
def test_groups_hold_whole_graphemes_and_no_smaller_ones_do(text):
    seen = cut(GPT4, text)
    graphemes = regex.findall(r"\X", seen.content.decode())
    ends = grapheme_ends(seen.content.decode()).tolist()
    assert ends[-1:] == [len(seen.content)][: len(text)]
    assert len(ends) == len(graphemes)
    groups = seen.ends[seen.group_ends - 1].tolist() if text else []
    assert groups == [end for end in seen.ends.tolist() if end in set(ends)]
    assert b"".join(seen.tokens()) == seen.content


def test_an_emoji_of_several_tokens_is_one_group():
    seen = cut(GPT4, "a👩‍👩‍👧")
    assert len(seen.ids) > 5
    assert seen.group_ends.tolist() == [1, len(seen.ids)]


def test_halves_of_surrogate_pairs_are_replaced():
    assert cut(GPT4, "a\ud83d").content.decode() == "a\ufffd"


def test_composed_text_is_what_is_cut(tokenizer):
    composing = type(tokenizer)(tokenizer.ranks, tokenizer.controls, nfc=True)
    assert cut(composing, "e\u0301").content == "é".encode()


def test_what_can_not_be_seen_is_shown():
    assert visible(" a\n\t\x1b\u202e".encode()) == "·a⏎⇥⟨1b⟩⟨202e⟩"
    assert visible(b" \xe4\xb8") == "·⟨e4⟩⟨b8⟩"
