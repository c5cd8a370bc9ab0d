"""What the page Runs asks of the server: runs are processes of their own, and nobody else can start or stop one."""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import httpx
import pytest
from made_runs import starter, wait_for_state, write_recipes
from served_runs import random_model

from crawl2chat.cli import run as run_cli
from crawl2chat.cli.main import main
from crawl2chat.cli.serve import _why_only_watched
from crawl2chat.serve.app.run_process import (
    LOG,
    RECORD,
    STATUS,
    Launch,
    RunProcesses,
    is_alive,
    log_lines,
    read_launch,
    started_at,
    state_of,
)
from crawl2chat.serve.app.runs import Wanted
from crawl2chat.stages.files import StageError, write_json
from crawl2chat.stages.pipeline import Recipe
from crawl2chat.stages.settings import RecipeError, load_settings, settings_help
from crawl2chat.stages.stage import Manifest, read_manifest
from crawl2chat.train.pretrain import save_stage_model
from crawl2chat.train.settings import PretrainSettings

SEVEN = {"crawl.seed": "7"}


@pytest.fixture
def served(serve, tmp_path):
    """A server that may start runs, next to its own run."""
    write_recipes(tmp_path / "runs")
    (tmp_path / "runs" / "laptop").mkdir()
    served = serve(tmp_path / "runs" / "laptop", context={"runs": starter()})
    served.folder = tmp_path / "runs"
    yield served
    for record in served.folder.glob(f"*/{RECORD}"):  # of a test that failed
        if (launch := read_launch(record.parent)) and is_alive(launch):
            os.kill(launch.pid, signal.SIGKILL)


def post(served, what, status=200, headers=None, **body):
    answer = served.http.post(f"/app/runs/{what}", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json() if status == 200 else answer.json()["error"]["message"]


def start(served, name="mine", recipe="recipes/tiny.toml", status=200, headers=None, settings=None):
    return post(served, "start", status, headers, name=name, recipe=recipe, settings=settings or {})


@pytest.mark.slow
def test_a_run_is_started_with_its_settings_followed_and_ends_well(served):
    start(served, settings=SEVEN)
    run = wait_for_state(served, "mine", "ended", "failed")
    assert run["state"] == "ended", run["lines"]
    recipe, out = served.folder / "recipes" / "tiny.toml", served.folder / "mine"
    assert run["command"] == f"crawl2chat run {recipe} --crawl.seed=7 --out={out}"
    assert read_manifest(out / "crawl").settings["seed"] == 7
    assert (run["stages"], run["at"], run["shown"], run["opened_by"]) == (["crawl"], None, False, None)
    assert run["lines"] == [f"report: {out / 'report.html'}"]
    assert f"$ {run['command']}" in (out / LOG).read_text()
    assert run["lines"][0] in post(served, "log", name="mine")["lines"]
    assert "is there already" in start(served, status=409)
    assert "is not running" in post(served, "stop", 409, name="mine")


@pytest.mark.slow
def test_a_run_stops_with_a_word_is_resumed_and_is_known_to_be_interrupted_when_killed(served):
    start(served, recipe="recipes/endless.toml")
    while (running := wait_for_state(served, "mine", "running"))["at"] != "crawl":  # while it starts, it says less
        time.sleep(0.2)
    assert "is running already" in post(served, "resume", 409, name="mine")
    assert post(served, "stop", name="mine") == {"name": "mine", "signal": "SIGINT"}
    stopped = wait_for_state(served, "mine", "stopped", "failed")
    assert stopped["state"] == "stopped"
    assert stopped["lines"][-1].startswith("interrupted")
    post(served, "resume", name="mine")
    resumed = wait_for_state(served, "mine", "running")
    assert resumed["command"] == running["command"]
    os.kill(read_launch(served.folder / "mine").pid, signal.SIGKILL)
    wait_for_state(served, "mine", "interrupted")


@pytest.mark.slow
def test_a_run_goes_on_when_the_app_that_started_it_is_killed(tokenizer, served, tmp_path):
    own = served.folder / "laptop" / "pretrain"
    save_stage_model(random_model(tokenizer.vocab_size, 0), tokenizer, own)
    made = Manifest("pretrain", {}, {}, {}, {}, {}, "2026-11-30T10:00:00+0000", 1.0, {})
    write_json(own / "manifest.json", vars(made))
    command = [sys.executable, "-m", "crawl2chat", "serve", str(served.folder / "laptop"), "--port", "0"]
    app = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = next(line.split()[-1] for line in app.stdout if line.startswith("web app"))
        body = {"name": "mine", "recipe": "recipes/tiny.toml", "settings": SEVEN}
        answer = httpx.post(f"{url}app/runs/start", json=body, timeout=300)
        assert answer.status_code == 200, answer.text
    finally:
        app.kill()
        app.communicate()
    assert not (served.folder / "mine" / "report.html").exists(), "it ended before the app was killed"
    assert wait_for_state(served, "mine", "ended", "failed", "interrupted")["state"] == "ended"
    assert read_manifest(served.folder / "mine" / "crawl").settings["seed"] == 7


@pytest.mark.slow
def test_a_run_that_fails_says_why_with_the_last_lines_of_its_log(served):
    start(served, settings={"crawl.source": "warc", "crawl.warc": "absent/pages.warc.gz"})
    run = wait_for_state(served, "mine", "failed", "ended")
    assert run["state"] == "failed"
    assert "absent/pages.warc.gz" in "\n".join(run["lines"])


@pytest.mark.slow
def test_a_plan_is_what_the_command_line_prints(served, capsys):
    settings = {"until": "pretrain", "pretrain.depth": "5", "pretrain.tokens": "100000"}
    plan = post(served, "plan", recipe="laptop", settings=settings)
    assert plan["command"] == (
        f"crawl2chat plan laptop --until=pretrain --pretrain.depth=5 --pretrain.tokens=100000 --cores={os.cpu_count()}"
    )
    assert main(shlex.split(plan["command"])[1:]) == 0
    printed = {line.split("  ")[0] if line[0] != " " else line: line for line in capsys.readouterr().out.splitlines()}
    rows = {what: (much, remark) for what, much, remark in plan["rows"]}
    for what in ("parameters", "training tokens", "memory of a device", "disk"):
        assert f"{rows[what][0]}  {rows[what][1]}" in printed[what]
    assert any(what.startswith("time on") for what in rows)


@pytest.mark.parametrize("read_only", [True, False])
def test_only_a_server_for_this_machine_that_is_not_read_only_may_start_runs(read_only):
    for host, is_here in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False), ("192.168.0.7", False)):
        refusal = _why_only_watched(argparse.Namespace(read_only=read_only, host=host))
        assert (refusal is None) == (is_here and not read_only), host


