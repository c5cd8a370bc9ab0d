"""LoRA against training all weights, and against peft on transformers: tokens/s and peak memory, same batches.

    python bench/lora.py [--model FOLDER] [--rows 4] [--seq-len 256] [--learned 1.0] [--rounds 3] [--rank 16] [--ways …]

Without --model a random model of SmolLM2-135M's shape. Each way runs in a process of its own, whose peak memory is its
own; rounds are interleaved, one step of each way after the other, and speeds are medians, with the least and greatest,
and the greatest per second of computing, which on a busy machine with OMP_NUM_THREADS=1 says more.
--learned: the share of each row, at its end, that counts in the loss, as answers do. "compiled" is what our training
does by default in runs of more than about 20,000 tokens; compiling takes part of a minute, before the first round.
Needs peft and transformers; five processes of about 2 GB each, and about five minutes on two cores.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from crawl2chat.model import ModelConfig, Transformer, load_model, save_model
from crawl2chat.model.adapters import AdaptedTransformer, AdapterShape
from crawl2chat.train.optim import MuonAdamW

SMOLLM2 = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
}  # fmt: skip
WAYS = (
    "full", "full compiled", "full checkpointed", "lora", "lora compiled", "lora checkpointed", "dora", "dora compiled",
    "peft", "peft checkpointed", "peft dora",
)  # fmt: skip
DEFAULT_WAYS = ("full compiled", "lora compiled", "dora compiled", "peft", "peft dora")


def batch(step: int, options: argparse.Namespace, vocab_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, targets and whether each target counts."""
    ids = torch.randint(vocab_size, (options.rows, options.seq_len + 1), generator=torch.Generator().manual_seed(step))
    learned = torch.zeros(options.rows, options.seq_len, dtype=torch.bool)
    learned[:, round(options.seq_len * (1 - options.learned)) :] = True
    return ids[:, :-1], ids[:, 1:], learned


def ours(way: str, options: argparse.Namespace):
    """A function of the step that takes it and returns the loss."""
    model = load_model(options.model)
    if not way.startswith("full"):
        shape = AdapterShape(options.rank, 32 / options.rank, way.startswith("dora"))
        model = AdaptedTransformer.on(model, shape).initialise(0)
    model.train()
    model.recomputes_blocks = "checkpointed" in way
    if "compiled" in way:
        from crawl2chat.train.distributed import compile_parts

        compile_parts(model, one_shape=True)
    optimiser = MuonAdamW(model.named_parameters(), 0.001, 0.001, 0.0, adapter_lr=0.001)

    def step(i: int) -> float:
        inputs, targets, learned = batch(i, options, model.config.vocab_size)
        loss = model(inputs, targets_bt=targets, weights_bt=learned / learned.sum())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(i, 1.0)
        optimiser.zero_grad()
        return loss.item()

    return step


def theirs(way: str, options: argparse.Namespace):
    import peft
    import transformers

    from crawl2chat.model.adapters import TARGETS

    base = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    if "checkpointed" in way:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    config = peft.LoraConfig(r=options.rank, lora_alpha=32, target_modules=list(TARGETS), task_type="CAUSAL_LM",
                             use_dora="dora" in way)  # fmt: skip
    model = peft.get_peft_model(base, config).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.001, weight_decay=0.0, foreach=True)

    def step(i: int) -> float:
        inputs, targets, learned = batch(i, options, base.config.vocab_size)
        logits = model(inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.masked_fill(~learned, -100).flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    return step


def serve(way: str, options: argparse.Namespace) -> None:
    """Take a step for each line; print its seconds, those of all threads, the loss and the process's peak memory."""
    step = (theirs if way.startswith("peft") else ours)(way, options)
    for i, _ in enumerate(sys.stdin):
        began, computed = time.perf_counter(), time.process_time()
        loss = step(i)
        seconds, computed = time.perf_counter() - began, time.process_time() - computed
        print(
            json.dumps([seconds, computed, loss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]), flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder in transformers' form")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--learned", type=float, default=1.0, help="share of each row that counts in the loss")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=DEFAULT_WAYS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        if not options.model:
            model = Transformer(ModelConfig(**SMOLLM2, qk_norm=False, family="llama"))
            model.init_weights(0)
            options.model = temporary
            save_model(model, Path(temporary), stop_ids=[0], pad_id=0)
            del model
        sizes = [
            f"--{name}={getattr(options, name.replace('-', '_'))}"
            for name in ("seq-len", "rows", "learned", "rank", "model")
        ]
        command = [sys.executable, __file__, *sizes, "--serve"]
        processes = {
            way: subprocess.Popen([*command, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for way in options.ways
        }
        seconds: dict[str, list[float]] = {way: [] for way in options.ways}
        computing: dict[str, list[float]] = {way: [] for way in options.ways}
        losses: dict[str, list[float]] = {way: [] for way in options.ways}
        memory: dict[str, float] = {}
        for round_ in range(options.rounds + 1):  # the first is for warming up
            for way, process in processes.items():
                assert process.stdin
                assert process.stdout
                print(file=process.stdin, flush=True)
                took, computed, loss, memory[way] = json.loads(process.stdout.readline())
                losses[way].append(loss)
                if round_:
                    seconds[way].append(took)
                    computing[way].append(computed)
        for process in processes.values():
            assert process.stdin
            process.stdin.close()
            process.wait()
    tokens = options.rows * options.seq_len
    print(f"{tokens} tokens per step, {options.learned:.0%} learned, {torch.get_num_threads()} threads, medians of "
          f"{options.rounds} rounds")  # fmt: skip
    for way in options.ways:
        median, least, greatest = statistics.median(seconds[way]), max(seconds[way]), min(seconds[way])
        print(f"{way:20} {tokens / median:7.0f} ({tokens / least:.0f}–{tokens / greatest:.0f}) tokens/s "
              f"{tokens / min(computing[way]):6.1f} per CPU second {memory[way]:6.2f} GB peak   "
              f"losses {losses[way][0]:.4f} … {losses[way][-1]:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
