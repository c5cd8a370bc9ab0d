"""How fast the engine generates, with CUDA graphs and without, and transformers in its fastest way."""

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.model.families import config_to_json
from crawl2chat.stages.figures import Figure
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings
from gpu_parts.job import Job, Row, Show, attempt
from gpu_parts.texts import endless

ROUNDS = 3
MEMORY_SHARE = 0.4  # of a GPU's memory, for keys and values


def random_model(depth: int, context: int, vocab: int, device: str, dtype: torch.dtype) -> Transformer:
    """One that nobody trained, but in which every matrix takes part."""
    model = Transformer(model_config(PretrainSettings(depth=depth, seq_len=context, batch_tokens=context), vocab))
    model.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.data = torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5
    return model.to(device, dtype).eval()


def random_prompts(job: Job, batch: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(batch)
    prompts: list[list[int]] = torch.randint(job.sizes.vocab, (batch, job.sizes.prompt), generator=generator).tolist()
    return prompts


def decoding(job: Job, show: Show) -> None:
    """Greedy tokens/s of whole calls, which read their prompts, too, in bf16; on a CPU in fp32."""
    sizes = job.sizes
    dtype = torch.bfloat16 if job.device == "cuda" else torch.float32
    model = random_model(sizes.decoding_depth, sizes.prompt + sizes.new_tokens, sizes.vocab, job.device, dtype)
    speeds: dict[int, float] = {}
    for batch in sizes.batches:
        show(attempt(job, f"crawl2chat, batch {batch}", partial(engine_figures, job, model, batch, speeds)))
    if job.device == "cuda":
        for batch in sizes.batches[:2]:
            eager = partial(engine_figures, job, model, batch, {}, replays=False)
            show(attempt(job, f"crawl2chat without CUDA graphs, batch {batch}", eager))
    if importlib.util.find_spec("transformers") is None:
        show(Row("transformers", note="not installed"))
        return
    peer = peer_model(model)
    static = "static cache, compiled" if job.device == "cuda" else "static cache"
    for way, cache in ((static, "static"), ("dynamic cache", None)):
        for batch in sizes.batches:
            figures = partial(peer_figures, job, peer, batch, cache, speeds)
            show(attempt(job, f"transformers, {way}, batch {batch}", figures))


def engine_figures(
    job: Job, model: Transformer, batch: int, speeds: dict[int, float], *, replays: bool = True
) -> list[Figure]:
    """speeds: tokens/s by batch size, to which this one is added. replays: whether by CUDA graphs, on a GPU."""
    sizes, tokenizer = job.sizes, endless(job.sizes.vocab)
    memory = 2_000_000_000
    if job.device == "cuda":
        memory = int(MEMORY_SHARE * torch.cuda.get_device_properties().total_memory)
    engine = Engine(model, tokenizer, max_batch=batch, memory=memory)
    engine.cached.replays = replays
    sampling = Sampling(temperature=0, max_tokens=sizes.new_tokens)
    prompts = random_prompts(job, batch)

    def generate(turn: int) -> None:
        # prompts begin with another token in each round, so that nothing of them is found in the cache
        written = engine.generate([[turn, *prompt[1:]] for prompt in prompts], sampling)
        assert all(len(completion.ids) == sizes.new_tokens for completion in written)

    figures = timed(job, batch, generate)
    speeds[batch] = figures[0].value
    return [*figures, Figure("rows", engine.max_batch), Figure("graphs", len(engine.cached.graphs))]


def timed(job: Job, batch: int, generate: Callable[[int], None]) -> list[Figure]:
    """The median of some calls after a first one that sets up. A call ends with its tokens in host memory."""
    times = []
    for turn in range(ROUNDS + 1):
        began = time.perf_counter()
        generate(turn)
        times.append(time.perf_counter() - began)
    seconds, tokens = statistics.median(times[1:]), job.sizes.new_tokens
    return [
        Figure("tokens_per_second", batch * tokens / seconds, "tokens/s", count=ROUNDS),
        Figure("step", 1000 * seconds / tokens, "ms"),
        Figure("first_call", times[0], "s"),
    ]


def peer_model(model: Transformer) -> Any:
    """The same weights in transformers."""
    from transformers import AutoModelForCausalLM, GenerationConfig, Qwen3Config
    from transformers.utils import logging

    logging.set_verbosity_error()
    weight, config = model.lm_head.weight, Qwen3Config(**config_to_json(model.config))
    peer = AutoModelForCausalLM.from_config(config, dtype=weight.dtype, attn_implementation="sdpa")
    peer.load_state_dict(model.state_dict())
    peer.generation_config = GenerationConfig()  # which names no token that ends a text
    return peer.to(weight.device).eval()


@torch.inference_mode()
def peer_figures(job: Job, peer: Any, batch: int, cache: str | None, speeds: dict[int, float]) -> list[Figure]:
    """With a static cache `generate` compiles decoding by itself on a GPU, with CUDA graphs (mode reduce-overhead)."""
    from transformers import CompileConfig, GenerationConfig

    sizes = job.sizes
    config = GenerationConfig(max_new_tokens=sizes.new_tokens, pad_token_id=0, do_sample=False)
    if cache:
        config.cache_implementation = cache
        if job.device == "cuda":
            config.compile_config = CompileConfig(dynamic=False)  # each batch gets kernels of its own
    ids_bt = torch.tensor(random_prompts(job, batch), device=job.device)
    mask_bt = torch.ones_like(ids_bt)

    def generate(turn: int) -> None:
        written = peer.generate(ids_bt, attention_mask=mask_bt, generation_config=config).tolist()
        assert all(len(ids) == sizes.prompt + sizes.new_tokens for ids in written)

    figures = timed(job, batch, generate)
    if batch in speeds:
        figures.append(Figure("ours_by_theirs", speeds[batch] / figures[0].value, "times"))
    return figures
