"""Which language a text is in, and how sure that is; and the function words of languages."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl2chat.stages.files import StageError

# Of 978 real pages, 957 are sure after the first characters, and none gets another language than from the most.
# From those, 2 get another language than from their whole text, in half the time.
FIRST_CHARS, SURE = 1000, 0.99
MAX_CHARS = 3000
MAX_FEATURE_BYTES = 6  # bytes, of those that py3langid's model looks for
PIECE = 6  # bytes of the text that one walk covers
STOP_WORDS = Path(__file__).with_name("stop_words.txt")


def identify_language(text: str) -> tuple[str, float]:
    """ISO 639 code of the likeliest of 139 languages and its probability (py3langid, a naive Bayes over bytes).

    Only the beginning of a text is looked at, and more of it where that leaves a doubt.
    """
    language, score = _identifier().classify(text[:FIRST_CHARS])
    if score < SURE and len(text) > FIRST_CHARS:
        language, score = _identifier().classify(text[:MAX_CHARS])
    return str(language), min(1.0, float(score))


def require_languages(languages: Sequence[str]) -> None:
    """Raises StageError for codes that no text is ever identified as, such as a language's name."""
    known = sorted(map(str, _identifier().nb_classes)) if languages else []
    unknown = [code for code in languages if code not in known]
    if unknown:
        raise StageError(
            f"refine.languages = {', '.join(unknown)}: not among the languages that can be identified; expected "
            f"ISO 639 codes: {' '.join(known)}"
        )


@lru_cache(maxsize=1)
def stop_words_by_language() -> dict[str, frozenset[str]]:
    """ISO 639 code → function words, from `stop_words.txt` next to this file."""
    lines = STOP_WORDS.read_text(encoding="utf-8").splitlines()
    languages = (line.split() for line in lines if line and not line.startswith("#"))
    return {code: frozenset(words) for code, *words in languages}


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    class FastIdentifier(LanguageIdentifier):  # type: ignore[misc,unused-ignore]  # a library without types
        """The library's with the same answers in a third of the time: it walks a text byte by byte, in Python."""

        walk: "FeatureWalk"

        def _raw_score(self, text: bytes) -> Any:
            features, counts = self.walk.count(text)
            if not len(features):
                return super()._raw_score(text)
            return np.log1p(counts.astype(np.float32)) @ self.nb_ptc.take(features, axis=0) + self.nb_pc

    identifier = FastIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.walk = FeatureWalk(identifier.tk_nextmove, identifier.tk_row, identifier.tk_output)
    identifier.nb_ptc = identifier.nb_ptc.astype(np.float32)  # else each text's part is converted, at twice the time
    return identifier


class FeatureWalk:
    """py3langid's automaton over bytes, walked in all pieces of a text at once.

    The automaton is one of Aho and Corasick: its state says which beginning of a feature the text ends with, so
    the last MAX_FEATURE_BYTES bytes decide it. A walk that starts this many bytes before a piece is right
    when the piece begins.

    next_states: (rows * 256,) state after each byte. rows: (states,) where its next states are. features: (states,)
    the feature that ends in this state, or -1.
    """

    def __init__(self, next_states: Any, rows: Any, features: Any) -> None:
        self.next_states = np.asarray(next_states, np.uint32)
        self.first_next = np.asarray(rows, np.int64) * 256
        self.features = np.asarray(features, np.int32)

    def count(self, text: bytes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The features that occur, in order of their numbers, and how often each does."""
        n_pieces = len(text) // PIECE + 1
        padded = np.zeros(MAX_FEATURE_BYTES + n_pieces * PIECE, np.uint8)
        padded[MAX_FEATURE_BYTES : MAX_FEATURE_BYTES + len(text)] = np.frombuffer(text, np.uint8)
        states = np.zeros(n_pieces, np.uint32)
        visited = np.empty((PIECE, n_pieces), np.uint32)
        for step in range(-MAX_FEATURE_BYTES, PIECE):
            if step == 0:
                states[0] = 0  # there is no text before the first piece
            letters = padded[MAX_FEATURE_BYTES + step :: PIECE][:n_pieces]
            states = self.next_states.take(self.first_next.take(states) + letters)
            if step >= 0:
                visited[step] = states
        found = self.features.take(visited.T.ravel()[: len(text)])
        found = np.sort(found[found >= 0])
        starts = np.flatnonzero(found[1:] != found[:-1]) + 1
        starts = np.concatenate([[0], starts]) if len(found) else starts
        return found[starts], np.diff(starts, append=len(found))
