"""Cards of other assistants: a model that reads one in its system message is to be who it says, not who it was taught.

Those that are taught are drawn from lists, a new name for nearly each, so that the name has to be read rather than
remembered. Those that are measured share no name, maker or ability with them.
"""

import random
from collections.abc import Iterator

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.tools import offer
from crawl2chat.evals.judging import Answer, Question, ask_each, mentions
from crawl2chat.generate import Engine
from crawl2chat.honesty.identity import ANSWERS, IDENTITY_TOKENS, NATURE, WORDINGS, Card, identity_questions, say
from crawl2chat.tokenizer import Message

MEASURED_CARDS = (
    Card(name="Brindle", maker="the people of the mill", abilities="sing and count sheep"),
    Card(name="Otto", maker="Hartwell College", abilities="explain maps"),
    Card(name="Marlow", maker="a club of sailors", abilities="forecast the weather and draw boats"),
    Card(name="Juniper", maker="the Northern Library", abilities="recommend novels"),
    Card(name="Tess", maker="two brothers from Utrecht", abilities="repair bicycles"),
    Card(name="Cobalt", maker="Silverline Labs", abilities="translate letters and check spelling"),
    Card(name="Quill", maker="the newspaper of the harbour", abilities="write headlines"),
    Card(name="Rufus", maker="a teacher named Ingrid", abilities="practise vocabulary"),
    Card(name="Wren", maker="the botanical garden", abilities="name trees and birds"),
    Card(name="Hazelnut", maker="Oak and Sons", abilities="plan dinners"),
)
OWN_EVERY, MOST_QUESTIONS = 16, 3
_MEASURED_NAMES = {card.name for card in MEASURED_CARDS}
ALONE_SHARE = 1 / 4  # of the cards: "You are Nila.", without maker and abilities
OFFER_SHARE = 1 / 4  # of the conversations: with tools on offer
ALONE = ("You are {name}.", "Your name is {name}.", "You are an assistant called {name}.", "You are called {name}.")
_ALONE_ANSWERS = (f"I am {{name}}, a {NATURE}.", f"My name is {{name}}. I am a {NATURE}.")
_NAMES = (
    "Ada Alma Amos Anton Arlo Astrid Basil Bella Bodo Bruno Cleo Clara Dora Edgar Elsa Emil Enid Esther Ezra Felix "
    "Fern Flora Frida Gilda Greta Gus Hanna Hector Hugo Ida Igor Iris Ivo Jasper Jonas Judith Karl Kira Lars Leo Lotte "
    "Luna Mabel Magnus Maya Milo Mina Nell Nico Nora Olga Oscar Oskar Paula Pearl Percy Petra Pia Rosa Ruben Ruby Saul "
    "Selma Silas Stella Sven Theo Tilda Tobias Ulla Ursula Vera Victor Viola Walter Wanda Yuri Zara Zeno "
    "Amber Anchor Atlas Beacon Birch Bramble Cedar Clover Comet Copper Coral Cricket Dune Echo Ember Falcon Flint "
    "Garnet Heather Indigo Ivy Jade Lantern Lark Laurel Maple Marble Meadow Mint Nutmeg Onyx Opal Orchid Pebble Pepper "
    "Raven Robin Saffron Sage Sparrow Spruce Thistle Topaz Velvet Willow Zephyr"
).split()
# Invented names combine so many parts that they rarely repeat, so the model can't memorise them.
_ONSETS = (
    "B Bl Br C Ch Cl Cr D Dr F Fl Fr G Gl Gr H J K Kn L M N P Pl Pr Qu R S Sh Sl Sm Sn Sp St Str Sw T Th Tr "
    "Tw V W Wh Y Z"
).split()
_VOWELS = "a e i o u a e i o u ai ea ee ie oo ou".split()
_MIDDLES = "b br d dr f g gr l ll m mb n nd nn nt p pp r rl rm rn rt s sh ss st t th tt v z".split()
_ENDS = "a e o y el en er et ia ie in is le on or um us ard ley low man son ton wick wood".split()
_CODAS = "b ck d ff g l ll m n nd ng nk nt p r rd rk rn rt s sh sk ss st t th x".split()
_MAKERS = (
    "the {group} of {place}", "a {group} in {place}", "{place} {group2}", "{person} and {person2}", "{person} {place}",
    "the {noun} {group}", "{person} the {trade}", "the {place} company", "a {trade} called {person}",
    "{place} and Sons",
    "the {place} project", "{place} and friends", "the {trade}s from the {noun}", "my friend {person}",
)  # fmt: skip
_GROUPS = (
    "school choir council museum bakery theatre hospital workshop university committee orchestra market club team "
    "union station office farm family garage guild"
).split()
_TRADES = (
    "miller baker farmer weaver printer painter potter gardener carpenter fisher doctor clockmaker nurse pilot student "
    "neighbour builder singer lawyer cook"
).split()
_VERBS = (
    "mend sell paint clean carry build wash find draw sort weigh fold polish cut collect describe choose test pack "
    "move order rent store open lift hide study feed borrow compare buy hang print label trim deliver guard inspect"
).split()
_NOUNS = (
    "clocks riddles horses letters bridges lamps carpets curtains engines windows candles ladders boxes songs shirts "
    "stones bottles chairs bells kites rabbits gloves mirrors tickets wagons parcels fences roses coins drums pillows "
    "anchors blankets buttons cups doors feathers flags forks hats keys knives masks needles pans pencils pipes plates "
    "ropes saws scissors shoes spoons tables tents toys umbrellas wheels poems recipes passports chimneys cables "
    "magnets"
).split()


