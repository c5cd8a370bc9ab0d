import random

import numpy as np
import pytest

from crawl2chat.refine.text import language
from crawl2chat.refine.text.language import identify_language, require_languages, stop_words_by_language
from crawl2chat.stages.files import StageError


@pytest.fixture(scope="module")
def library():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def some_text(seed: int) -> str:
    draw = random.Random(seed)
    words = sorted(set().union(*draw.sample(sorted(stop_words_by_language().values(), key=sorted), 3)))
    return " ".join(draw.choice(words) + draw.choice(["", ",", "ß", "ж", "日"]) for _ in range(draw.randint(0, 400)))


@pytest.mark.parametrize("text", ["", "a", "日", "12 345", "\x00\x01", *map(some_text, range(40))])
def test_the_fast_walk_finds_what_the_library_finds(library, text):
    code, score = library.classify(text)
    assert language._identifier().classify(text) == (code, pytest.approx(score, abs=1e-4))


def test_a_text_whose_beginning_leaves_a_doubt_is_read_on():
    beginning = ("der Fluss und die Mühle " + "the river and the mill ") * 30
    doubtful = beginning[: language.FIRST_CHARS]
    assert language._identifier().classify(doubtful)[1] < language.SURE
    for rest, code in (("die Leute gingen nicht durch das Tal, ", "de"), ("people have not walked to it, ", "en")):
        assert identify_language(doubtful + rest * 100)[0] == code


def test_no_feature_is_longer_than_the_walk_begins_early():
    walk = language._identifier().walk
    is_known = np.arange(len(walk.first_next)) == 0
    for _ in range(language.MAX_FEATURE_BYTES):
        front = walk.first_next[is_known]
        for byte in range(256):
            is_known[walk.next_states[front + byte]] = True
    assert is_known.all()


def test_languages_of_the_stop_words_are_ones_that_can_be_identified(library):
    assert set(stop_words_by_language()) <= set(library.labels)


def test_what_is_no_code_of_a_language_is_told_before_any_page():
    require_languages(["en", "de", "zh"])
    with pytest.raises(StageError, match=r"refine.languages = english, xx: .* en "):
        require_languages(["english", "de", "xx"])
