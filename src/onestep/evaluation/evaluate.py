"""The `evaluate` stage: every sample set and the real clips, measured on the same prompts, with paired intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onestep.core.rounding import DECIMALS, rounded, significant
from onestep.core.storage import read_mapping, replacing, replacing_folder, sha256_folder, write_json
from onestep.data.clips import load_frames, read_index
from onestep.data.schema import attribute_columns
from onestep.evaluation.columns import ASKED, NAMED
from onestep.evaluation.comparison import cell, compare
from onestep.evaluation.distances import (
    FRECHET_RESAMPLES,
    Draws,
    Estimate,
    FrechetDistance,
    KernelDistance,
    Moments,
    diversity,
    make_draws,
    mean_of,
    mode_coverage,
)
from onestep.evaluation.fidelity import Margins, read_margins, texture
from onestep.evaluation.gsb import preference
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measurement import Measurement, Measurer, make_measurer, measure, read_measurement
from onestep.evaluation.names import QUESTIONS, better
from onestep.evaluation.settings import EvaluateSettings
from onestep.evaluation.statistics import Comparison, paired_tests
from onestep.evaluation.teacher import best_of_many_steps
from onestep.inference.rows import CANDIDATE, CEILINGS, CHAMPION, REAL
from onestep.inference.samples import RECORD, Samples, read_samples

METRICS_FILE = "metrics.json"
PER_PROMPT = "per_prompt.parquet"
PLOTS = "plots"
_MIN_CLIPS = 4
# Between AVX2 and AVX-512, 437 of the demo's 2,041 numbers differ, mostly by 1e-8; of one rounded so, one in 10,000 does.
_DIGITS = 4


class EvaluationError(RuntimeError):
    """The comparison cannot be made; the message says what is missing."""


@dataclass(frozen=True)
class Reference:
    """The real clips that every set is compared with, and which splits they came from."""

    features: np.ndarray  # [M, D]
    patches: Moments
    splits: dict[str, int]


def evaluate(
    samples: Sequence[Path],
    clips: Path,
    judge: Path,
    out: Path,
    settings: EvaluateSettings,
    comparison: Comparison | None = None,
    margins: Path | None = None,
) -> None:
    """Write `metrics.json`, `per_prompt.parquet` and `plots/` into the folder `out`; the same inputs give the same bytes.

    samples: the families' folders; clips: holds the prompts' own real clips and the reference. The row `real` is the
    prompts' own clips; the reference is other real clips, so that `real` is a ceiling and not a comparison with itself.
    comparison: what the run was offered; the candidate is then tested against the champion, or against every other
    model where there is none. margins: within how much two clips are the same, for the candidate's GSB. Raises
    `EvaluationError`, `MarginsError` or `SamplesError`.
    """
    found = read_samples(samples)
    if comparison:
        _require_offered(comparison, judge, samples)
    if len(found.prompts) < _MIN_CLIPS:
        raise EvaluationError(
            f"{len(found.prompts)} prompts give no intervals: the nearest legal samples.prompts is {_MIN_CLIPS}"
        )
    measurer = make_measurer(load_judge(judge), found.prompts, settings.text_model)
    reference = read_reference(clips, measurer)
    measured = dict(measure_each(found, clips, measurer))
    draws = make_draws(len(found.prompts), len(reference.features), settings.resamples, settings.seed)
    report = summarise(measured, reference, measurer, draws, settings)
    if comparison and CANDIDATE in measured:
        report["tests"] = tests(measured, reference, comparison)
        report["comparison"] = {"alpha": comparison.alpha, "seed": comparison.seed, "candidate": _model_of(samples)}
    report["settings"] = {s.name: {"steps": s.steps, "guidance": s.guidance} for s in found.sets}
    if margins and CANDIDATE in measured:
        report["gsb"] = _preferences(measured, reference, report, read_margins(margins), judge, clips, measurer, draws)
    report = as_reported(report)
    write_json(out / METRICS_FILE, report)
    with replacing(out / PER_PROMPT) as partial:
        per_prompt(measured, measurer).to_parquet(partial, index=False)
    with replacing_folder(out / PLOTS) as folder:
        for name, table in plots(report, found).items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format=f"%.{_DIGITS}g", lineterminator="\n")


def measure_each(samples: Samples, clips: Path, measurer: Measurer) -> Iterator[tuple[str, Measurement]]:
    """Every row of the report by name: the models in order, then the real clips."""
    for found in samples.sets:
        if found.measured and measurer.text is not None:
            raise EvaluationError(
                f"{found.measured} was measured without evaluate.text_model: empty data/baselines, "
                "so that the baselines are sampled anew"
            )
        yield found.name, read_measurement(found.measured) if found.measured else measure(found.frames(), measurer)
    yield REAL, measure(load_frames(clips, samples.prompts["clip_id"].tolist()), measurer)


def read_reference(clips: Path, measurer: Measurer) -> Reference:
    """Real test clips that are not a prompt's own; where they are fewer than the prompts, dev and then train clips as well."""
    index = read_index(clips)
    own = set(measurer.prompts["clip_id"])
    free = index[~index["clip_id"].isin(own)]
    chosen = free[free["split"] == "test"]
    for split in ("dev", "train"):
        missing = len(own) - len(chosen)
        if missing > 0:
            chosen = pd.concat([chosen, free[free["split"] == split].head(missing)])
    if len(chosen) < _MIN_CLIPS:
        raise EvaluationError(
            f"{clips} has {len(chosen)} clips besides the prompts' own and {_MIN_CLIPS} are needed to compare with: "
            f"the nearest legal samples.prompts is {max(len(index) - _MIN_CLIPS, 0)}"
        )
    frames = load_frames(clips, chosen["clip_id"].tolist())
    splits = {str(name): int(count) for name, count in chosen["split"].value_counts(sort=False).items()}
    assessed = measurer.judge.assess(frames)
    return Reference(assessed.features, Moments(assessed.patches), splits)


