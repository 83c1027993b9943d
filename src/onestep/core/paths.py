"""Paths below a project's root, for what works on a whole project; a stage takes its paths from its command in `dvc.yaml`.

These two are the only places where paths are written.
"""

GRAPH = "dvc.yaml"
LOCK = "dvc.lock"
PARAMS = "params.yaml"
CONSTRAINTS = "constraints.txt"
CODE = "src"

# what a run is judged against, and what its stages report
PIN = "data/production.json"
MARGINS = "data/margins.json"
METRICS = "reports/metrics.json"
VERDICT = "reports/verdict.json"
LATENCY = "reports/latency.json"
VALIDATION = "reports/validation.json"
VALIDATION_PAGE = "reports/validation.html"
DRIFT = "reports/drift.json"
DRIFT_PAGE = "reports/drift.html"
REPORT_PAGE = "reports/report.html"
PAGES = "reports"
SAMPLE_SHEET = "reports/samples.gif"

# entries of `artifacts:` in dvc.yaml, and the stage of the registry
MODEL = "onestep"
CLIPS = "clips"
PRODUCTION = "prod"

# refs: a recorded run's branch is `runs/<id>`
RUNS = "runs/"

# beside the model's record in git, and on this machine alone
RECORDS = "records"
SIGNING_KEY = ".onestep/signing-key"
MACHINE = ".onestep/machine.json"  # which machine this is, beside the timings that were measured on it
CLONES = ".onestep/runs"
CACHE_LOCK = ".onestep/runs/.cache-lock"
CRASHES = ".onestep/crashes"
TIMES = ".onestep/times"