def test_what_may_only_be_watched_is_neither_started_nor_stopped(serve, tmp_path):
    write_recipes(tmp_path)
    (tmp_path / "laptop").mkdir()
    watched = serve(tmp_path / "laptop", context={"runs": starter("this server was started with --read-only")})
    before = sorted(tmp_path.rglob("*"))
    assert "--read-only" in start(watched, status=403)
    assert "--read-only" in post(watched, "plan", 403, recipe="laptop")
    for what in ("stop", "resume"):
        assert "--read-only" in post(watched, what, 403, name="laptop")
    assert sorted(tmp_path.rglob("*")) == before
    assert watched.http.get("/app/runs/about").json()["refusal"] == "this server was started with --read-only"
    assert post(watched, "check", recipe="laptop")["problems"] == {}


def test_pages_of_other_servers_can_start_nothing(serve, tmp_path):
    """Also those on this machine and those of --allow-origin, which may ask the models."""
    write_recipes(tmp_path)
    (tmp_path / "laptop").mkdir()
    friend = "http://localhost:3000"
    served = serve(tmp_path / "laptop", context={"runs": starter()}, origins=[friend])
    port = served.url.rpartition(":")[2]
    for headers in (
        {"Origin": "https://evil.example"}, {"Origin": friend}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
        {"Origin": f"http://localhost:{port}"}, {"Host": f"192.168.0.7:{port}"}, {"Host": "evil.example"},
    ):  # fmt: skip
        start(served, status=403, headers=headers)
        post(served, "stop", 403, headers, name="laptop")
    assert not (tmp_path / "mine").exists()
    assert start(served, name="..", status=400, headers={"Origin": served.url}).startswith("'..': expected a name")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../mine", "/tmp/mine", "-x", ".hidden", "a..b", "a b", "a\n", "recipes"]
)
def test_a_run_is_made_nowhere_else(served, name):
    before = sorted(served.folder.parent.rglob("*"))
    assert "expected a name" in start(served, name=name, status=400)
    for what in ("stop", "resume", "log"):
        post(served, what, 404, name=name)
    assert sorted(served.folder.parent.rglob("*")) == before


