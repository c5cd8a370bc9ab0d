"""Answers that call tools: what a model is offered, how its answers are drawn, and what of them is learned.

A tool's result is read like a prompt: it has no loss (ReTool, arXiv 2504.11536; Search-R1, arXiv 2503.09516). Of an
answer in several episodes (`chat.tools.Rollout`) all share its advantage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, compress
from pathlib import Path

from crawl2chat.chat.toolbox import Tool
from crawl2chat.chat.tools import (
    Episode,
    OfferForm,
    Rollout,
    final_text,
    offer_form,
    opening,
    rollout_with_tools,
    taught_offer,
)
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.honesty.checkup import CONVERSATIONS
from crawl2chat.honesty.search import find_tools
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import read_manifest
from crawl2chat.tokenizer import Message, Tokenizer


class ToolPrompt(list[int]):
    """The ids of a question with the tools that are offered, and the conversation that an answer to it goes on from."""

    conversation: list[Message]


@dataclass
class ToolAnswer(Completion):
    """An answer with calls: all ids that the model wrote, in order, and the text after the last call.

    finish_reason: "length" also where the last message still calls a tool, or the context is full.
    """

    episodes: list[Episode] = field(default_factory=list)
    calls: int = 0

    @staticmethod
    def of(rollout: Rollout) -> "ToolAnswer":
        parts = [(episode, episode.is_model) for episode in rollout.episodes]
        return ToolAnswer(
            ids=list(chain.from_iterable(compress(episode.ids, mine) for episode, mine in parts)),
            logprobs=list(chain.from_iterable(compress(episode.logprobs, mine) for episode, mine in parts)),
            text=final_text(rollout.added),
            finish_reason="stop" if rollout.ended else "length",
            episodes=rollout.episodes,
            calls=sum(len(message.get("tool_calls", ())) for message in rollout.added),
        )


@dataclass(frozen=True)
class ToolUse:
    """The tools that answers may call. Other ranks get their names, and make them themselves.

    folder: of the model, to whose run the documents to search belong if none are named.
    """

    names: tuple[str, ...]
    rounds: int
    form: OfferForm
    folder: Path
    documents: str | None = None

    def prompts(self, questions: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
        """Return each question after the offer of the tools, up to where the answer begins."""
        prompts: list[list[int]] = []
        for question in questions:
            conversation = [*opening(_tools(self), self.form, None), Message(role="user", content=question)]
            prompt = ToolPrompt(tokenizer.encode_chat(conversation, add_generation_prompt=True)[0])
            prompt.conversation = conversation
            prompts.append(prompt)
        return prompts

    def draw(
        self, engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[Completion]:
        """Answer each prompt of `prompts`, with one seed each; max_tokens holds for each message of an answer."""
        conversations = [prompt.conversation for prompt in prompts if isinstance(prompt, ToolPrompt)]
        rollouts = rollout_with_tools(engine, conversations, _tools(self), sampling, seeds, self.rounds)
        return [ToolAnswer.of(rollout) for rollout in rollouts]


@lru_cache(maxsize=4)
def _tools(use: ToolUse) -> Mapping[str, Tool]:
    return find_tools(use.folder, use.names, use.form, use.documents)[0]


def tools_of(settings: ReinforceSettings, model: Path, tokenizer: Tokenizer) -> ToolUse | None:
    """Return what the settings ask for; None without tools.

    Raises StageError for a model that reads no offer of tools, a search without documents, Python without a sandbox.
    """
    if not settings.tools:
        return None
    manifest = read_manifest(model)
    form = offer_form(manifest.stage if manifest else None, taught_offer(model / CONVERSATIONS), tokenizer)
    if form is None:
        raise StageError(
            f"reinforce.tools: the chat template of {model} offers no tools, so it can't be given "
            f"{', '.join(settings.tools)}; take a model that was taught to call them"
        )
    documents = settings.documents and str(Path(settings.documents).expanduser())
    use = ToolUse(tuple(settings.tools), settings.tool_rounds, form, model, documents)
    _tools(use)
    return use
