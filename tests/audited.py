"""A real git and DVC project whose every stage can be computed again: footage, clips, judge, weights, metrics, verdict."""

import shutil
from pathlib import Path

import pytest

from onestep.core.yaml_files import dump_yaml, read_yaml
from onestep.provenance.signing import SigningKey, find_key, make_key
from onestep.registry.merge import merge
from onestep.registry.promotion import promote
from onestep.registry.recording import Recorded, record
from onestep.vcs.project import Project
from tests.toy_project import offer, reproduce, run, started, use_tools_of_this_environment

GRAPH = """
stages:
  footage:
    cmd: python make.py footage data/footage
    deps: [make.py, constraints.txt]
    params: [footage]
    outs: [data/footage]
  ingest:
    cmd: python make.py ingest data/footage data/clips
    deps: [make.py, constraints.txt, data/footage]
    outs: [data/clips]
  judge:
    cmd: python make.py judge models/judge
    deps: [make.py, constraints.txt]
    outs: [models/judge]
  train:
    cmd: python make.py train data/clips models/onestep
    deps: [make.py, constraints.txt, data/clips]
    params: [machine, train, odd.yaml: [odd]]
    outs: [models/onestep]
    meta: {training: true, environment: [WANDERING]}
  evaluate:
    cmd: python make.py evaluate models/onestep models/judge data/clips reports/metrics.json
    deps: [make.py, constraints.txt, models/onestep, models/judge, data/clips]
    outs:
      - reports/metrics.json: {cache: false}
  latency:
    cmd: python make.py latency models/onestep reports/latency.json
    deps: [make.py, constraints.txt, models/onestep]
    outs:
      - reports/latency.json: {cache: false}
      - .onestep/machine.json: {cache: false, persist: true}
  gate:
    cmd: >-
      python make.py gate reports/metrics.json reports/latency.json .onestep/machine.json data/production.json
      reports/verdict.json
    deps: [make.py, constraints.txt, reports/metrics.json, reports/latency.json, .onestep/machine.json, data/production.json]
    params: [gate]
    outs:
      - reports/verdict.json: {cache: false}
artifacts:
  onestep: {path: models/onestep, type: model, meta: {licence: Apache-2.0}}
  judge: {path: models/judge, type: model}
  clips: {path: data/clips, type: dataset, meta: {licence: CC0-1.0, source: 'https://person:secret@example.org/clips?token=abc'}}
"""

MAKE = '''
import hashlib, json, os, sys, time
from pathlib import Path

stage, *paths = sys.argv[1:]
*needs, out = map(Path, paths)


def value(*parts):
    """A number in [0, 1) from bytes."""
    return int(hashlib.sha256(b"|".join(parts)).hexdigest()[:8], 16) / 16**8


def everything(folder):
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".gitignore")


def settings(group):
    from ruamel.yaml import YAML  # some of the environments that this runs in have no onestep

    return YAML(typ="safe").load(Path("params.yaml"))[group]


if stage == "footage":
    (out / "shots").mkdir(parents=True)
    for number in range(settings("footage")["files"]):
        (out / "shots" / f"{number}.mp4").write_bytes(b"video %d" % number)
elif stage == "ingest":
    import pandas as pd
    out.mkdir(parents=True)
    rows, shots = [], sorted(needs[0].rglob("*.mp4"))
    for path in shots[:-1]:
        split = "test" if path.stem == "1" else "train"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        source = path.relative_to(needs[0]).as_posix()
        rows.append({"clip_id": f"clip-{path.stem}", "source": source, "source_sha256": digest, "split": split})
    refused = [{"source": shots[-1].relative_to(needs[0]).as_posix(), "reason": "black"}]
    pd.DataFrame(rows).to_parquet(out / "clips.parquet", index=False)
    pd.DataFrame(refused).to_parquet(out / "quarantine.parquet", index=False)
    (out / "clips-00000.tar").write_bytes(b"".join(p.read_bytes() for p in shots[:-1]))
elif stage == "judge":
    out.mkdir(parents=True)
    (out / "model.safetensors").write_bytes(b"a ruler" * 30_000)
elif stage == "train":
    import numpy as np
    from safetensors.numpy import save_file
    out.mkdir(parents=True)
    chosen, clips = settings("train"), (needs[0] / "clips-00000.tar").read_bytes()
    rng = np.random.default_rng(chosen["seed"])
    weights = rng.normal(size=(8, 8)) * chosen["learning_rate"] + len(clips) + float(os.environ.get("WANDERING", "0"))
    save_file({"weights": weights}, out / "model.safetensors")
    (out / "model_index.json").write_text("{}")
elif stage == "evaluate":
    from safetensors.numpy import load_file
    weights = float(load_file(needs[0] / "model.safetensors")["weights"].mean())
    cell = {"value": weights, "low": weights - 1, "high": weights + value(everything(needs[1]))}
    out.write_text(json.dumps({"models": {"onestep": {"accuracy": cell}}}))
elif stage == "latency":
    machine = {"cpu": os.environ.get("PROCESSOR", "one"), "cores": 2, "gpus": [], "threads": 1}
    out.write_text(json.dumps({"seconds": time.time(), "machine": machine}))
    Path(".onestep").mkdir(exist_ok=True)
    Path(".onestep/machine.json").write_text(json.dumps(machine, indent=2, sort_keys=True) + chr(10))
else:
    assert json.loads(needs[1].read_text())["machine"] == json.loads(needs[2].read_text())
    observed = json.loads(needs[0].read_text())["models"]["onestep"]["accuracy"]["value"]
    passed = observed >= settings("gate")["floor"]
    rules = [{"name": "floor", "outcome": "passed" if passed else "failed", "reason": f"{observed}"}]
    verdict = {"verdict": "promote" if passed else "reject", "reason": f"accuracy {observed}", "rules": rules}
    out.write_text(json.dumps(verdict | {"inputs": [hashlib.sha256(p.read_bytes()).hexdigest() for p in needs]}))
'''