def estimates(
    measured: dict[str, Measurement], reference: Reference, measurer: Measurer, draws: Draws
) -> dict[str, dict[str, Estimate]]:
    """Every metric of every model, resampled by the same draws."""
    frechet = FrechetDistance(Moments(reference.features[:, None]), draws)
    patch = FrechetDistance(reference.patches, draws)
    kernel = KernelDistance(reference.features, draws)
    captions = measurer.prompts["caption"].to_numpy()
    asked = {name: measurer.prompts[name].to_numpy() for name in measurer.attributes}
    found = {}
    for name, model in measured.items():
        cells = {
            "frechet_video_distance": frechet.of(Moments(model.features[:, None])),
            "kernel_video_distance": kernel.of(model.features),
            "patch_frechet_distance": patch.of(model.patches),
            "diversity": diversity(model.features, draws),
            "caption_diversity": diversity(model.features, draws, captions),
            "mode_coverage": mode_coverage(model.attributes, asked, draws) if asked else None,
        }
        cells |= {column: mean_of(model.clips[column].to_numpy(), draws) for column in model.clips.columns}
        found[name] = {metric: estimate for metric, estimate in cells.items() if estimate is not None}
    return found


def summarise(
    measured: dict[str, Measurement], reference: Reference, measurer: Measurer, draws: Draws, settings: EvaluateSettings
) -> dict[str, Any]:
    """The content of `metrics.json`: values and differences with intervals, sizes of the sets, and what was not measured."""
    found = estimates(measured, reference, measurer, draws)
    names = sorted({metric for cells in found.values() for metric in cells})
    return {
        "models": {
            model: {name: cell(estimate, settings.confidence) for name, estimate in cells.items()}
            for model, cells in found.items()
        },
        "comparisons": compare(found, CANDIDATE, settings.confidence) if CANDIDATE in found else {},
        "prompts": len(measurer.prompts),
        "reference": {"clips": len(reference.features), "splits": reference.splits},
        "bootstrap": {
            "confidence": settings.confidence,
            "resamples": len(draws.prompts),
            "resamples_frechet": min(len(draws.prompts), FRECHET_RESAMPLES),
        },
        "metrics": {name: {"better": better(name)} for name in names},
        "unmeasured": measurer.unmeasured,
    }


