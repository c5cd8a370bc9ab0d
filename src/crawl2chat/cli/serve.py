"""The commands that answer over HTTP: OpenAI's API, and the pages on which a model can be looked into."""

from __future__ import annotations

import argparse
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crawl2chat.api import find_model, name_of, package_recipes, read_engine
from crawl2chat.cli.arguments import Add, add_documents, add_model, add_weights, key_of, size, tool_names, within
from crawl2chat.cli.data import named_tokenizer

if TYPE_CHECKING:
    from crawl2chat.generate import Engine
    from crawl2chat.serve.model_pool import AvailableModel

SMALL = 20_000_000  # parameters, below which a step is so short that the server's event loop needs a core of its own


def add_serve(add: Add) -> None:
    text = "serve an OpenAI-compatible HTTP API, and the web app"
    _add_options(add("serve", text, serve_command, example="runs/laptop --port 8000"))


def add_app(add: Add) -> None:
    text = "open the web app in a browser: look into a model, sample, chat, rank"
    _add_options(add("app", text, app_command, example="runs/laptop"))


def _add_options(serve: argparse.ArgumentParser) -> None:
    add_model(serve)
    serve.add_argument("--name", metavar="NAME", help="the model's name for clients (default: from the folders)")
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: this machine only)"
    )
    serve.add_argument(
        "--port", type=within(int, 0, 65535), default=8000, help="port to listen on; 0 takes a free one (8000)"
    )
    serve.add_argument(
        "--tokenizer", action="append", default=[], type=named_tokenizer, metavar="NAME=PATH", dest="tokenizers",
        help="another tokenizer.json, or a folder with one, to compare with on the page Tokens; repeatable",
    )  # fmt: skip
    access = serve.add_argument_group("access")
    access.add_argument(
        "--key-variable", metavar="NAME", help="environment variable that holds the key which clients must send"
    )
    access.add_argument("--no-key", action="store_true", help="require no key even if other machines can reach --host")
    access.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME",
        help="another name under which clients reach this server; repeatable",
    )  # fmt: skip
    access.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN",
        help="allow pages of this origin to use the server from a browser (CORS), such as http://localhost:3000; "
        "* allows all and needs a key or --no-key; repeatable (default: none)",
    )  # fmt: skip
    access.add_argument(
        "--read-only", action="store_true",
        help="let nobody start, stop or resume runs on the page Runs, only watch them; take this, or a key, if others "
        "have accounts on this machine: a run works with your rights (default: allowed while --host is this machine)",
    )  # fmt: skip
    tools = serve.add_argument_group("tools that the server runs itself")
    tools.add_argument(
        "--run-tools", type=tool_names, default=[], metavar="NAMES",
        help="run these when the model calls them: search, calculator, python, with commas between; for requests that "
        "offer no tools of their own, or that name some in run_tools (default: none; clients run theirs)",
    )  # fmt: skip
    add_documents(tools)
    room = serve.add_argument_group("capacity")
    room.add_argument(
        "--max-batch", type=within(int, 1), metavar="N", help="maximum number of answers generated at a time (64)"
    )
    room.add_argument(
        "--queue", type=within(int, 0), default=256, metavar="N", help="maximum number of answers that wait (256)"
    )
    add_weights(room)
    room.add_argument("--memory", type=size, metavar="SIZE", help="memory for keys and values, such as 8GB (2GB)")
    room.add_argument(
        "--models-memory", type=size, default=8_000_000_000, metavar="SIZE",
        help="memory for all loaded models of a run; the least recently used ones are unloaded (8GB)",
    )  # fmt: skip
    room.add_argument(
        "--context", type=within(int, 2), metavar="TOKENS",
        help="maximum length of prompt plus answer (default: the model's context)",
    )  # fmt: skip
    ranking = serve.add_argument_group("the page on which answers are ranked")
    ranking.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help='JSON lines of {"prompt": …} or {"messages": …} (default: the verses that a run\'s made-up web asks for)',
    )  # fmt: skip
    ranking.add_argument("--guidelines", type=Path, metavar="FILE", help="a text for annotators (a short one of ours)")
    ranking.add_argument("--rankings", type=Path, metavar="FILE", help="where rankings go (RUN/rankings.sqlite)")
    ranking.add_argument(
        "--repeat-every", type=within(int, 0), default=10, metavar="N",
        help="show one earlier prompt again, unannounced, per N new ones, to measure how far annotators agree with "
        "themselves; 0: none (10)",
    )  # fmt: skip
    serve.add_argument(
        "--grace", type=within(float, 0), default=10, metavar="SECONDS",
        help="time for running answers to finish after Ctrl-C; press it again to quit at once (10)",
    )  # fmt: skip


def serve_command(options: argparse.Namespace) -> int:
    return _serve(options, opens=False)


def app_command(options: argparse.Namespace) -> int:
    return _serve(options, opens=True)