def test_what_is_there_is_not_touched(served):
    (served.folder / "file").write_text("mine")
    (served.folder / "link").symlink_to(served.folder / "nowhere")
    for name in ("file", "link", "laptop"):
        assert "is there already" in start(served, name=name, status=409)
    assert (served.folder / "file").read_text() == "mine"
    assert not (served.folder / "nowhere").exists()


def test_wrong_values_are_refused_beside_their_settings_in_the_command_lines_words(served):
    flags = {"pretrain.depth": "300", "sft.epochs": "many", "refine.languages": "[3]", "pretrain.detph": "4"}
    run = {"until": "nowhere", "force": "yes"}
    with pytest.raises(RecipeError) as caught:
        load_settings(Recipe, None, [f"--{name}={value}" for name, value in flags.items()], values=run)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    found = post(served, "check", recipe="recipes/tiny.toml", settings=flags | run)
    beside = [problem for problems in found["problems"].values() for problem in problems]
    assert sorted([*beside, *found["others"]]) == sorted(lines)
    assert set(found["problems"]) == {"pretrain.depth", "sft.epochs", "refine.languages", "until"}
    assert "pretrain.detph: no such setting; did you mean pretrain.depth?" in found["others"]
    refused = start(served, status=400, settings=flags | run)
    assert "pretrain.depth = 300: input should be less than or equal to 200" in refused
    assert not (served.folder / "mine").exists()


def test_a_value_stays_a_value(served, monkeypatch):
    """None becomes an option or another setting, and no shell reads any."""
    odd = "$(touch x); `y` 'z'\n--from=sft"
    values = {"model": "--prune", "crawl.source": "warc", "crawl.warc": "--force", "crawl.site.contact": odd}
    taken = {}

    def run_command(options, flags):
        taken.update(vars(options), recipe=load_settings(Recipe, None, flags))
        return 0

    monkeypatch.setattr(run_cli, "run_command", run_command)
    assert main(Wanted("laptop", values).run("runs/x")) == 0
    assert (taken["force"], taken["prune"], taken["first"], taken["model"]) == (False, False, None, "--prune")
    assert taken["recipe"].crawl.warc == ["--force"]
    assert taken["recipe"].crawl.site.contact == odd
    command = post(served, "check", recipe="laptop", settings=values)["command"]
    assert shlex.split(command)[1:-1] == Wanted("laptop", values).run("")[:-1]


def test_recipes_and_settings_are_those_of_the_command_line(served):
    about = served.http.get("/app/runs/about").json()
    recipes = {recipe["id"]: recipe for recipe in about["recipes"]}
    assert {"laptop", "pages", "gpu", "recipes/tiny.toml"} <= set(recipes)
    assert recipes["recipes/tiny.toml"]["comment"] == "A tiny recipe,\nfor tests."
    assert recipes["recipes/tiny.toml"]["values"]["crawl.tinyweb.people"] == "10"
    listed = re.findall(r"^  --(\S+)", settings_help(Recipe, word="e"), re.MULTILINE)  # which every one has in it
    assert [setting["name"] for setting in about["settings"]] == listed
    settings = {setting["name"]: setting for setting in about["settings"]}
    depth = PretrainSettings.model_fields["depth"]
    assert settings["pretrain.depth"] == {
        "name": "pretrain.depth", "kind": "int", "bounds": "≥ 1, ≤ 200", "default": "4", "help": depth.description,
        "choices": [],
    }  # fmt: skip
    assert settings["crawl.source"]["choices"][:2] == ["tinyweb", "warc"]
    assert settings["pretrain.tie_embeddings"]["choices"] == ["true", "false"]
    assert settings["until"]["choices"][0] == "crawl"
    assert len(served.http.get("/app/runs/about").content) < 500_000