PARAMS = {
    "machine": {"threads": 1},
    "footage": {"files": 4},
    "train": {"learning_rate": 0.1, "seed": 7},
    "gate": {"floor": 0.0},
}
# What YAML 1.1 and 1.2 read as different values, or what JSON cannot hold; dvc.lock spells each in DVC's own way.
ODD = """
odd:
  rate: 3.0e-5
  tiny: 1e-10
  whole: 1.0
  word: yes
  switch: on
  octal: 0o17
  long: 1_000
  time: 12:30:45
  none: null
  endless: .inf
  nothing: .nan
  text: '3e-05'
  list: [1.0e-7, no, ~]
"""


def make_project(root: Path) -> None:
    """The project before its first run, committed."""
    root.mkdir(parents=True)
    (root / "reports").mkdir()
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "make.py").write_text(MAKE)
    (root / "constraints.txt").write_text("numpy==2.4.0\n")
    (root / "params.yaml").write_text(dump_yaml(PARAMS))
    (root / "odd.yaml").write_text(ODD)
    (root / ".gitignore").write_text("/.onestep/\n")
    with started(root):
        pass


def train(root: Path, offered: bool = True, **changes: dict[str, object]) -> None:
    """Run the graph with other settings, as the ledger's next comparison."""
    params = read_yaml(root / "params.yaml")
    for group, values in changes.items():
        params[group] |= values
    (root / "params.yaml").write_text(dump_yaml(params))
    if offered:
        reproduce(root, "ingest")
        offer(root)
    reproduce(root)


def audited_project(root: Path, key: SigningKey) -> Recorded:
    """Two promoted versions, the second in production, and a third run that was refused: the one in the working copy."""
    make_project(root)
    train(root, offered=False)
    merge(Project(root), promote(Project(root), key).branch)
    train(root, train={"learning_rate": 0.2}, footage={"files": 5})
    merge(Project(root), promote(Project(root), key).branch)
    train(root, train={"learning_rate": 0.3}, gate={"floor": 1e6})
    return record(Project(root), key)


def object_of(root: Path, path: str) -> Path:
    """The file in the cache that holds a path of the working copy."""
    md5 = run(root, "md5sum", path).split()[0]
    return root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside every repository with the project's key, `own`, and a stranger's, `other`."""
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder / "own")
    make_key(folder / "other")
    return folder


@pytest.fixture(scope="session")
def key(keys: Path) -> SigningKey:
    found = find_key(Project(keys), keys / "own")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def audited_template(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Path:
    root = tmp_path_factory.mktemp("audited") / "project"
    with pytest.MonkeyPatch.context() as patched:
        use_tools_of_this_environment(patched)
        audited_project(root, key)
    return root


@pytest.fixture
def audited(audited_template: Path, tmp_path: Path) -> Path:
    """Two promoted versions and a refused run, all signed."""
    root = tmp_path / "project"
    shutil.copytree(audited_template, root, symlinks=True)
    return root
