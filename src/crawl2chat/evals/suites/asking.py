"""Generating for many prompts with a progress bar."""

from collections.abc import Sequence

from crawl2chat.generate import Completion, Engine, Request, Sampling
from crawl2chat.stages.progress import Progress


def generate(
    engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling, label: str, unit: str = "answer"
) -> list[Completion]:
    """As `Engine.generate`, which gives the same completions, and shows how far it is."""
    requests: list[Request] = []
    done, tokens = 0, 0
    try:
        requests += (engine.submit(prompt, sampling, seed=seed) for seed, prompt in enumerate(prompts))
        with Progress(label, len(prompts), unit) as progress:
            while done < len(requests):
                for request in engine.step():
                    if request.ended:
                        done += 1
                        tokens += len(request.completion.ids)
                progress.update(done, f"{tokens:,} tokens")
    finally:
        for request in requests:
            engine.cancel(request)
    return [request.completion for request in requests]
