"""Which language a text is in, and how sure that is."""

from functools import lru_cache
from typing import Any

MAX_CHARS = 3000  # of 978 real pages 2 get another language than from their whole text, in half the time


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify_language(text: str) -> tuple[str, float]:
    """ISO 639 code of the likeliest of 139 languages and its probability (py3langid, a naive Bayes over bytes)."""
    language, score = _identifier().classify(text[:MAX_CHARS])
    return str(language), min(1.0, float(score))
