"""Answers to learn from that a server draws: each step it is given the policy's adapter, in PEFT's form, by its folder.

The addresses are vLLM's (`vllm serve BASE --enable-lora`, with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1): an adapter is
loaded while it serves, and asked by its name. Such a server rounds otherwise than the trainer, so its log-probabilities
are not quite the trainer's: `importance_cap` weighs for that, and `logprob_gap` says how far the two are apart.
"""

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

from crawl2chat.generate import Completion, Sampling
from crawl2chat.model import Transformer
from crawl2chat.model.adapters import WEIGHTS, AdaptedTransformer, save_adapter
from crawl2chat.parallel import torchrun
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.stages.chat_server import ChatServer, NoAnswer
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer

FOLDER = "rollout-adapters"  # in the stage's folder, until it ends; the server has to see it under the same path
AT_ONCE = 64  # prompts that are asked at a time
LOADED = "already been loaded"  # what a server says of a name that it has; names are hashes of the weights


class ServedPolicy:
    """A policy whose answers a server draws."""

    def __init__(self, server: ChatServer, folder: Path) -> None:
        server.check()
        self.server, self.folder, self.loaded = server, folder, ""

    def draw(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[list[int]],
        answers: int,
        sampling: Sampling,
        first_seed: int,
    ) -> list[list[Completion]]:
        """Return `answers` answers of the model as it is now to each prompt. Raises StageError for a server that can't.

        first_seed: of the first prompt; a server's draws can be repeated only as far as it can repeat its own.
        """
        name = self._give(model)

        def ask(place: int) -> list[Completion]:
            body = {
                "model": name, "prompt": prompts[place], "n": answers, "max_tokens": sampling.max_tokens,
                "temperature": sampling.temperature, "top_p": 1, "top_k": 0, "logprobs": 0,
                "return_token_ids": True, "stop_token_ids": sorted(tokenizer.stop_ids),
                "seed": sampling.seed + first_seed + place * answers,
            }  # fmt: skip
            try:
                return self.server.post("completions", body, lambda reply: _completions(reply, answers, tokenizer))
            except NoAnswer as problem:
                raise StageError(f"reinforce.rollouts: {self.server.url} draws no answers: {problem}") from problem

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, range(len(prompts))))

    def _give(self, model: Transformer) -> str:
        """Have the server load the model's adapter, and forget the one before; returns the name that it goes by."""
        assert isinstance(model, AdaptedTransformer)
        new = self.folder / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        save_adapter(new, model)
        name = f"crawl2chat-{xxhash.xxh3_64_hexdigest((new / WEIGHTS).read_bytes())}"
        if name == self.loaded:
            return name
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)
        self._tell("load_lora_adapter", {"lora_name": name, "lora_path": str(place.resolve())})
        if self.loaded:
            self._tell("unload_lora_adapter", {"lora_name": self.loaded})
            shutil.rmtree(self.folder / self.loaded, ignore_errors=True)
        self.loaded = name
        return name

    def _tell(self, address: str, body: dict[str, Any]) -> None:
        try:
            self.server.post(address, body, bytes)
        except NoAnswer as problem:
            if LOADED not in str(problem):
                raise StageError(f"reinforce.rollouts: {self.server.url}/{address} failed: {problem}") from problem


def served_policy(settings: ReinforceSettings, out: Path) -> ServedPolicy | None:
    """Return the server that draws answers, if the settings name one. Raises StageError for one that can't be asked."""
    if not settings.rollouts:
        return None
    if torchrun.world_size() > 1:
        raise StageError("reinforce.rollouts: on several ranks each draws its answers itself; leave rollouts out")
    key = os.environ.get(settings.rollouts_key_variable or "", "")
    if settings.rollouts_key_variable and not key:
        raise StageError(f"reinforce.rollouts_key_variable = {settings.rollouts_key_variable}: no such variable")
    server = ChatServer(settings.rollouts, "the policy's adapter", key, caller="reinforce.rollouts")
    return ServedPolicy(server, out / FOLDER)


def _completions(reply: bytes, count: int, tokenizer: Tokenizer) -> list[Completion]:
    """The answers of a reply. Raises StageError where there are no ids or log-probabilities, which no retry brings."""
    choices = json.loads(reply)["choices"]
    if len(choices) != count:
        raise ValueError(f"{len(choices)} answers instead of {count}")
    made = []
    for choice in choices:
        ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not ids or not logprobs or len(ids) != len(logprobs):
            raise StageError(
                "reinforce.rollouts: the server gives no ids of tokens, or no log-probability for each; expected one "
                "that knows return_token_ids, such as vLLM from 0.10.2 on"
            )
        text = tokenizer.decode([id for id in ids if id not in tokenizer.stop_ids])
        completion = Completion(
            list(ids), [float(p) for p in logprobs], text, model_logprobs=list(map(float, logprobs))
        )
        completion.finish_reason = "stop" if choice.get("finish_reason") == "stop" else "length"
        made.append(completion)
    return made
