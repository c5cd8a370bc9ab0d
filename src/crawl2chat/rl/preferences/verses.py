"""What verses are asked for: topics from the web's own verses, some of which are kept out of every ranking."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.chat.synthesize import ASK_FOR_VERSE, verse_topic
from crawl2chat.tinyweb.ledger import Verse

HELD_OUT_SHARE = 0.2  # of the topics


@dataclass(frozen=True)
class VersePrompt:
    """A request for a verse, and the noun that the verse should be about."""

    topic: str
    text: str


def verse_prompts(verses: Sequence[Verse]) -> tuple[list[VersePrompt], list[VersePrompt]]:
    """Prompts to rank and train on, and prompts about other topics to measure on; each in a fixed random order.

    No seed decides, so that what a person ranks beforehand is never what a run holds out.
    """
    rng = random.Random("verse prompts")
    topics = sorted({verse_topic(verse.text) for verse in verses})
    rng.shuffle(topics)
    n_held_out = max(1, round(HELD_OUT_SHARE * len(topics)))
    parts = []
    for part in (topics[n_held_out:], topics[:n_held_out]):
        prompts = [VersePrompt(topic, ask.format(topic=topic)) for topic in part for ask in ASK_FOR_VERSE]
        rng.shuffle(prompts)
        parts.append(prompts)
    return parts[0], parts[1]
