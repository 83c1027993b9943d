"""A project whose nights can be played in seconds: imported footage, real reports, a toy trainer, a remote, a folder of runs.

Each file of the footage is a line `brightness caption`; a negative brightness is a bad one. Commands are one small
script; `production` is the project's own.
"""

from pathlib import Path

import pytest

from onestep.core.yaml_files import dump_yaml, read_yaml
from tests.toy_project import started

ROOT = Path(__file__).parents[1]

GRAPH = """
stages:
  ingest:
    cmd: python make.py ingest data/footage data/clips
    deps: [make.py, data/footage]
    outs: [data/clips]
  validate:
    cmd: python make.py validate data/clips reports/validation.json
    deps: [make.py, data/clips]
    outs:
      - reports/validation.json: {cache: false}
    meta: {decision: true, retries: 1}
  production:
    cmd: onestep production data/production.json --out models/production
    params:
      - data/production.json: [champion]
    outs: [models/production]
  drift:
    cmd: python make.py drift data/clips models/production reports/drift.json
    deps: [make.py, data/clips, models/production]
    outs:
      - reports/drift.json: {cache: false}
    meta: {decision: true, retries: 1}
  train:
    cmd: python make.py train data/clips reports/validation.json models/onestep
    deps: [make.py, data/clips, reports/validation.json]
    params: [learning_rate, in_training]
    outs: [models/onestep]
    meta: {gpu: true, retries: 1, limit_s: 300}
  evaluate:
    cmd: python make.py evaluate models/onestep models/production reports/metrics.json
    deps: [make.py, models/onestep, models/production]
    outs:
      - reports/metrics.json: {cache: false}
  gate:
    cmd: python make.py gate reports/metrics.json data/production.json reports/verdict.json
    deps: [make.py, reports/metrics.json, data/production.json]
    params: [verdict]
    outs:
      - reports/verdict.json: {cache: false}
artifacts:
  onestep: {path: models/onestep, type: model}
  clips: {path: data/clips, type: dataset}
"""

MAKE = """
import hashlib, json, sys
from pathlib import Path

from onestep.core.yaml_files import read_yaml

stage, *paths = sys.argv[1:]
out = Path(paths[-1])
params = read_yaml(Path("params.yaml"))
print(stage, "works", flush=True)


def index(folder):
    import pandas as pd

    return pd.read_parquet(Path(folder) / "clips.parquet")


def save(content):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content))


if stage == "ingest":
    import pandas as pd

    out.mkdir(parents=True)
    rows = []
    for path in sorted(Path(paths[0]).glob("*.txt")):
        brightness, caption = path.read_text().split(" ", 1)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append({"clip_id": path.stem, "source": path.name, "source_sha256": digest, "start_s": 0.0, "end_s": 1.0,
                     "caption": caption.strip(), "split": "train", "brightness": float(brightness)})
    pd.DataFrame(rows).to_parquet(out / "clips.parquet", index=False)
elif stage == "validate":
    bad = [row.clip_id for row in index(paths[0]).itertuples() if row.brightness < 0]
    save({"passed": not bad, "checks": [{"name": "brightness", "passed": not bad, "failing": bad}]})
elif stage == "drift":
    before = Path(paths[1]) / "clips.parquet"
    moved = abs(index(paths[0]).brightness.mean() - index(paths[1]).brightness.mean()) if before.exists() else None
    said = "no reference" if moved is None else f"brightness moved by {moved:.2f}"
    save({"drifted": None if moved is None else bool(moved > 0.2), "reason": said})
elif stage == "train":
    if not json.loads(Path(paths[1]).read_text())["passed"]:
        sys.exit("refused: the clips did not pass")
    exec(params["in_training"])
    out.mkdir(parents=True)
    (out / "model_index.json").write_text("{}")
    (out / "weights").write_text(f"{params['learning_rate']} {index(paths[0]).brightness.sum():.6f}")
elif stage == "evaluate":
    model = {"frechet_video_distance": {"value": 3.0, "low": 2.0, "high": 4.0}}
    save({"models": {"onestep": model, "teacher-4": model}})
else:
    verdict = params["verdict"]
    outcome = {"promote": "passed", "hold": "held"}.get(verdict, "failed")
    save({"verdict": verdict, "reason": "because", "rules": [{"name": "prompts", "outcome": outcome, "reason": "because"}]})
"""


def write_footage(folder: Path, brightness: float, names: range, caption: str = "a circle") -> None:
    """Files of footage, each a little different from the others."""
    folder.mkdir(exist_ok=True)
    for number in names:
        (folder / f"{number:03d}.txt").write_text(f"{brightness + number / 1000:.3f} {caption} {number}\n")


def make_night_project(folder: Path) -> Path:
    """The project `folder/project`, its footage and its remote beside it; committed on main, nothing has run."""
    root = folder / "project"
    root.mkdir()
    write_footage(folder / "footage", 0.3, range(30))
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "make.py").write_text(MAKE)
    write_night_params(root)
    (root / ".gitignore").write_text("/.onestep/\n/reports/*.html\n")
    with started(root) as repo:
        repo.imp_url(str(folder / "footage"), str(root / "data" / "footage"))
        with repo.config.edit() as config:
            config["remote"]["storage"] = {"url": str(folder / "remote")}
            config["core"]["remote"] = "storage"
    return root


def write_night_params(root: Path, **changes: object) -> None:
    """The shipped rules of retraining, and the toy trainer's settings."""
    shipped = read_yaml(ROOT / "params.yaml")
    groups = {name: shipped[name] for name in ("retrain", "gate")} | {"judge": {"url": "none", "sha256": None}}
    params = groups | {"learning_rate": 1, "verdict": "promote", "in_training": ""} | changes
    (root / "params.yaml").write_text(dump_yaml(params))


@pytest.fixture(scope="session")
def fresh_night_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_night_project(tmp_path_factory.mktemp("nights"))
