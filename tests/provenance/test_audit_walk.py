"""`docs/audit.md` is typed as it stands, on a project as it is after its first run: refused, and recorded."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onestep.core.paths import SIGNING_KEY
from onestep.provenance.signing import find_key, make_key
from onestep.registry.recording import record
from onestep.vcs.project import Project
from tests.audited import make_project, train

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/audit.md").read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_every_command_of_the_walk_does_what_the_page_says(tmp_path: Path) -> None:
    project = tmp_path / "project"
    make_project(project)
    train(project, offered=False, gate={"floor": 1e6})
    make_key(project / SIGNING_KEY)
    record(Project(project), find_key(Project(project)))
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/onestep"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from onestep.cli.entry import main; main()' \"$@\"\n")
    command.chmod(0o755)
    search = os.pathsep.join((str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": search, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "160"}
    script = ["bash", "-c", "\n".join(BLOCKS)]
    done = subprocess.run(script, cwd=project, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    assert re.findall(r"exit code (\d+)", said) == ["0", "3", "0"], said + done.stderr
    assert "BROKEN  files of DVC: models/judge/model.safetensors" in said
    assert '"_type": "https://in-toto.io/Statement/v1"' in said
    assert "identical by 2 stages run again" in said
    assert "trained on it" in said
    assert "  stages   ingest, train, evaluate, latency, gate" in said
    assert (project / "lineage.html").is_file()
    assert (project / "card/bom.cdx.json").is_file()
