"""Rewards and preferences on a model that was brought along, such as SmolLM2-135M-Instruct, with LoRA.

    python bench/post_training.py sums MODEL OUT [--steps 18] [--seed 1]
    python bench/post_training.py pairs MODEL OUT --pairs FILE [--fitted 400] [--held-out 160]
    python bench/post_training.py problems FILE

MODEL is the folder of an imported model. `sums` makes two-digit sums and small word problems, none of which is both
learned from and measured, shows the model some that are worked out (a small one solves none otherwise), and trains on
others by rewards alone, with coin flips as control; `problems` writes such problems, also with numbers of three digits,
to a file for bench/honesty.py. `pairs` fits a reward model to some of the pairs and measures it on others, then follows
them by DPO and by RL from the same start. Prints figures, times.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import write_conversations
from crawl2chat.chat.settings import SftSettings
from crawl2chat.chat.sft import sft
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.stage import prefer
from crawl2chat.rl.settings import PolicyLoraSettings, ReinforceSettings
from crawl2chat.rl.stage import reinforce
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import write_jsonl
from crawl2chat.stages.json_rows import JsonRows
from crawl2chat.train.settings import LoraSettings

SHORT = 600  # characters of a conversation in `pairs`
ASKS = ("What is {a} + {b}?", "Add {a} and {b}.", "{a} plus {b} is?", "How much is {a} + {b}?")
STORIES = (
    "A shelf holds {a} books. Then {b} more are put on it. How many books does it hold?",
    "There were {a} birds in a tree, and {b} others joined them. How many birds are in the tree?",
    "Lena has {a} marbles and her brother has {b}. How many do they have together?",
)


def problems(count: int, seed: int = 0, digits: int = 2) -> list[dict[str, str]]:
    """Sums of two numbers, a third of them in a story; which numbers are held out is settled first."""
    rng = random.Random(seed)
    least, most = 10 ** (digits - 1), 10**digits
    numbers = list(dict.fromkeys((rng.randrange(least, most), rng.randrange(least, most)) for _ in range(2 * count)))
    rows = []
    for i, (a, b) in enumerate(numbers[:count]):
        story = i % 3 == 0
        question = rng.choice(STORIES if story else ASKS).format(a=a, b=b)
        split = "held_out" if i < count // 5 else "train"
        group = f"{'stories' if story else 'sums'}, {digits} digits"
        solution = f"{a} + {b} = {a + b}."
        tens = a - a % 10, b - b % 10
        steps = f"{tens[0]} + {tens[1]} = {sum(tens)}. {a % 10} + {b % 10} = {a % 10 + b % 10}. "
        steps += f"{sum(tens)} + {a % 10 + b % 10} = {a + b}. The answer is {a + b}."
        row = {"question": question, "answer": str(a + b), "solution": solution, "group": group, "split": split}
        rows.append(row | {"worked": steps})
    return rows


def show(name: str, started: float, figures: list[Figure]) -> None:
    print(f"{name}: {time.monotonic() - started:.0f} s")
    for figure in figures:
        interval = f" ({figure.interval[0]:.3f} to {figure.interval[1]:.3f})" if figure.interval else ""
        print(f"  {figure.name:44s} {figure.value:9.3f}{interval}  {figure.unit}  n = {figure.count}")
    sys.stdout.flush()


def sums(options: argparse.Namespace) -> None:
    rows = problems(1500, options.seed)
    taught = [row for row in rows if row["split"] == "train"][: options.taught]
    kept = [{name: text for name, text in row.items() if name != "worked"} for row in rows if row not in taught]
    write_jsonl(options.out / "problems.jsonl", kept)
    write_conversations([exchange(row["question"], row["worked"]) for row in taught], options.out / "worked.jsonl")
    before = SftSettings(
        lora=LoraSettings(rank=16, lr=0.001), epochs=1, seq_len=256, batch_tokens=1024, documents=0, held_out=0
    )
    started = time.monotonic()
    (options.out / "sft").mkdir()
    show("sft", started, sft(options.out / "worked.jsonl", options.model, options.out / "sft", before))
    settings = ReinforceSettings(
        lora=PolicyLoraSettings(rank=16, lr=0.00015), steps=options.steps, prompts=8, answers=8,
        max_tokens=options.tokens, measured=100, samples=4, skip_flat_groups=True, replay_weight=0,
    )  # fmt: skip
    started = time.monotonic()
    (options.out / "reinforce").mkdir()
    show(
        "reinforce",
        started,
        reinforce(options.out / "problems.jsonl", options.out / "sft", options.out / "reinforce", settings),
    )


def pairs(options: argparse.Namespace) -> None:
    rows = [row for _, row in JsonRows(options.pairs, lambda value: isinstance(value, dict))]
    rows = [row for row in rows if max(len(row["chosen"]), len(row["rejected"])) <= SHORT]
    random.Random(0).shuffle(rows)
    opening = {row["chosen"].partition("\n\nAssistant:")[0]: row for row in rows}  # one conversation each
    rows = list(opening.values())[: options.fitted + options.held_out]
    splits = ["held_out"] * options.held_out + ["train"] * options.fitted
    write_jsonl(options.out / "pairs.jsonl", [row | {"split": split} for row, split in zip(rows, splits, strict=False)])
    for method in ("dpo", "rl"):
        settings = PreferSettings(
            method=method, lora=PolicyLoraSettings(rank=16, lr=0.0002), steps=options.steps, pairs=8, prompts=4,
            answers=4, max_tokens=options.tokens, max_prompt_tokens=128, measured=24, best_of=1, reward_epochs=1,
            evaluate_every=max(1, options.steps // 4), replay_weight=0, kl_weight=0.02,
        )  # fmt: skip
        started = time.monotonic()
        (options.out / method).mkdir()
        show(method, started, prefer(options.out / "pairs.jsonl", options.model, options.out / method, settings))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sums", "pairs", "problems"])
    parser.add_argument("model", type=Path, help="of problems: the file to write")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument(
        "--fitted", type=int, default=400, help="of pairs: how many the reward model is fitted to (400)"
    )
    parser.add_argument("--held-out", type=int, default=160, help="of pairs: how many it is measured on (160)")
    parser.add_argument("--taught", type=int, default=200, help="of sums: problems that are shown worked out")
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--seed", type=int, default=1, help="of sums: other problems (1)")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    if options.what == "problems":
        made = problems(600) + problems(600, digits=3)
        write_jsonl(options.model, ({name: text for name, text in row.items() if name != "worked"} for row in made))
        sys.exit()
    if options.out is None:
        parser.error("OUT is missing")
    options.out.mkdir(parents=True)
    print(json.dumps(vars(options), default=str))
    {"sums": sums, "pairs": pairs}[options.what](options)
