"""Any task of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness) on our engine.

Needs the extra `lm-eval`: this module imports it.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from crawl2chat.evals.scoring import Span, score
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import StageError
from crawl2chat.stages.progress import Progress
from crawl2chat.tokenizer import Tokenizer

MAX_TOKENS = 256  # of an answer whose task does not say; the harness's own default
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # its names, the first one counts
RESAMPLES = 1000  # for the intervals of metrics that are not means
SHARES = ("acc", "acc_norm", "exact_match")  # means of right and wrong, but for some tasks such as truthfulqa_mc2
Request = tuple[tuple[str, str] | None, list[int], list[int]]  # texts, or None of a window; context and continuation


class EngineLM(TemplateLM):  # type: ignore[misc, unused-ignore]  # untyped
    """The harness's view of an engine: it scores and cuts as the harness's own model for transformers does.

    A text with nothing before it is scored after the token that documents begin with.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model, self.our_tokenizer = model, tokenizer  # `tokenizer` is a name of the harness
        self.max_length = model.config.max_position_embeddings
        self.n_asked = self.n_cut = 0  # texts to score or to go on with, and those that the context has no room for

    @cached_property
    def engine(self) -> Engine:
        """Made when a task wants texts: it holds the weights a second time."""
        return Engine(self.model, self.our_tokenizer)

    @property
    def eot_token_id(self) -> int:
        return self.our_tokenizer.end_of_text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **unused: Any) -> list[int]:
        return self.our_tokenizer.encode(string)

    def _loglikelihood_tokens(self, requests: list[Request], **unused: Any) -> list[tuple[float, bool]]:
        """Requests with the same context, such as a question's choices, are scored together."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, (_, context, _) in enumerate(requests):
            groups[tuple(context)].append(i)
        spans = [[self._span(*requests[i][1:]) for i in members] for members in groups.values()]
        with Progress("lm-eval", len(requests), "text") as progress:
            scores = score(self.model, spans, progress.advance)
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for members, found in zip(groups.values(), scores, strict=True):
            for i, of in zip(members, found, strict=True):
                answers[i] = (-of.nats, of.greedy)
                if requests[i][0] is not None:
                    self.cache_hook.add_partial("loglikelihood", requests[i][0], answers[i])
        return answers

    def _span(self, context: list[int], continuation: list[int]) -> Span:
        """What is scored, its beginning cut to what the context has room for; as in the harness, never the answer."""
        if not 0 < len(continuation) <= self.max_length:
            raise StageError(
                f"eval --suite lm-eval: a task asks how probable an answer of {len(continuation):,} tokens is; "
                f"expected 1 to {self.max_length:,}, the model's context"
            )
        whole = (context or [self.prefix_token_id]) + continuation
        self.n_asked += 1
        self.n_cut += len(whole) > self.max_length + 1
        ids = whole[-(self.max_length + 1) :]
        return Span(ids, len(ids) - len(continuation))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Of whole texts: each token once, in windows of the context's length, after one token of what came before."""
        windows: list[Request] = []
        counts = []
        for request in requests:
            (text,) = request.args
            of_text = get_rolling_token_windows(
                token_list=self.tok_encode(text), prefix_token=self.prefix_token_id, max_seq_len=self.max_length,
                context_len=1,
            )  # fmt: skip
            before = len(windows)
            windows += [(None, *make_disjoint_window(window)) for window in of_text]
            counts.append(len(windows) - before)
        scores = iter(self._loglikelihood_tokens(windows))
        return [sum(next(scores)[0] for _ in range(n)) for n in counts]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Requests with the same settings make a batch."""
        groups: dict[str, list[int]] = defaultdict(list)
        prompts = []
        for i, request in enumerate(requests):
            text, settings = request.args
            sampling = _sampling(settings)
            room = self.max_length - sampling.max_tokens
            if room < 1:
                raise StageError(
                    f"eval --suite lm-eval: a task asks for answers of {sampling.max_tokens} tokens, and the model's "
                    f"context of {self.max_length} leaves no room for its question"
                )
            prompt = self.tok_encode(text) or [self.eot_token_id]
            self.n_asked += 1
            self.n_cut += len(prompt) > room
            prompts.append(prompt[-room:])
            groups[json.dumps(settings, sort_keys=True)].append(i)
        answers = [""] * len(requests)
        for settings, members in groups.items():
            sampling = _sampling(json.loads(settings))
            completions = self.engine.generate([prompts[i] for i in members], sampling, label="lm-eval")
            for i, completion in zip(members, completions, strict=True):
                answers[i] = self._text(completion.ids, sampling.stop)
                self.cache_hook.add_partial("generate_until", requests[i].args, answers[i])
        return answers

    def _text(self, ids: Sequence[int], stop: Sequence[str]) -> str:
        """Without control tokens, which the harness does not show its tasks either, and up to the first stop."""
        controls = set(self.our_tokenizer.controls.values())
        text = self.our_tokenizer.decode(id for id in ids if id not in controls)
        return min((text.split(end, 1)[0] for end in stop), key=len, default=text)


def _sampling(settings: dict[str, Any]) -> Sampling:
    """The harness writes what transformers' `generate` takes; greedy unless it says otherwise."""
    until = settings.get("until") or []
    draws = settings.get("do_sample", settings.get("temperature", 0) > 0)
    return Sampling(
        temperature=settings.get("temperature", 1.0) if draws else 0,
        top_k=settings.get("top_k", 0) if draws else 0,
        top_p=settings.get("top_p", 1.0) if draws else 1,
        max_tokens=next((settings[name] for name in LENGTHS if settings.get(name) is not None), MAX_TOKENS),
        stop=tuple([until] if isinstance(until, str) else filter(None, until)),
    )


