"""Questions that nobody has to write: a sentence with a name, date or number left out (the cloze test; Taylor 1953).

A machine's reading was first measured on many of them (Hermann et al., arXiv 1506.03340).
"""

from crawl2chat.evals.judging import mentions
from crawl2chat.refine.text.words import split_words
from crawl2chat.synthesis.passages import SENTENCE_END

GAP = "____"
FEWEST, MOST = 8, 40  # words of a sentence; of fewer, other sentences would do as well
WORDINGS = ("What is missing in this sentence? “{}”", "Fill the gap: “{}”", "Which words belong in the gap? “{}”")


def gap_questions(passage: str, answer: str, wordings: int) -> list[str]:
    """The sentence of a passage that has the answer, with a gap in its place, in some wordings; [] if none is fit.

    It must have the answer once, or what is left would give it away.
    """
    for line in passage.split("\n"):
        for sentence in SENTENCE_END.split(line.strip()):
            if sentence.count(answer) != 1 or not mentions(sentence, answer):
                continue
            left = sentence.replace(answer, GAP)
            if FEWEST <= len(split_words(sentence)) <= MOST and not mentions(left, answer):
                return [wording.format(left) for wording in WORDINGS[:wordings]]
    return []
