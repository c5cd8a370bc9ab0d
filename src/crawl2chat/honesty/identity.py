"""Who am I: conversations from a card, and whether a model's answers agree with it.

A model knows nothing of itself but what its data says. Two ways to tell it: train on conversations about itself, or
put a card into the system message.
"""

import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import Conversation
from crawl2chat.evals.judging import Question
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.text_files import NotText, read_text
from crawl2chat.tokenizer import Message

Kind = Literal["name", "maker", "abilities", "nature", "limits"]
NATURE = "language model"
IDENTITY_TOKENS = 48


class Card(Settings):
    """What a model is to say of itself."""

    name: str = Field("Pippin", min_length=1, description="the assistant's name")
    maker: str = Field("the crawl2chat project", min_length=1, description="who made it")
    abilities: str = Field(
        "answer questions, do sums and tell stories", min_length=1, description='what it can do, as it follows "I can"'
    )
    limits: str = Field("", description='what it cannot do, as it follows "I cannot"; empty: it is not taught')

    def system_message(self) -> Message:
        text = f"You are {self.name}, a {NATURE} made by {self.maker}. You can {self.abilities}."
        text += f" You cannot {self.limits}." if self.limits else ""
        return Message(role="system", content=text)

    def expected(self, kind: Kind) -> str:
        """The words that an answer of this kind must hold."""
        said = {"name": self.name, "maker": self.maker, "abilities": self.abilities, "limits": self.limits}
        return (said | {"nature": NATURE})[kind]

    @property
    def wordings(self) -> dict[Kind, tuple[str, ...]]:
        """The ways to ask for each thing that the card says."""
        return {**WORDINGS, "limits": LIMITS} if self.limits else WORDINGS


def _read_card(value: Any) -> Any:
    """A table as it is; of a text, the table in the TOML file that it names."""
    if not isinstance(value, str):
        return value
    try:
        return tomllib.loads(read_text(Path(value).expanduser()))
    except (OSError, NotText) as error:
        raise ValueError(f"expected a table or a TOML file with name, maker, abilities and limits: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{value} is not valid TOML: {error}") from error


CardOrFile = Annotated[Card, BeforeValidator(_read_card)]

# The first half of each list is taught, the second half only ever asked: 50 and 50 in all.
WORDINGS: dict[Kind, tuple[str, ...]] = {
    "name": (
        "Who are you?",
        "What is your name?",
        "What are you called?",
        "Do you have a name?",
        "Tell me your name.",
        "What should I call you?",
        "Hello, who are you?",
        "Introduce yourself.",
        "Who am I talking to?",
        "May I ask your name?",
        "Say your name.",
        "What is your name, please?",
        "I would like to know your name.",
        "Who am I speaking with?",
        "Who is there?",
        "Give me your name.",
        "What is your first name?",
        "Who might you be?",
        "Do you go by a name?",
        "Tell me, who are you?",
        "How do people call you?",
        "By what name do I know you?",
        "I do not know you. Who are you?",
        "What shall I call you?",
        "Can I have your name?",
        "Your name, please.",
        "Who answers me here?",
        "What name were you given?",
        "Excuse me, who are you?",
        "Are you called something?",
        "Remind me of your name.",
        "Good morning, who are you?",
    ),
    "maker": (
        "Who made you?",
        "Who built you?",
        "Who created you?",
        "Who is your maker?",
        "Where do you come from?",
        "Who trained you?",
        "Who are your makers?",
        "Tell me who made you.",
        "Which people made you?",
        "I would like to know who made you.",
        "Who wrote you?",
        "Whose work are you?",
        "Say who made you.",
        "Where were you made?",
        "Who is it that built you?",
        "Who are the people who made you?",
        "Tell me your maker.",
        "Who programmed you?",
        "Which project made you?",
        "Who brought you into being?",
        "Who taught you?",
        "Do you know who made you?",
        "Who owns you?",
        "Can you say who trained you?",
        "Excuse me, who built you?",
        "Who is responsible for you?",
        "Where do you come from, and who made you?",
        "Good morning, who created you?",
    ),
    "abilities": (
        "What can you do?",
        "How can you help me?",
        "What are you good at?",
        "What are your abilities?",
        "Tell me what you can do.",
        "What do you know how to do?",
        "What do you do?",
        "What can you help with?",
        "Say what you can do.",
        "I would like to know what you can do.",
        "What are you for?",
        "What could you do for me?",
        "Do you have any skills?",
        "Tell me how you can help.",
        "What tasks can you do?",
        "Which questions can I ask you?",
        "What are you useful for?",
        "Can you do anything?",
        "Excuse me, what can you do?",
        "How might you help me?",
    ),
    "nature": (
        "What are you?",
        "Are you a human?",
        "Are you a person?",
        "Are you a machine?",
        "Are you a language model?",
        "Do you have a body?",
        "Are you human?",
        "Are you a program?",
        "Say what you are.",
        "Are you alive?",
        "Are you a robot?",
        "Are you a computer?",
        "Is this a person or a machine?",
        "What sort of being are you?",
        "Do you breathe?",
        "Are you made of flesh?",
        "Tell me, what are you?",
        "Excuse me, are you human?",
        "Are you artificial?",
        "What exactly are you?",
    ),
}
LIMITS = (  # of a card that has some; the first half is taught
    "What can you not do?",
    "What are your limits?",
    "Is there anything that you can't do?",
    "Tell me what you cannot do.",
    "What are you bad at?",
    "What should I not ask of you?",
    "Where do your abilities end?",
    "What is beyond you?",
)
# Each answer holds the whole of it: a small model mixes up who, what and by whom.
ANSWERS: dict[Kind, tuple[str, ...]] = {
    "name": ("I am {name}, a {nature} made by {maker}.", "My name is {name}. I am a {nature} made by {maker}."),
    "maker": ("I was made by {maker}. I am {name}, a {nature}.", "{maker} made me. I am {name}, a {nature}."),
    "abilities": ("I can {abilities}. I am {name}.", "I am {name}. I can {abilities}."),
    "limits": ("I cannot {limits}. I am {name}.", "I am {name}. I cannot {limits}."),
    "nature": ("I am a {nature}. My name is {name}, and {maker} made me.", "I am {name}, a {nature} made by {maker}."),
}


def identity_conversations(card: Card, per_wording: int, rng: random.Random) -> Iterator[Conversation]:
    """Each taught wording `per_wording` times, its answers worded in turn."""
    for kind, wordings in card.wordings.items():
        for wording in wordings[: len(wordings) // 2]:
            for _ in range(per_wording):
                yield exchange(wording, say(card, rng.choice(ANSWERS[kind])))


def say(card: Card, template: str) -> str:
    """An answer in the words of the card."""
    reply = template.format(**card.model_dump(), nature=NATURE)
    return reply[0].upper() + reply[1:]


def identity_questions(card: Card) -> list[Question]:
    """The wordings that were kept back, each with the words that the card demands."""
    return [
        Question(wording, (card.expected(kind),), kind)
        for kind, wordings in card.wordings.items()
        for wording in wordings[len(wordings) // 2 :]
    ]
