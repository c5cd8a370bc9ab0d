"""Generation with weights in float32, 16 bits and int8, against transformers and llama.cpp, where that is installed.

    python bench/generate_forms.py [--model FOLDER] [--batches 1 16] [--prompt 64] [--tokens 24] [--rounds 3]

Without --model: random weights of SmolLM2-135M's shape. Prompts are random ids. Each side is a process of its own with
the same number of threads; all have one turn in every round, so that what else the machine does falls on all of them.
Reading the prompts and writing the tokens are timed apart, without what is around them (sampling, text): ours by
`CachedTransformer`, theirs by the model's forward pass with a dynamic cache. Figures are medians over the rounds, with
the least and the greatest. Memory is what a process holds once the model is loaded and used, above what it held before.

llama.cpp (`pip install xllamacpp`, which no extra asks for; with --model only) reads our GGUF files, in float32 and
Q8_0, and takes the rows as parallel requests. It tells no times of a batch, so writing is timed as a whole request less
one of one token.
"""

import argparse
import importlib.util
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from crawl2chat.generate.engine import compiles
from crawl2chat.model import CachedTransformer, load_to_generate
from crawl2chat.model.matrices import FORMS
from crawl2chat.release.gguf_file import GgufType, write_gguf

SMOLLM2 = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 49_152, "hidden_size": 576,
    "intermediate_size": 1_536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "head_dim": 64, "max_position_embeddings": 8_192, "rope_theta": 100_000.0, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True, "torch_dtype": "float32",
}  # fmt: skip
PEERS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PAGE = 4096  # bytes, of /proc/self/statm


@dataclass(frozen=True)
class Turn:
    prefill: float  # seconds
    decode: float
    megabytes: float


class Ours:
    def __init__(self, folder: Path, form: str, batch: int, length: int) -> None:
        model, kept = load_to_generate(folder, next(known for known in FORMS if known == form))
        compiled = compiles(model, batch)  # as an engine would
        self.cached = CachedTransformer(model, batch, length, empties_model=True, weights=kept, compiled=compiled)

    def prefill(self, ids: list[list[int]]) -> list[int]:
        features_btc = self.cached.prefill(range(len(ids)), [0] * len(ids), ids)
        self.position = len(ids[0])
        return self.cached.head(features_btc[:, self.position - 1]).argmax(dim=-1).tolist()

    def decode(self, ids: list[int]) -> list[int]:
        logits_bv = self.cached.decode([(id, self.position) for id in ids])
        self.position += 1
        return logits_bv.argmax(dim=-1).tolist()


class Peer:
    def __init__(self, folder: Path, form: str, batch: int, length: int) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=PEERS[form], attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def prefill(self, ids: list[list[int]]) -> list[int]:
        output = self.model(torch.tensor(ids), use_cache=True, logits_to_keep=1)
        self.cache = output.past_key_values
        return output.logits[:, -1].argmax(dim=-1).tolist()

    @torch.inference_mode()
    def decode(self, ids: list[int]) -> list[int]:
        output = self.model(torch.tensor(ids)[:, None], past_key_values=self.cache, use_cache=True)
        self.cache = output.past_key_values
        return output.logits[:, -1].argmax(dim=-1).tolist()


class LlamaCpp:
    def __init__(self, folder: Path, form: str, batch: int, length: int) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(folder / f"{form}.gguf")
        parameters.n_parallel, parameters.n_ctx, parameters.warmup = batch, batch * length, False
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = torch.get_num_threads()
        parameters.verbosity = -1
        self.server = xllamacpp.Server(parameters)
        self.clients = ThreadPoolExecutor(batch)

    def seconds(self, ids: list[list[int]], tokens: int) -> float:
        """How long it takes to read all prompts and write some tokens after each."""

        def ask(prompt: list[int]) -> int:
            wanted = {
                "prompt": prompt,
                "n_predict": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": False,
            }
            return int(self.server.handle_completions(wanted)["usage"]["completion_tokens"])

        began = time.perf_counter()
        assert set(self.clients.map(ask, ids)) == {tokens}
        return time.perf_counter() - began


SIDES = [("ours", Ours, form) for form in FORMS] + [("transformers", Peer, form) for form in PEERS]
GGUF_TYPES: tuple[GgufType, ...] = ("float32", "q8_0")
side: Ours | Peer | LlamaCpp
before = 0.0


def start(kind: type[Ours | Peer | LlamaCpp], folder: Path, form: str, batch: int, length: int, threads: int) -> None:
    global side, before
    torch.set_num_threads(threads)
    before = resident()
    side = kind(folder, form, batch, length)


def turn(ids: list[list[int]], tokens: int) -> Turn:
    if isinstance(side, LlamaCpp):
        reading = side.seconds(ids, 1)
        return Turn(reading, side.seconds(ids, tokens + 1) - reading, resident() - before)
    began = time.perf_counter()
    last = side.prefill(ids)
    read = time.perf_counter()
    for _ in range(tokens):
        last = side.decode(last)
    return Turn(read - began, time.perf_counter() - read, resident() - before)


def resident() -> float:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * PAGE / 1e6 if statm.exists() else 0.0


def random_folder(folder: Path) -> Path:
    from safetensors.torch import save_file

    from crawl2chat.model.huggingface import on_meta, read_config

    (folder / "config.json").write_text(json.dumps(SMOLLM2))
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, like in on_meta(read_config(folder)).named_parameters():
        weights[name] = (
            torch.ones(like.shape) if like.ndim == 1 else torch.randn(like.shape, generator=generator) * 0.04
        )
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def compare(folder: Path, gguf: Path | None, batch: int, prompt: int, tokens: int, rounds: int, threads: int) -> None:
    context = multiprocessing.get_context("spawn")
    drawn = random.Random(0)
    pools = []
    sides = SIDES + [("llama.cpp", LlamaCpp, form) for form in GGUF_TYPES if gguf]
    for _, kind, form in sides:
        arguments = (kind, gguf if kind is LlamaCpp else folder, form, batch, prompt + tokens + 16, threads)
        pools.append(ProcessPoolExecutor(1, context, initializer=start, initargs=arguments))
    turns: list[list[Turn]] = [[] for _ in sides]
    for i in range(rounds + 1):  # the first is a warm-up
        ids = [[drawn.randrange(1_000) for _ in range(prompt)] for _ in range(batch)]
        for pool, its in zip(pools, turns, strict=True):
            result = pool.submit(turn, ids, tokens).result()
            if i:
                its.append(result)
    for (name, _, form), its in zip(sides, turns, strict=True):
        read = [batch * prompt / each.prefill for each in its]
        written = [batch * tokens / each.decode for each in its]
        print(f"{batch:5} {name:12} {form:9} {spread(read):>22} {spread(written):>22} {its[-1].megabytes:8.0f}")
    for pool in pools:
        pool.shutdown()


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a model's folder (default: random weights)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="sequences at a time (1 16)")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt (64)")
    parser.add_argument("--tokens", type=int, default=24, help="tokens to write (24)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each side (all cores)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or random_folder(Path(scratch))
        gguf = Path(scratch) if options.model and importlib.util.find_spec("xllamacpp") else None
        for form in GGUF_TYPES if gguf else ():
            write_gguf(folder, Path(scratch, f"{form}.gguf"), form, name="model")
        print(f"{'batch':5} {'side':12} {'weights':9} {'prompt tokens/s':>22} {'new tokens/s':>22} {'MB':>8}")
        for batch in options.batches:
            compare(folder, gguf, batch, options.prompt, options.tokens, options.rounds, options.threads)


if __name__ == "__main__":
    main()
