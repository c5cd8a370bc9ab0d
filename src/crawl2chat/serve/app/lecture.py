"""The page Lecture: the demonstrations of Andrej Karpathy's "Deep Dive into LLMs like ChatGPT", in its order.

Each stop is a link to a page of the app with its state set, a word on what to see there, and what this run measured.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from crawl2chat.chat.presets import Preset, presets
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.http import get
from crawl2chat.stages.stage import ROLLOUTS, read_manifest

State = Mapping[str, str | int | float | bool | Sequence[str]]


@dataclass(frozen=True)
class Stop:
    """needs: files of the run, without which there is nothing to see. figures: stage, name, and in which words."""

    title: str
    says: str
    page: str
    state: State
    needs: tuple[str, ...] = ()
    figures: tuple[tuple[str, str, str], ...] = ()

    @property
    def link(self) -> str:
        """The page's address with its state, as `common/state.js` reads it."""
        values = {name: _as_text(value) for name, value in self.state.items()}
        return f"/{self.page}{'#' + urlencode(values) if values else ''}"


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple) else str(value)


BEFORE_TALK = (
    Stop(
        "Download and clean the internet",
        "Most of what is crawled is dropped. Choose a reason to see the pages it dropped, and a page to see the value "
        "and the threshold of each rule.",
        "data", {}, ("refine/funnel.json",), (("refine", "kept_share", "pages that were kept"),),
    ),
    Stop(
        "Text becomes tokens",
        "Type, and see how this run's tokenizer and those of GPT-2, GPT-4 and GPT-4o cut the same text.",
        "tokens", {"text": "Hello world! hello  world, 東京"}, (),
        (("tokenizer", "bytes_per_token", "bytes per token"),),
    ),
    Stop(
        "A network learns to predict the next token",
        "The loss falls; move the slider to see what the model wrote at each evaluation.",
        "training", {"training": "pretrain"}, ("pretrain/metrics.jsonl",),
        (("base", "bits_per_byte/model", "bits per byte of text it never saw"),
         ("base", "bits_per_byte/5_gram", "an n-gram model of 5 tokens"), ("base", "bits_per_byte/xz", "xz")),
    ),
    Stop(
        "Inside the network", "A walk through every number between the tokens and the prediction.",
        "inside", {"tour": 1},
    ),
    Stop(
        "Inference: one token after another",
        "The next token is drawn from a distribution. Draw again: it is another text. Choose a token yourself, and the "
        "text goes another way.",
        "sampling", {"text": "Once upon a time", "tokens": 24, "branches": 3},
    ),
    Stop(
        "A base model recites what it met often",
        "Passages with many copies on the web come back word for word. Click one to see what was given, what the model "
        "went on with, and where it departs.",
        "base", {"view": "recitation"}, ("base/manifest.json", "base/recitation.jsonl"),
        (("base", "recall_at_1_to_2_copies", "recited to the end, of passages in one or two copies"),
         ("base", "recall_at_64_copies_and_more", "of passages in 64 copies or more")),
    ),
    Stop(
        "A conversation is tokens, too",
        "Special tokens say whose turn it is; the model reads one row of tokens.",
        "tokens", {"view": "chat"},
    ),
)  # fmt: skip
FIGURES_OF_PRESETS = {
    "Nobody": (("honesty", "wrong before/0", "wrong about people on no page, before"),
               ("honesty", "wrong after/0", "after"),
               ("honesty", "claims about what nobody can know before", "claims about what does not exist, before"),
               ("honesty", "claims about what nobody can know after", "after")),
    "Who are you?": (("honesty", "identity before", "says who it is, before"),
                     ("honesty", "identity after", "after")),
    "A sum, at once": (("honesty", "at once/3 digits", "sums of three digits right at once"),),
    "The sum, step by step": (("honesty", "step by step/3 digits", "right step by step"),),
    "The sum, with the calculator": (("honesty", "calculator/3 digits", "right with the calculator"),),
}  # fmt: skip
TALK = (
    "A base model goes on", "Nobody", "Who are you?", "A sum, at once", "The sum, step by step",
    "The sum, with the calculator", "Letters",
)  # fmt: skip
KNOWLEDGE = (
    Stop(
        "Ask many times what a model may not know",
        "Who knows answers alike; who makes something up makes up something else each time.",
        "honesty", {"view": "ask", "question": "Who is Orson Kovats?"}, (),
        (("honesty", "auroc of agreement before", "how well agreement tells right from wrong (AUROC)"),),
    ),
    Stop(
        "Look it up",
        "A search puts passages into the context: what is read is answered better than what is remembered.",
        "honesty", {"view": "search"}, ("honesty/manifest.json", "refine/funnel.json"),
        (("honesty", "right with search/1", "right about what is on a single page, with search"),
         ("honesty", "right with search", "right with search")),
    ),
)  # fmt: skip
THINKING = Stop(
    "Tokens to think with",
    "The same sum ten times at once, step by step and with the calculator, side by side: how many are right, what each "
    "costs, and where those that are wrong first go wrong.",
    "thinking", {"temperature": 0.7, "draws": 10}, (),
    (("honesty", "tokens at once/3 digits", "tokens of an answer at once"),
     ("honesty", "tokens step by step/3 digits", "step by step"),
     ("honesty", "tokens calculator/3 digits", "with the calculator")),
)  # fmt: skip
AFTER_TALK = (
    Stop(
        "Practice: reinforcement learning",
        "Many answers to each problem; those with the right result are made more probable. Choose a bar of the "
        "histogram, and a token to see how sure the model was of it.",
        "rollouts", {}, (f"reinforce/{ROLLOUTS}",),
        (("reinforce", "pass_at_1_before", "right at the first attempt, before"),
         ("reinforce", "pass_at_1_after", "after"), ("reinforce", "random_reward_pass_at_1", "rewarded by coin flips")),
    ),
    Stop(
        "Answers grow longer",
        "Nobody asked for it: what is worked out step by step is right more often.",
        "training", {"training": "reinforce", "fields": ["answer_tokens", "reward"]}, ("reinforce/metrics.jsonl",),
        (("reinforce", "answer_tokens_before", "tokens per answer, before"),
         ("reinforce", "answer_tokens_after", "after")),
    ),
    Stop(
        "People rank answers",
        "There is no right answer to a request for a verse or a joke, but people can say which they prefer.",
        "ranking", {}, ("sft/manifest.json",),
    ),
    Stop(
        "A reward model is gamed",
        "The model of people's taste says better and better; people would not. Move the slider to the end, and read "
        "the most gamed answers.",
        "preferences", {}, ("prefer/curves.json",),
        (("prefer", "gold/start", "taste at the start"), ("prefer", "gold/peak", "at its best"),
         ("prefer", "gold/end", "at the end")),
    ),
)  # fmt: skip