def tests(measured: dict[str, Measurement], reference: Reference, comparison: Comparison) -> dict[str, Any]:
    """`{"onestep vs champion": {metric: {"p_value", "difference", "permutations"}}}`."""
    others = [CHAMPION] if CHAMPION in measured else [n for n in measured if n not in (CANDIDATE, *CEILINGS)]
    return {
        f"{CANDIDATE} vs {other}": paired_tests(
            measured[CANDIDATE], measured[other], reference.features, reference.patches, comparison
        )
        for other in others
    }


def per_prompt(measured: dict[str, Measurement], measurer: Measurer) -> pd.DataFrame:
    """One row per model and prompt: the per-clip metrics, and the word that the judge named of each attribute."""
    parts = []
    for name, model in measured.items():
        columns = {column: f"{ASKED}{column}" for column in attribute_columns(measurer.prompts)}
        named = pd.DataFrame(model.attributes).add_prefix(NAMED)
        parts.append(
            pd.concat([measurer.prompts.rename(columns=columns).assign(model=name), named, model.clips], axis=1)
        )
    return pd.concat(parts, ignore_index=True)


def as_reported(report: dict[str, Any]) -> dict[str, Any]:
    """The report in the digits that machines agree on; what the run was offered stays exact.

    A p-value may be smaller than any decimal that is kept, so its significant digits alone count.
    """
    exact = {key: report[key] for key in ("comparison",) if key in report}
    found: dict[str, Any] = rounded(report, _DIGITS, DECIMALS) | exact
    for name, cells in report.get("tests", {}).items():
        for metric, test in cells.items():
            found["tests"][name][metric]["p_value"] = significant(test["p_value"], _DIGITS)
    return found


def plots(report: dict[str, Any], samples: Samples) -> dict[str, pd.DataFrame]:
    """Data of DVC's plots: every number with its interval, and the teacher's numbers over its steps."""
    rows = [
        {"model": model, "metric": metric, **values}
        for model, cells in report["models"].items()
        for metric, values in sorted(cells.items())
    ]
    every = pd.DataFrame(rows)
    settings = pd.DataFrame(
        [{"model": s.name, "steps": s.steps, "guidance": s.guidance} for s in samples.sets if s.steps > 0]
    )
    return {"metrics": every, "steps": settings.merge(every, on="model")}


def _preferences(
    measured: dict[str, Measurement],
    reference: Reference,
    report: dict[str, Any],
    margins: Margins,
    judge: Path,
    clips: Path,
    measurer: Measurer,
    draws: Draws,
) -> dict[str, Any]:
    """The candidate's GSB, or why these margins do not allow one."""
    index = read_index(clips).set_index("clip_id")
    size = index.loc[measurer.prompts["clip_id"].iloc[0], ["frames", "height", "width"]]
    misfit = margins.misfit(sha256_folder(judge), (int(size.iloc[0]), int(size.iloc[1]), int(size.iloc[2])))
    if misfit:
        return {"against": None, "unmeasured": dict.fromkeys(QUESTIONS, misfit)}
    against = best_of_many_steps(report["models"], report["settings"])
    confidence = report["bootstrap"]["confidence"]
    return preference(measured, CANDIDATE, texture(reference.patches), margins, draws, confidence, against)


def _require_offered(comparison: Comparison, judge: Path, samples: Sequence[Path]) -> None:
    found = sha256_folder(judge)
    if comparison.judge not in (None, found):
        raise EvaluationError(
            f"{judge} has sha256 {found}, but data/production.json pins {comparison.judge}: the judge must not change "
            "during a comparison; run onestep ledger offer to begin one with the new judge"
        )
    for folder in samples:
        if (folder / RECORD).is_file() and read_mapping(folder / RECORD, seed=int)["seed"] != comparison.seed:
            raise EvaluationError(
                f"{folder} was sampled with another seed than the {comparison.seed} of data/production.json: run dvc repro"
            )


def _model_of(samples: Sequence[Path]) -> str | None:
    """The sha256 of the candidate's folder, as its samples record it."""
    for folder in samples:
        if (folder / RECORD).is_file():
            record = read_mapping(folder / RECORD, samples=list)
            if any(entry["name"] == CANDIDATE for entry in record["samples"]):
                return record.get("model_sha256")
    return None
