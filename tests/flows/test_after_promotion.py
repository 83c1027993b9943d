"""What follows a promotion is a list of functions; a hub is one more of them, tried against a local stand-in."""

import base64
import http.server
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows.after_promotion import STEPS, Promoted, follow_up

from onestep.nightly.publish import publish_promotion
from onestep.nightly.workspace import open_workspace
from onestep.registry.champion import champion
from onestep.registry.promotion import promote
from onestep.vcs.project import Project
from tests.nightly.test_workspace import committed, published  # noqa: F401
from tests.toy_project import run

LOG = logging.getLogger("after promotion")


@pytest.fixture
def promoted(committed: Path) -> Promoted:  # noqa: F811
    """A promotion that is published, and nothing after it is done."""
    workspace = open_workspace(Project(committed), "promotion", published(committed, 2).branch)
    promotion = promote(workspace.clone)
    publish_promotion(workspace, promotion)
    return Promoted(workspace, promotion, "main")


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """The address of a hub that takes commits, the files that it was given, and the commits' messages."""
    files: dict[str, bytes] = {}
    messages: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/preupload/main"):
                wanted = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                answer: object = {"files": [{"path": file["path"], **wanted} for file in json.loads(body)["files"]]}
            else:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    else:
                        messages.append(line["value"]["summary"])
                repository = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
                answer = {"commitUrl": f"https://huggingface.co/{repository}/commit/{'a' * 40}", "commitOid": "a" * 40}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}", files, messages
    web.shutdown()


def test_promotion_is_merged_and_an_upload_is_one_more_function(
    promoted: Promoted,
    committed: Path,  # noqa: F811
    hub: tuple[str, dict[str, bytes], list[str]],
) -> None:
    address, files, messages = hub

    def upload(promoted: Promoted) -> str:
        from huggingface_hub import HfApi

        version = promoted.promotion.version_tag
        hub = HfApi(endpoint=address, token="a token that only this flow has")
        model = promoted.workspace.clone.root / "models" / "onestep"
        done = hub.upload_folder(repo_id="team/onestep", folder_path=model, commit_message=version)
        return f"{version} is uploaded: {done.commit_url}"

    notes = follow_up(promoted, LOG, (*STEPS, upload))
    url = f"https://huggingface.co/team/onestep/commit/{'a' * 40}"
    assert notes == ["merged into main", f"onestep@v1.0.0 is uploaded: {url}"]
    assert files == {"model_index.json": b"{}", "unet/weights": b"2"}
    assert messages == ["onestep@v1.0.0"]
    assert "learning_rate: 2" in (committed / "params.yaml").read_text()


def test_step_that_fails_leaves_the_promotion_and_the_steps_after_it(
    promoted: Promoted,
    committed: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    def upload(_: Promoted) -> str:
        raise ConnectionError("the hub cannot be reached")

    notes = follow_up(promoted, LOG, (upload, *STEPS))
    failed = "upload failed after the promotion, which stands: the hub cannot be reached"
    assert notes == [failed, "merged into main"]
    assert failed in caplog.text
    now = champion(Project(committed))
    assert now is not None
    assert now.version_tag == "onestep@v1.0.0"


def test_conflict_is_a_note_and_the_promotion_stands(promoted: Promoted, committed: Path) -> None:  # noqa: F811
    (committed / "params.yaml").write_text("learning_rate: 9\nverdict: hold\n")
    run(committed, "git", "commit", "--quiet", "--all", "--message", "Meanwhile")
    (note,) = follow_up(promoted, LOG)
    assert note.startswith("not merged into main")
    assert f"git merge {promoted.promotion.branch}" in note
    assert champion(Project(committed)) is not None