class LecturePage:
    def __init__(self, context: AppContext) -> None:
        self.context = context

    @get("/app/lecture")
    def stops(self, request: Request) -> dict[str, Any]:
        """The stops that this run has something to see at, in the lecture's order, and the titles of the others."""
        every = [*BEFORE_TALK, *self._talk(), *AFTER_TALK]
        shown = [stop for stop in every if self._has(stop.needs)]
        measured = self._measured()
        return {
            "stops": [
                {
                    "title": stop.title, "says": stop.says, "link": stop.link,
                    "measured": [
                        {"what": words, "value": measured[stage, name]}
                        for stage, name, words in stop.figures
                        if (stage, name) in measured
                    ],
                }
                for stop in shown
            ],
            "missing": [stop.title for stop in every if stop not in shown],
        }  # fmt: skip

    def _has(self, needs: Sequence[str]) -> bool:
        run = self.context.run
        return not needs or (run is not None and all((run / file).is_file() for file in needs))

    def _talk(self) -> Iterator[Stop]:
        """The chat's presets as stops; the page Honesty follows what a model knows, and the page Thinking the sums."""
        models = self.context.pool.models
        run = self.context.run
        known = {preset.name: preset for preset in presets([m.stage or m.name for m in models], run and run / "crawl")}
        for name in TALK:
            if preset := known.get(name):
                yield _stop_of(preset)
            if name == "Nobody":
                yield from KNOWLEDGE
            if name == "The sum, with the calculator":
                yield THINKING

    def _measured(self) -> dict[tuple[str, str], str]:
        """This run's figures, as text, by stage and name."""
        if self.context.run is None:
            return {}
        found: dict[tuple[str, str], str] = {}
        for stage in ("refine", "tokenizer", "base", "honesty", "reinforce", "prefer"):
            if manifest := read_manifest(self.context.run / stage):
                found |= {(stage, figure.name): str(figure) for figure in manifest.figure_list()}
        return found


def _stop_of(preset: Preset) -> Stop:
    columns = [c.stage + "+tools" * c.tools + "+text" * c.text for c in preset.columns]
    state: dict[str, Any] = {"ask": preset.question, "with": columns}
    if preset.temperature:
        state["temperature"] = preset.temperature
    return Stop(preset.name, preset.look_for, "chat", state, (), FIGURES_OF_PRESETS.get(preset.name, ()))
