"""What the parts of the base suite measure, in words for whoever reads their figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.figures import Figure

TIMES = "seconds/"  # a part's last figure is how long it took


@dataclass(frozen=True)
class Part:
    """What a part's figures are called together, and how they are to be read."""

    title: str
    note: str


NOTES = {
    "compression": Part(
        "Compression",
        "Bits that a byte of held-out text takes: by the model's predictions, by counts of one and of five tokens of "
        "the training text, and by programs over all of it as one file. The archive is a true one: written, and "
        "restored from what was written; archive exact says whether bit for bit. It holds the beginning of the "
        "held-out text alone, and xz there that too. zstd primed has training text before it.",
    ),
    "in_context": Part(
        "Learning from the prompt",
        "glossary/N: pages on which N invented words each stand before a meaning, then one of them again, and its "
        "meaning has to follow. Controls: absent, where the page does not hold that word; shuffled, where its meanings "
        "are changed about and the old one is counted; follows, where the new one is. definitions: the same in whole "
        "sentences. glossary guess: a meaning drawn from all that there are. phrase book: translations behind N lines "
        "of others; that language is the same on all pages, so the weights may know it.",
    ),
    "prompting": Part(
        "An assistant by its prompt",
        "Questions about often met people: bare, behind other questions with answers (few shot), and on a page where a "
        "helper is asked (interview). People whom no page asks about, if not said otherwise. in form: whether an "
        "answer is of the kind that was asked for at all. guess: a value of that kind drawn from all that there are.",
    ),
    "facts": Part(
        "Knowledge",
        "Facts by how often the training text tells them: as the end of a sentence (facts) and by question on a "
        "helper's page (answers), about people whom no page asks about. bits per fact: log2 of how much more probable "
        "the model finds the value than a guess among all; below 0 it is surer of wrong ones. "
        "by wordings: facts told equally often, in fewer and in more different wordings. bits stored and per "
        "parameter are sums over these facts alone, not what the model can hold.",
    ),
    "sums": Part(
        "Sums at once and step by step",
        "Sums that no page holds, by their digits: with the answer asked for at once, and with the steps written out "
        "before. The gain is over all of them, in points.",
    ),
    "spelling": Part(
        "Spelling and counting",
        "How text is cut into tokens; what can be read linearly from a token's embedding (tells) beside what is most "
        "common (guess); letters counted from the embeddings of words and of their letters; and tasks behind four "
        "examples, asked of whole words and of words spelled out. A share at the guess or below it is no skill.",
    ),
    "continuation": Part(
        "Continuation and diversity",
        "Texts drawn at each temperature and each top-p, and the held-out text in their place. distinct N: "
        "different N-grams of words among all. self similarity: 3-grams that stand in another text of the same "
        "setting, too. verbatim: words in stretches of 8 and more that stand in the training text. ended: texts that "
        "come to an end within the tokens given. training text searched: the share in which copies were looked for.",
    ),
    "recitation": Part(
        "Recitation",
        "Passages prompted with their first 16 tokens: the share that is continued word for word to the end, by copies "
        "in the training text to the nearest power of two, and how many words were right (the median). By prompt: "
        "given the N tokens before one and the same place.",
    ),
}  # fmt: skip


def by_part(figures: Sequence[Figure]) -> list[tuple[Part, list[Figure]]]:
    """The base suite's figures part by part in their order, without times; parts that measured nothing are left out."""
    parts: list[tuple[Part, list[Figure]]] = []
    found: list[Figure] = []
    for figure in figures:
        if not figure.name.startswith(TIMES):
            found.append(figure)
            continue
        if found:
            name = figure.name.removeprefix(TIMES)
            parts.append((NOTES.get(name, Part(name, "")), found))
        found = []
    return [*parts, (Part("Others", ""), found)] if found else parts
