"""CORE's tasks against transformers' Qwen3ForCausalLM: the same weights, questions and batches, one table.

    python bench/core.py [--data FOLDER] [--questions 1] [--rounds 2]

FOLDER (or $CRAWL2CHAT_SHARED/data/core-eval) holds core.json and its *.jsonl.gz files. A round asks --questions of each
task that is there, new ones each time. The model has 111M parameters, random ones, and 2,048 tokens of context; its
tokenizer of 24,576 tokens is trained on the tasks' own texts.

The peer gets every text of a question as a row of its own, rows of like length together, as many tokens a batch as
ours. Its two ways: all logits of a batch (as lm-evaluation-harness and nanochat compute them), and the head for the
scored positions alone. Ours is `crawl2chat.evals.scoring.score`, which also reads but once what choices begin with.
Times are of a round's forward passes and what is computed from their logits, not of encoding: by the clock, and of
the processor, which other programs on the machine disturb less. Each side has its turn in every round; figures are
medians over rounds. Ratios are theirs / ours: above 1 ours is faster.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from crawl2chat.evals.scoring import BATCH_TOKENS, Score, Span, score
from crawl2chat.evals.suites.core import Task, cut, is_right, read_rows, read_tasks, spans_of, texts_of
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.families import config_to_json
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.stage import train_bpe

VOCAB, CONTEXT = 24_576, 2_048
SHAPE = ModelConfig(VOCAB, 768, 2_304, 12, 12, 12, 64, max_position_embeddings=CONTEXT)
KINDS = ("multiple_choice", "schema", "language_modeling")
Groups = list[list[Span]]
Side = Callable[[Groups], list[list[Score]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("CRAWL2CHAT_SHARED", "")
    parser.add_argument("--data", type=Path, default=Path(shared) / "data" / "core-eval" if shared else None)
    parser.add_argument("--questions", type=int, default=1, help="of each task in a round (1)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data FOLDER or CRAWL2CHAT_SHARED is needed: the tasks are no part of the project")
    tasks, _ = read_tasks(options.data)
    rows = {task: read_rows(task) for task in tasks}
    tokenizer = train_bpe([text for task in tasks for text in texts_of(task, rows[task], 0)] + some_texts(rows), VOCAB)
    torch.manual_seed(0)
    model = random_model(min(VOCAB, tokenizer.vocab_size))
    theirs = peer(model)
    sides: dict[str, Side] = {
        "ours": lambda groups: score(model, groups),
        "all logits": lambda groups: score_by_peer(theirs, groups, everything=True),
        "scored alone": lambda groups: score_by_peer(theirs, groups, everything=False),
    }
    print(f"{model.n_parameters() / 1e6:.0f}M parameters, {len(tasks)} tasks, {options.questions} questions of each in "
          f"a round, {options.rounds} rounds; {torch.get_num_threads()} threads, torch {torch.__version__}, "
          f"transformers {sys.modules['transformers'].__version__}", flush=True)  # fmt: skip
    for side in sides.values():  # a warm-up, on a short question
        side([[Span(list(range(20)), 10), Span(list(range(1, 21)), 10)]])
    clocks = {"by the clock": time.perf_counter, "of the processor": time.process_time}
    seconds: dict[str, dict[tuple[str, str], list[float]]] = {name: {} for name in clocks}
    apart, same, asked = 0.0, 0, 0
    for number in range(options.rounds):
        for kind in KINDS:
            first = number * options.questions
            questions = [
                (task, rows[task][i], spans(task, rows[task], i, tokenizer))
                for task in tasks if task.kind == kind
                for i in range(first, min(first + options.questions, len(rows[task])))
            ]  # fmt: skip
            found = {}
            for name, side in sides.items():
                began = {clock: read() for clock, read in clocks.items()}
                found[name] = side([group for _, _, group in questions])
                for clock, read in clocks.items():
                    seconds[clock].setdefault((kind, name), []).append(read() - began[clock])
            for (task, row, _), *scores in zip(questions, found["ours"], found["scored alone"], strict=True):
                asked += 1
                same += is_right(task, row, scores[0]) == is_right(task, row, scores[1])
                apart = max(apart, *(abs(a.mean - b.mean) for a, b in zip(*scores, strict=True)))
    for clock, of in seconds.items():
        report(clock, of, list(sides))
    print(f"\n{same} of {asked} questions judged alike; mean losses differ by at most {apart:.1e} nats")


def report(clock: str, seconds: dict[tuple[str, str], list[float]], sides: Sequence[str]) -> None:
    for name in sides:
        seconds["all", name] = [sum(times) for times in zip(*(seconds[kind, name] for kind in KINDS), strict=True)]
    print(f"\n{'s ' + clock:20} {'ours':>8} {'all logits':>12} {'scored alone':>14}      theirs / ours")
    for kind in (*KINDS, "all"):
        ours, everything, alone = (statistics.median(seconds[kind, name]) for name in sides)
        print(f"{kind:20} {ours:8.2f} {everything:12.2f} {alone:14.2f} {everything / ours:11.2f} {alone / ours:6.2f}")


def some_texts(rows: dict[Task, list[dict[str, Any]]]) -> list[str]:
    """Enough of each task to learn a vocabulary from."""
    values = (value for of in rows.values() for row in of[:2000] for value in row.values())
    texts = (text for value in values for text in (value if isinstance(value, list) else [value]))
    return [text for text in texts if isinstance(text, str)]


def random_model(vocab_size: int) -> Transformer:
    model = Transformer(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.04)  # enough for predictions to differ
    return model.eval()


def peer(model: Transformer) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    theirs = Qwen3ForCausalLM(Qwen3Config(**config_to_json(model.config), attn_implementation="sdpa"))
    theirs.load_state_dict(model.state_dict())
    return theirs.eval()


def spans(task: Task, rows: Sequence[dict[str, Any]], i: int, tokenizer: Tokenizer) -> list[Span]:
    ids = [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts_of(task, rows, i)]
    return [cut(span, CONTEXT) for span in spans_of(task, ids)]


@torch.inference_mode()
def score_by_peer(model: Any, groups: Groups, *, everything: bool) -> list[list[Score]]:
    """Each span a row; rows in order of length, a batch as large as ours may be."""
    flat = sorted(((len(span.read), g, m, span) for g, group in enumerate(groups) for m, span in enumerate(group)),
                  key=lambda entry: entry[:3], reverse=True)  # fmt: skip
    found: dict[tuple[int, int], Score] = {}
    while flat:
        size = max(1, BATCH_TOKENS["cpu"] // flat[0][0])
        batch, flat = flat[:size], flat[size:]
        T = batch[0][0]
        ids = torch.tensor([[*span.read, *[0] * (T - n)] for n, _, _, span in batch])
        mask = torch.tensor([[1] * n + [0] * (T - n) for n, _, _, _ in batch])
        if everything:
            log_p_btv = model(ids, attention_mask=mask, use_cache=False).logits.log_softmax(dim=-1)
            pieces = [log_p_btv[i, span.start - 1 : n] for i, (n, _, _, span) in enumerate(batch)]
        else:
            features = model.model(ids, attention_mask=mask, use_cache=False).last_hidden_state
            picked = [features[i, span.start - 1 : n] for i, (n, _, _, span) in enumerate(batch)]
            pieces = model.lm_head(torch.cat(picked)).log_softmax(dim=-1).split([len(of) for of in picked])
        for (_, g, m, span), log_p in zip(batch, pieces, strict=True):
            targets = torch.tensor(span.ids[span.start :])
            nats = -log_p.gather(-1, targets[:, None]).sum().item()
            found[g, m] = Score(nats, len(targets), bool((log_p.argmax(-1) == targets).all()))
    return [[found[g, m] for m in range(len(group))] for g, group in enumerate(groups)]


if __name__ == "__main__":
    main()