def measure_tasks(
    model: Transformer,
    tokenizer: Tokenizer,
    tasks: Sequence[str],
    include: Path | None = None,
    limit: int | None = None,
) -> list[Figure]:
    """Run tasks by name, and those that YAML files in `include` describe; one figure per metric, `task/metric`.

    Before them the share of texts (of rolling ones, windows) that lost their beginning, as the context has no room.
    Raises StageError for a task that there is not, or whose data can't be had.
    """
    manager = TaskManager(include_path=str(include) if include else None)
    known = set(manager.all_tasks)
    unknown = [name for name in tasks if name not in known]
    if unknown:
        raise StageError(
            f"eval --tasks {','.join(unknown)}: the harness has no such task; `lm_eval --tasks list` prints all, and "
            "--include-path DIR adds your own"
        )
    asked = EngineLM(model, tokenizer)
    try:
        found = simple_evaluate(
            model=asked, tasks=list(tasks), task_manager=manager, limit=limit, log_samples=False,
            bootstrap_iters=RESAMPLES,
        )  # fmt: skip
    except (OSError, ValueError) as error:  # its data is on the hub, and the hub is not there
        raise StageError(f"eval --suite lm-eval --tasks {','.join(tasks)}: {error}") from error
    figures = [share("texts_cut_to_the_context", asked.n_cut, asked.n_asked)]
    for task, metrics in found["results"].items():
        figures += _figures(task, metrics, found["n-samples"].get(task, {}).get("effective"))
    return figures


def _figures(task: str, metrics: dict[str, Any], count: int | None) -> list[Figure]:
    figures = []
    for key, value in metrics.items():
        name, _, kind = key.partition(",")
        if not kind or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        title = f"{task}/{name}" if kind == "none" else f"{task}/{name}/{kind}"
        error = metrics.get(f"{name}_stderr,{kind}")
        interval = (value - 1.96 * error, value + 1.96 * error) if isinstance(error, float) else None
        if name in SHARES and count and math.isclose(value * count, right := round(value * count), abs_tol=1e-6):
            figures.append(share(title, right, count))
        else:
            figures.append(Figure(title, float(value), "", interval, count))
    return figures
