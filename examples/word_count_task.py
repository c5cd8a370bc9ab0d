"""A task of your own: answers of a given number of words.

    crawl2chat eval runs/laptop --suite examples/word_count_task.py
    crawl2chat reinforce examples/word_count_task.py runs/laptop/sft --out runs/words

A task is a file that defines `problems`, `reward`, or both. Problems are rows of a file of problems, of which only
"question" is needed here, since the reward judges without an answer to compare with.
"""

from collections.abc import Iterator
from typing import Any

TOPICS = ("a mill", "the sea", "an old cook", "rain", "the market", "a cat", "winter", "a long road")


def problems() -> Iterator[dict[str, Any]]:
    """Each topic in 3 to 12 words; every fourth topic is only measured with."""
    for i, topic in enumerate(TOPICS):
        for words in range(3, 13):
            yield {
                "question": f"Write a sentence of {words} words about {topic}.",
                "answer": str(words),
                "group": "short" if words < 8 else "long",
                "split": "held_out" if i % 4 == 3 else "train",
            }


def reward(problem: Any, answer: str) -> float:
    """1 for the exact number of words, less the further away it is, never less than 0."""
    wanted = int(problem.answers[0])
    return max(0.0, 1 - abs(len(answer.split()) - wanted) / wanted)