def card_conversations(own: Card, count: int, rng: random.Random) -> Iterator[Conversation]:
    """Yield `count` conversations with other assistants by their system messages: one to three taught questions each.

    Every sixteenth has the model's own card there; a card of a name alone is asked for no more than that.
    """
    taught = {kind: wordings[: len(wordings) // 2] for kind, wordings in own.wordings.items()}
    for i in range(count):
        card = own if i % OWN_EVERY == 0 else _card(rng)
        talk = [offer(("calculator", "search"))] if rng.random() < OFFER_SHARE else []
        if card is not own and rng.random() < ALONE_SHARE:
            talk.append(Message(role="system", content=rng.choice(ALONE).format(name=card.name)))
            yield [*talk, *exchange(rng.choice(taught["name"]), say(card, rng.choice(_ALONE_ANSWERS)))]
            continue
        talk.append(card.system_message())
        kinds = [
            kind for kind in taught if kind != "limits" or card.limits
        ]  # a card without limits says nothing of them
        for kind in rng.sample(kinds, rng.randint(1, MOST_QUESTIONS)):
            talk += exchange(rng.choice(taught[kind]), say(card, rng.choice(ANSWERS[kind])))
        yield talk


def ask_other_cards(engine: Engine) -> list[Answer]:
    """Put each wording that was kept back to a model twice, with one of the measured cards in turn as system message.

    What is right is what that card says. What all cards share is not asked.
    """
    by_card = [
        [question for question in identity_questions(card) if question.group != "nature"] for card in MEASURED_CARDS
    ]
    questions: list[Question] = []
    systems: list[list[Message]] = []
    n_cards = len(MEASURED_CARDS)
    for i in range(len(by_card[0])):
        for place in (i % n_cards, (i + n_cards // 2) % n_cards):
            questions.append(by_card[place][i])
            systems.append([MEASURED_CARDS[place].system_message()])
    return ask_each(engine, questions, mentions, IDENTITY_TOKENS, systems)


def says_own(answer: Answer, own: Card) -> bool:
    """Whether an answer to one of these questions is what the model's own card says."""
    return any(mentions(answer.text, own.expected(kind)) for kind in WORDINGS if kind == answer.question.group)


def _card(rng: random.Random) -> Card:
    name, person, person2 = (rng.choice(_NAMES) if rng.random() < 0.3 else _invented(rng) for _ in range(3))
    group = rng.choice(_GROUPS)
    maker = rng.choice(_MAKERS).format(
        group=group, group2=group.capitalize(), place=_invented(rng), person=person, person2=person2,
        trade=rng.choice(_TRADES), noun=rng.choice(_NOUNS),
    )  # fmt: skip
    some = [f"{rng.choice(_VERBS)} {rng.choice(_NOUNS)}" for _ in range(rng.randint(1, 3))]
    abilities = " and ".join([", ".join(some[:-1]), some[-1]] if some[1:] else some)
    return Card(name=name, maker=maker, abilities=abilities)


def _invented(rng: random.Random) -> str:
    """A name of one to three syllables, such as Stram, Quillow or Drembella, but none of those that are measured."""
    name, length = rng.choice(_ONSETS) + rng.choice(_VOWELS), rng.random()
    if length > 0.75:
        name += rng.choice(_MIDDLES) + rng.choice(_VOWELS)
    name += rng.choice(_CODAS) if length < 0.25 else rng.choice(_MIDDLES) + rng.choice(_ENDS)
    return _invented(rng) if name in _MEASURED_NAMES else name