def test_a_recycled_number_is_not_taken_for_the_run(tmp_path):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        launch = Launch(recipe="x", settings={}, cwd=".", command="x", began=0, pid=stranger.pid, started_at="earlier")
        write_json(tmp_path / RECORD, launch.model_dump())
        assert state_of(tmp_path, launch) == "interrupted"
        with pytest.raises(StageError, match="is not running"):
            RunProcesses().stop(tmp_path)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_second_request_to_stop_is_a_stronger_one_and_a_dead_child_is_not_running(tmp_path):
    stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    process.stdout.readline()
    launch = Launch(
        recipe="x", settings={}, cwd=".", command="x", began=0, pid=process.pid, started_at=started_at(process.pid)
    )
    write_json(tmp_path / RECORD, launch.model_dump())
    assert state_of(tmp_path, launch) == "running"
    assert RunProcesses().stop(tmp_path) == "SIGINT"
    asked = read_launch(tmp_path)
    assert state_of(tmp_path, asked) == "stopping"
    assert RunProcesses().stop(tmp_path) == "SIGTERM"
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its parent has not asked how
    assert started_at(process.pid) is None
    assert state_of(tmp_path, asked) == "stopped"
    assert state_of(tmp_path, launch) == "interrupted"  # had nobody asked
    process.communicate()


@pytest.mark.parametrize(
    ("status", "log", "state"),
    [
        ("0", "", "ended"), ("1", "crawl: no", "failed"), ("2", "usage", "failed"), ("130", "", "stopped"),
        ("143", "", "stopped"), ("", "crawl  3/9", "interrupted"), (None, "crawl  3/9", "interrupted"),
        (None, "crawl  3/9\ninterrupted; the same command goes on from here\n", "stopped"),
    ],
)  # fmt: skip
def test_how_a_run_ended_is_read_from_its_folder(tmp_path, status, log, state):
    (tmp_path / LOG).write_text(f"$ crawl2chat run\n{log}")
    if status is not None:
        (tmp_path / STATUS).write_text(status)
    launch = Launch(recipe="x", settings={}, cwd=".", command="x", began=0)
    assert state_of(tmp_path, launch) == state


def test_of_a_line_that_is_written_over_its_last_state_is_shown(tmp_path):
    command = b"$ crawl2chat run a\n"
    printed = b"\x1b[1mcrawl\x1b[0m  1/2\n  5 %\r 50 %\r100 %\ndone\r\n\n 1 \xff\r 2 \xe2"
    (tmp_path / LOG).write_bytes(command + b"old\n" + command + printed)
    assert log_lines(tmp_path, 9) == ["crawl  1/2", "100 %", "done", " 2 \ufffd"]
    (tmp_path / LOG).write_bytes(b"x" * 100_000 + b"\n" + b"y" * 1000 + b"\nlast\n")
    assert log_lines(tmp_path, 9) == ["y" * 500, "last"]
    assert log_lines(tmp_path / "absent", 9) == []


def test_a_folders_own_word_on_what_to_execute_counts_for_nothing(served):
    run = served.folder / "brought"
    run.mkdir()
    evil = {"recipe": "../evil", "settings": {}, "cwd": "/", "command": "touch /tmp/evil", "began": 0, "pid": 1}
    (run / RECORD).write_text(json.dumps(evil))
    assert "recipe ../evil: there is none" in post(served, "resume", 404, name="brought")
    assert "is not running" in post(served, "stop", 409, name="brought")
    (run / RECORD).write_text("[1, 2")
    post(served, "resume", 404, name="brought")
    assert served.http.get("/app/runs/list").status_code == 200


def test_runs_made_elsewhere_are_listed_with_what_they_are_at(served):
    for stage, mark in (("crawl", "manifest.json"), ("refine", ".started.json")):
        (served.folder / "old" / stage).mkdir(parents=True)
        (served.folder / "old" / stage / mark).write_text("{}")
    (run,) = served.http.get("/app/runs/list").json()["runs"]
    assert (run["name"], run["state"], run["at"], run["stages"]) == ("old", "begun", "refine", ["crawl"])
    assert run["command"] == f"crawl2chat run {served.folder}/old/recipe.toml --out {served.folder}/old"


def test_a_model_without_a_run_has_no_place_for_runs(serve):
    alone = serve(is_run=False, context={"runs": starter()})
    assert "open the app on one" in alone.http.get("/app/runs/about").json()["refusal"]
    assert alone.http.get("/app/runs/list").json() == {"runs": [], "left_out": 0}
    start(alone, status=403)
