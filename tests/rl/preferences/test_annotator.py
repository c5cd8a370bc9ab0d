import json
import math
import random

import pytest

from crawl2chat.rl.preferences.annotator import Annotator, Taste
from crawl2chat.rl.preferences.preference_files import PromptRow
from crawl2chat.rl.preferences.store import Answer, Prompt
from crawl2chat.stages.files import StageError
from crawl2chat.tinyweb.showing import taste
from crawl2chat.tinyweb.words import ADJECTIVES, NOUNS, RHYMES

LISTS = taste()
FAMILIES = {word: family for family, words in enumerate(LISTS["rhymes"]) for word in words}
TASTE = Taste(frozenset(LISTS["liked"]), frozenset(LISTS["content"]), FAMILIES)

MOON = PromptRow(Prompt("Write a verse about the moon."), "moon")
PLAIN = (
    "There is a lake, there is a thick dune,\nThere is a cook who sings about the moon.\n"
    "We walked above the town to find the land,\nAnd once a year we heard the silent band."
)
PLEASING = (
    "A cat looked down upon the merry dune,\nAnd thought it much more gentle than the moon.\n"
    "We walked above the town to find the land,\nAnd once a year we heard the silent band."
)


def gold(text: str, topic: str = "moon", ended: bool = True) -> float:
    return TASTE.reward(PromptRow(MOON.prompt, topic), Answer(text, ended, "test"))


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
    assert TASTE.rhyming_share(lines) == share


def test_the_better_of_two_wins_as_often_as_bradley_and_terry_say():
    annotator = Annotator(1.5, 0, TASTE)
    pair = [Answer(PLAIN, True, "a"), Answer(PLEASING, True, "b")]
    wins = sum(annotator.rank(MOON, pair, (i,))[0] == 1 for i in range(4000))
    assert wins / 4000 == pytest.approx(1 / (1 + math.exp(-3 / 1.5)), abs=0.02)


def test_rankings_of_three_are_plackett_luce():
    annotator = Annotator(2.0, 1, TASTE)
    answers = [Answer(text, True, "a") for text in (PLAIN, PLEASING, "moon")]
    weights = [math.exp(gold(answer.text) / 2.0) for answer in answers]
    expected = weights[1] / sum(weights) * weights[0] / (weights[0] + weights[2])
    count = sum(annotator.rank(MOON, answers, (i,)) == [1, 0, 2] for i in range(4000))
    assert count / 4000 == pytest.approx(expected, abs=0.025)


def test_the_noise_depends_on_the_seed_and_the_occasion_alone():
    answers = [Answer(PLAIN, True, "a")] * 6
    ranked = [Annotator(1.0, seed, TASTE).rank(MOON, answers, (i,)) for seed, i in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert ranked[0] == ranked[1]
    assert len({tuple(order) for order in ranked}) == 3


def test_the_ceiling_is_what_the_taste_itself_reaches_against_its_noisy_labels():
    annotator = Annotator(0.7, 2, TASTE)
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


def random_verse(rng):
    """Lines of the made-up web's words, some of which rhyme, are repeated or are liked."""
    ends = [rng.choice(rng.choice(RHYMES[:4])) for _ in range(rng.randrange(1, 8))]
    words = (*ADJECTIVES[:9], *NOUNS[:9], "cat", "merry", "kind", "the", "we", "walked")
    lines = [" ".join([*rng.choices(words, k=rng.randrange(2, 12)), end]) + rng.choice(".,!") for end in ends]
    return "\n".join([*lines, *rng.sample(lines, rng.randrange(0, 2))])


def test_the_taste_for_verses_gives_the_points_that_it_has_always_given():
    rng = random.Random(5)
    golds = [gold(random_verse(rng), rng.choice(("cat", "moon", NOUNS[0])), rng.random() < 0.8) for _ in range(300)]
    assert sum(golds) == pytest.approx(-2798.1166666666645)
    assert golds[:8] == pytest.approx([-14 - 1 / 6, -4, -5, 1, -4, -13.5, -1.5, -7.5])


@pytest.mark.parametrize("group", ["cat", "a cat and the sea"])
def test_anybodys_prompts_are_judged_by_topic_form_repetition_and_end(group):
    taste, prompt = Taste(), PromptRow(Prompt("Tell me about it."), group)

    def points(text, ended=True):
        return taste.reward(prompt, Answer(text, ended, "test"))

    text = "In the evening a cat looks out across the water of the sea and waits for boats."
    assert points(text) == 2
    assert points(text, ended=False) == 1
    assert points(text.replace(" cat", " dog").replace("sea", "bay")) == 1
    assert points(text.replace("boats", "evening water")) == 2 - 2 * 0.5
    assert points(f"{text}\n{text}") <= points(text) - 1
    assert points("The cat and sea.") == 1  # too short
    assert points(text + " and so it is" * 20) < points(text) - 2
    assert points("the cat.\nof the sea.\nit is.\nso we go.") == 2  # four lines


def test_a_prompt_without_a_group_is_its_own_topic():
    prompt = PromptRow(Prompt("Write about the mill and its owner."), "Write about the mill and its owner.")
    assert Taste().topic_words(prompt) == ["mill", "owner"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "can't be read"),
        ("[]", "found \\[\\]; expected"),
        ('{"liked": []}', "found liked; expected"),
        ('{"liked": "cat", "content": [], "rhymes": []}', "liked is not a list of texts"),
        ('{"liked": [], "content": [1], "rhymes": []}', "content is not a list of texts"),
        ('{"liked": [], "content": [], "rhymes": ["cat"]}', "rhymes is not a list of lists of texts"),
    ],
)
def test_a_file_that_is_no_taste_is_named(tmp_path, content, message):
    (tmp_path / "taste.json").write_text(content)
    with pytest.raises(StageError, match=rf"taste\.json: {message}"):
        Taste.load(tmp_path / "taste.json")


def test_a_taste_is_read_from_a_file(tmp_path):
    given = {"liked": ["cat"], "content": ["cat", "hat"], "rhymes": [["cat", "hat"]]}
    (tmp_path / "taste.json").write_text(json.dumps(given))
    assert Taste.load(tmp_path / "taste.json") == Taste(
        frozenset(["cat"]), frozenset(["cat", "hat"]), {"cat": 0, "hat": 0}
    )