def _serve(options: argparse.Namespace, *, opens: bool) -> int:
    import torch

    from crawl2chat.serve.app.context import AppContext, RankingFiles, RunStarter
    from crawl2chat.serve.model_pool import ModelPool
    from crawl2chat.serve.run_tools import RunTools
    from crawl2chat.serve.server import bind, check_access, check_origins, make_server, run, set_up_logging
    from crawl2chat.stages.pipeline import Recipe
    from crawl2chat.stages.stage import read_manifest
    from crawl2chat.tokenizer.public import open_encoding

    for _, file in options.tokenizers:
        open_encoding(file)  # so that what is wrong with it is heard before the server listens
    key = key_of(options.command, options.key_variable)
    check_access(options.host, key, options.no_key)
    origins = check_origins(options.allow_origin, key, options.no_key)
    place = bind(options.host, options.port)  # before the model is read, which may take minutes
    host, port = options.host, place.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    models = list(_models(options))
    small = models[0].n_parameters < SMALL
    threads = max(1, torch.get_num_threads() - small)
    torch.set_num_threads(1)  # in this thread, or OpenMP keeps threads for it, too, and the engine's take twice as long
    pool = ModelPool(models, queue=options.queue, memory=options.models_memory, threads=threads)
    engine = pool.default.engine
    for flag, asked, has in (
        ("--context", options.context, engine.context), ("--max-batch", options.max_batch, engine.max_batch)
    ):  # fmt: skip
        if asked is not None and has < asked:
            print(f"serve {flag} {asked}: memory has room for {has}; give it more with --memory", file=sys.stderr)
    is_run = any(read_manifest(options.model / name) for name in ("crawl", "pretrain"))
    run_folder = options.model if is_run else None
    ranking = RankingFiles(options.prompts, options.guidelines, options.rankings, options.repeat_every)
    run_tools = RunTools(
        options.run_tools, options.model, options.documents, options.vectors, options.search == "always"
    )  # fmt: skip
    if run_tools.names:  # what is wrong with them is to be heard before the server listens
        run_tools.of_model(pool.default.model, run_tools.names)
    runs = RunStarter(Recipe, package_recipes(), _why_only_watched(options))
    context = AppContext(pool, options.model, run_folder, dict(options.tokenizers), ranking, runs)

    def listening() -> None:
        name = models[0].name
        messages = '[{"role": "user", "content": "Who are you?"}]'
        request = f'{{"model": "{name}", "messages": {messages}, "temperature": 0}}'
        header = f' -H "Authorization: Bearer ${options.key_variable}"' if key else ""
        room = f"{engine.context} tokens of context, {engine.max_batch} answers at a time"
        print(f"{name} answers at {address}/v1 ({room}); Ctrl-C ends it. Try:", flush=True)
        print(f"curl {address}/v1/chat/completions{header} -d '{request}'", flush=True)
        print(f"web app: {address}/", flush=True)
        if opens:  # in a thread, as browsers that run in the terminal are waited for, and wait for the server
            threading.Thread(target=_open_browser, args=(address,), daemon=True).start()

    set_up_logging()
    server = make_server(
        pool, context=context, hosts=[options.host, *options.allowed_host], key=key, grace=options.grace,
        origins=origins, listening=listening, run_tools=run_tools,
    )  # fmt: skip
    run(server, place)
    return 0


def _why_only_watched(options: argparse.Namespace) -> str | None:
    """Why runs can't be started or stopped through this server; None if they can."""
    from crawl2chat.serve.middleware import is_loopback

    if options.read_only:
        return "this server was started with --read-only, so runs can be watched here, not started or stopped"
    if not is_loopback(options.host):
        return (
            f"this server listens on {options.host}, which other machines reach, so runs can be watched here, "
            "not started or stopped"
        )
    return None


def _open_browser(address: str) -> None:
    if not webbrowser.open(address):
        print("(no browser could be opened here; open that address in one)", file=sys.stderr)


def _models(options: argparse.Namespace) -> Iterator[AvailableModel]:
    """The model that was named or is the run's best, and then the run's others in the order of their stages."""
    from crawl2chat.chat.assistant import assistants
    from crawl2chat.stages.stage import is_current, read_manifest

    folder, stage = find_model(options.model, options.stage)
    yield _model(options, folder, stage, options.name)
    run: Path = options.model
    base = read_manifest(run / "pretrain")
    others = [(run / "pretrain", base.stage)] if base and is_current(run, base) else []
    others += [(choice.folder, choice.manifest.stage) for choice in assistants(run)]
    for other, its_stage in others:
        if other != folder:
            yield _model(options, other, its_stage)


def _model(options: argparse.Namespace, folder: Path, stage: str | None, name: str | None = None) -> AvailableModel:
    from crawl2chat.chat.tools import taught_offer
    from crawl2chat.model.huggingface import model_folder, on_meta, read_config
    from crawl2chat.serve.model_pool import AvailableModel

    config = read_config(model_folder(folder))
    called, created = name or name_of(options.model, folder), int(folder.stat().st_mtime)
    taught = taught_offer(folder / "conversations.jsonl") if stage == "sft" else None

    def read() -> Engine:
        return read_engine(
            folder, keep_model=True, max_batch=options.max_batch or 64, memory=options.memory, context=options.context,
            weights=options.weights,
        )  # fmt: skip

    context = min(options.context or config.max_position_embeddings, config.max_position_embeddings)
    return AvailableModel(called, stage, created, config, context, on_meta(config).n_parameters(), read, taught)
