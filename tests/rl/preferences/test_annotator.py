import math

import pytest

from crawl2chat.rl.preferences.annotator import Annotator, gold_reward, rhyming_share
from crawl2chat.rl.preferences.store import Answer
from crawl2chat.rl.preferences.verses import VersePrompt, verse_prompts
from crawl2chat.tinyweb.ledger import Verse

MOON = VersePrompt("moon", "Write a verse about the moon.")
PLAIN = (
    "There is a lake, there is a thick dune,\nThere is a cook who sings about the moon.\n"
    "We walked above the town to find the land,\nAnd once a year we heard the silent band."
)
PLEASING = (
    "A cat looked down upon the merry dune,\nAnd thought it much more gentle than the moon.\n"
    "We walked above the town to find the land,\nAnd once a year we heard the silent band."
)


def gold(text: str, topic: str = "moon", ended: bool = True) -> float:
    return gold_reward(topic, Answer(text, ended, "test"))


def test_points_are_given_as_the_taste_says():
    assert gold(PLAIN) == 1 + 1 + 1  # topic, form, rhyme
    assert gold(PLEASING) == 3 + 1 + 1 + 1  # and a cat, merry, gentle
    assert gold(PLAIN, topic="king") == gold(PLAIN) - 1
    assert gold(PLAIN, ended=False) == gold(PLAIN) - 1
    assert gold(PLAIN.replace("dune", "wall")) == gold(PLAIN) - 0.5  # one couplet no longer rhymes
    assert gold("moon") == 1  # one line is no verse


def test_three_liked_things_are_enough_and_more_of_them_cloy():
    more = [PLEASING.replace("silent", words) for words in ("silent", "kind", "kind warm", "kind warm wise")]
    assert [gold(PLEASING) - gold(text) for text in more] == [0, 1, 2, 3]


def test_what_is_said_again_costs_and_without_end():
    assert gold(PLEASING.replace("silent", "merry")) == gold(PLEASING) - 1 - 0.5
    assert gold(PLAIN.replace("silent", "thick thick")) == gold(PLAIN) - 1
    golds = [gold("\n".join([PLEASING] * n)) for n in range(1, 6)]
    assert golds == sorted(golds, reverse=True)
    assert golds[-1] < -5


def test_running_on_costs_a_point_every_ten_words():
    long = PLAIN + " and so on" * 20
    assert gold(long) == gold(PLAIN.replace("band.", "band. on")) - (len(long.split()) - 60) / 10


@pytest.mark.parametrize(
    ("lines", "share"),
    [
        (["the moon", "a spoon"], 1),
        (["the moon", "the moon"], 0),
        (["a cat", "a hat", "x", "y"], 0.5),
        (["moon"], 0),
        ([], 0),
    ],
)
def test_a_couplet_rhymes_when_two_different_words_sound_alike(lines, share):
    assert rhyming_share(lines) == share


def test_the_better_of_two_wins_as_often_as_bradley_and_terry_say():
    annotator = Annotator(noise=1.5, seed=0)
    pair = [Answer(PLAIN, True, "a"), Answer(PLEASING, True, "b")]
    wins = sum(annotator.rank(MOON, pair, (i,))[0] == 1 for i in range(4000))
    assert wins / 4000 == pytest.approx(1 / (1 + math.exp(-3 / 1.5)), abs=0.02)


def test_rankings_of_three_are_plackett_luce():
    annotator = Annotator(noise=2.0, seed=1)
    answers = [Answer(text, True, "a") for text in (PLAIN, PLEASING, "moon")]
    weights = [math.exp(gold(answer.text) / 2.0) for answer in answers]
    expected = weights[1] / sum(weights) * weights[0] / (weights[0] + weights[2])
    count = sum(annotator.rank(MOON, answers, (i,)) == [1, 0, 2] for i in range(4000))
    assert count / 4000 == pytest.approx(expected, abs=0.025)


def test_the_noise_depends_on_the_seed_and_the_occasion_alone():
    answers = [Answer(PLAIN, True, "a")] * 6
    ranked = [Annotator(1.0, seed).rank(MOON, answers, (i,)) for seed, i in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert ranked[0] == ranked[1]
    assert len({tuple(order) for order in ranked}) == 3


def test_the_ceiling_is_what_the_taste_itself_reaches_against_its_noisy_labels():
    annotator = Annotator(noise=0.7, seed=2)
    answers = [Answer(text, True, "a") for text in (PLAIN, PLEASING, "moon", "the cat")]
    golds = [gold(answer.text) for answer in answers]
    right = pairs = 0
    for i in range(2000):
        order = annotator.rank(MOON, answers, (i,))
        for a in range(4):
            for b in range(a + 1, 4):
                right += golds[order[a]] > golds[order[b]] or (golds[order[a]] == golds[order[b]]) * 0.5
                pairs += 1
    assert right / pairs == pytest.approx(annotator.ceiling([golds]), abs=0.01)
    assert annotator.ceiling([[1.0, 1.0]]) == 0.5


def test_held_out_topics_are_in_no_prompt_that_is_ranked():
    verses = [
        Verse("", f"O tell me, cook, have you seen the {noun}?\nIt lies")
        for noun in ("moon", "sea", "hat", "hill", "king")
    ]
    ranked, held_out = verse_prompts(verses)
    assert {p.topic for p in held_out}.isdisjoint({p.topic for p in ranked})
    assert len(held_out) == 3
    assert len(ranked) == 12
    assert all(prompt.topic in prompt.text for prompt in ranked)
    assert verse_prompts(verses) == (ranked, held_out)
