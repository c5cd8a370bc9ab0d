"""Names on a hub: a small server speaks what huggingface_hub needs, and the command runs as a user's would."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


NOT_NEEDED = (
    "pytorch_model.bin", "model.pt", "flax_model.msgpack", "onnx/model.onnx", "onnx/model.safetensors",
    "consolidated.safetensors", "training_args.bin", "adapter_model.bin",
)  # fmt: skip


@pytest.fixture
def hub(checkpoint):
    """A hub with one model, a gated and a private one, a list of what was asked for, and what is to go wrong."""
    files = {file.name: file.read_bytes() for file in checkpoint.iterdir()} | dict.fromkeys(NOT_NEEDED, b"others")
    asked: list[str] = []
    wrong: set[str] = set()

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(f"{self.command} {self.path}")
            path = self.path.split("?")[0]
            if path.startswith("/api/models/their/gated"):
                return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
            if path.startswith("/api/models/their/closed"):
                return self.answer(403, b"{}")
            if "/their/model" not in path:
                return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if "absent" in path:
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            if "/tree/" in path:
                rows = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
                return self.answer(200, json.dumps(rows).encode())
            if path.startswith("/api/"):
                siblings = [{"rfilename": name} for name in files]
                return self.answer(200, json.dumps({"id": "their/model", "sha": COMMIT, "siblings": siblings}).encode())
            content = files[path.partition(f"/resolve/{COMMIT}/")[2]]
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            weights = "/model-00001-of-" in path
            if weights and "short" in wrong and self.command == "GET":
                content = content[:-7]
            if weights and "cut" in wrong:
                self.answer(200, content, headers, sent=len(content) // 2)
                return self.connection.close()
            return self.answer(200, content, headers)

        do_HEAD = do_GET  # noqa: N815

        def answer(self, status, content, headers=(), sent=None):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **dict(headers)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[:sent])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked, wrong
    server.shutdown()


def run_import(tmp_path, endpoint, *arguments):
    quiet = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}  # of other tests
    environment = quiet | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "crawl2chat", "import", *arguments, "--out", str(tmp_path / "run")]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)


def test_a_name_on_the_hub_is_downloaded_with_nothing_that_is_not_needed(hub, tmp_path):
    endpoint, asked, _ = hub
    done = run_import(tmp_path, endpoint, "their/model")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "run" / "pretrain" / "manifest.json").read_text())
    assert manifest["settings"]["source"] == f"their/model@{COMMIT}"
    assert not any(name in line for line in asked for name in NOT_NEEDED)
    assert "100%" in done.stderr  # a bar


@pytest.mark.slow
def test_after_a_download_that_was_cut_complete_files_are_kept(hub, tmp_path):
    endpoint, asked, wrong = hub
    wrong.add("cut")
    done = run_import(tmp_path, endpoint, "their/model")
    assert done.returncode == 1
    assert "run the command again, it keeps the files that are complete" in done.stderr
    wrong.clear()
    asked.clear()
    done = run_import(tmp_path, endpoint, "their/model")
    assert done.returncode == 0, done.stderr
    shards = [line for line in asked if line.startswith("GET") and line.endswith(".safetensors")]
    assert shards == [f"GET /their/model/resolve/{COMMIT}/model-00001-of-00005.safetensors"]


@pytest.mark.slow
def test_a_file_that_is_shorter_than_announced_is_not_imported(hub, tmp_path):
    endpoint, _, wrong = hub
    wrong.add("short")
    done = run_import(tmp_path, endpoint, "their/model")
    assert done.returncode == 1
    assert "downloading their/model from" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "pretrain" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("their/gated",), "is gated: accept its terms"),
        (("their/closed",), "does not let you read their/closed; log in with `hf auth login`"),
        (("their/nothing",), "is neither a folder here nor a model at"),
        (("their/model", "--revision", "absent"), "has no revision 'absent'"),
    ],
)
def test_what_the_hub_refuses_is_said(hub, tmp_path, arguments, reason):
    done = run_import(tmp_path, hub[0], *arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_the_ways_out_are_named(tmp_path):
    done = run_import(tmp_path, "http://127.0.0.1:9", "their/model")
    assert done.returncode == 1
    assert "can't be reached" in done.stderr
