"""What clips must be like before anything trains on them: Great Expectations on the index, and a verdict.

A failed verdict does not fail the stage: `validation.json` says what is wrong, and the stages after it refuse it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from onestep.core.storage import sha256_file, write_json
from onestep.data.clips import read_index, read_quarantine
from onestep.data.ingest_settings import IngestSettings
from onestep.data.metadata import SPLITS
from onestep.data.schema import INDEX, INDEX_TYPES, attribute_columns
from onestep.data.validate_settings import ValidateSettings

_LEAK = " leaks"  # a blank first: no column of metadata.csv is called so
_STRADDLES = " straddles"
_ROW_KEY = "clip_id"


@dataclass(frozen=True)
class Check:
    """One check of the clips: the expectations that make it, what it allows and what it found."""

    name: str
    limit: Any  # what is allowed, as JSON
    observed: Any  # what was found, as JSON
    expectations: Sequence[Any] = ()  # on the index
    summary: Sequence[Any] = ()  # on the one row of counts
    columns: Sequence[str] = ()  # without them the check fails


def validate(clips: Path, out: Path, settings: ValidateSettings, frame_settings: IngestSettings) -> None:
    """Check a clips folder and write the verdict `out` (JSON).

    The same clips and settings give the same bytes. Raises `StorageError` when the folder holds no index.
    """
    index = read_index(clips)
    quarantine = read_quarantine(clips)
    summary = _summary(index, quarantine)
    known = [name for name in INDEX_TYPES if name in index.columns]
    compared = index.assign(**_derived(index))
    results = _run(_checks(compared, summary, settings, frame_settings), compared, summary)
    splits = index["split"].value_counts() if "split" in known else pd.Series(dtype=int)
    record = {
        "passed": all(result["passed"] for result in results),
        "checks": results,
        "clips": {"total": len(index), **{name: int(splits.get(name, 0)) for name in SPLITS}},
        "sources": {"ingested": summary["ingested"], "quarantined": summary["quarantined"]},
        "quarantine": {str(k): int(v) for k, v in quarantine["reason"].value_counts().sort_index().items()},
        "index_sha256": sha256_file(clips / INDEX),
    }
    write_json(out, record)


def _summary(index: pd.DataFrame, quarantine: pd.DataFrame) -> dict[str, Any]:
    """Counts over the whole folder: files that gave clips and files that gave none, and clips of each split."""
    ingested = set(index["source"]) if "source" in index else set()
    lost = set(quarantine["source"]) - ingested
    splits = index["split"] if "split" in index else pd.Series(dtype=str)
    return {
        "ingested": len(ingested),
        "quarantined": len(lost),
        "quarantine_rate": round(len(lost) / max(len(lost) + len(ingested), 1), 6),
        "train_clips": int((splits == "train").sum()),
        "test_clips": int((splits == "test").sum()),
    }


def _derived(index: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns that compare rows: a training clip of a held-out combination; a source whose clips lie in two splits."""
    derived: dict[str, pd.Series] = {}
    attributes = attribute_columns(index)
    if attributes and "split" in index and index.get("held_out", pd.Series(dtype=str)).dtype == bool:
        combination = index[attributes[0]].str.cat(index[attributes[1:]], sep="\0")
        stated = (index[attributes] != "").any(axis=1)
        held_out = set(combination[index["held_out"] & stated])
        derived[_LEAK] = (index["split"] != "test") & (combination.isin(held_out) | index["held_out"])
    if {"split", "source_sha256"} <= set(index.columns):
        derived[_STRADDLES] = index.groupby("source_sha256")["split"].transform("nunique") > 1
    return derived


def _checks(
    index: pd.DataFrame, summary: dict[str, Any], settings: ValidateSettings, frames: IngestSettings
) -> list[Check]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations.expectations as gxe

    return [
        *_table_checks(index, gxe),
        *_frame_checks(index, settings, frames, gxe),
        *_row_checks(index, gxe),
        *_count_checks(summary, settings, gxe),
    ]


def _table_checks(index: pd.DataFrame, gxe: Any) -> list[Check]:
    """The index has its columns, of their types, whole and with one row per clip."""
    missing = sorted(set(INDEX_TYPES) - set(index.columns))
    return [
        Check(
            "columns",
            sorted(INDEX_TYPES),
            f"missing: {', '.join(missing)}" if missing else "all there",
            [gxe.ExpectTableColumnsToMatchSet(column_set=list(INDEX_TYPES), exact_match=False)],
        ),
        Check(
            "column types",
            dict(sorted(INDEX_TYPES.items())),
            {name: str(index[name].dtype) for name in sorted(set(INDEX_TYPES) & set(index.columns))},
            [gxe.ExpectColumnValuesToBeOfType(column=name, type_=kind) for name, kind in INDEX_TYPES.items()],
            columns=tuple(INDEX_TYPES),
        ),
        Check(
            "no value is missing",
            0,
            int(index[[name for name in INDEX_TYPES if name in index]].isna().sum().sum()),
            [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in INDEX_TYPES],
            columns=tuple(INDEX_TYPES),
        ),
        Check(
            "clip ids are unique",
            0,
            _repeats(index, [_ROW_KEY]),
            [gxe.ExpectColumnValuesToBeUnique(column=_ROW_KEY)],
            columns=(_ROW_KEY,),
        ),
    ]


def _frame_checks(index: pd.DataFrame, settings: ValidateSettings, frames: IngestSettings, gxe: Any) -> Iterator[Check]:
    """Every clip has the size, length and rate of `ingest`, and is bright and moves as `validate` wants it."""
    for name in ("frames", "height", "width", "fps"):
        wanted = getattr(frames, name)
        seen = sorted(index[name].dropna().unique().tolist(), key=str)[:8] if name in index else None
        expectation = gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[wanted])
        yield Check(name, wanted, seen, [expectation], columns=(name,))
    for name in ("brightness", "movement"):
        low, high = getattr(settings, name)
        values = index[name].dropna() if name in index else pd.Series(dtype=float)
        seen = [float(values.min()), float(values.max())] if len(values) else None
        expectation = gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        yield Check(name, [low, high], seen, [expectation], columns=(name,))


def _row_checks(index: pd.DataFrame, gxe: Any) -> list[Check]:
    """Captions, splits, and what rows must not be to each other: duplicates, or of one source in two splits."""
    one_of = gxe.ExpectColumnValuesToBeInSet
    blank = int((~index["caption"].fillna("").str.contains(r"\S")).sum()) if "caption" in index else None
    captions = [gxe.ExpectColumnValuesToMatchRegex(column="caption", regex=r"\S")]
    splits = sorted(index["split"].dropna().unique().tolist()) if "split" in index else None
    return [
        Check("captions are not empty", 0, blank, captions, columns=("caption",)),
        Check("splits", list(SPLITS), splits, [one_of(column="split", value_set=list(SPLITS))], columns=("split",)),
        Check(
            "no duplicates",
            0,
            _repeats(index, ["phash", "caption"]),
            [gxe.ExpectCompoundColumnsToBeUnique(column_list=["phash", "caption"])],
            columns=("phash", "caption"),
        ),
        Check(
            "no source in two splits",
            0,
            int(index[_STRADDLES].sum()) if _STRADDLES in index else None,
            [one_of(column=_STRADDLES, value_set=[False])],
            columns=(_STRADDLES,),
        ),
        _leak_check(index, one_of),
    ]


def _count_checks(summary: dict[str, Any], settings: ValidateSettings, gxe: Any) -> Iterator[Check]:
    """There are clips enough to train and to test on, and not too many files were refused."""
    for name, low, high in (
        ("train_clips", settings.min_train_clips, None),
        ("test_clips", settings.min_test_clips, None),
        ("quarantine_rate", None, settings.max_quarantine_rate),
    ):
        expectation = gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        limit = {"at least": low} if high is None else {"at most": high}
        yield Check(name.replace("_", " "), limit, summary[name], summary=[expectation])


def _leak_check(index: pd.DataFrame, one_of: Any) -> Check:
    name = "no held-out combination in training"
    if not set(attribute_columns(index)) - {_LEAK, _STRADDLES}:
        return Check(name, 0, "not checked: the footage has no attributes")
    if _LEAK not in index:
        return Check(name, 0, None, columns=("split", "held_out"))
    return Check(name, 0, int(index[_LEAK].sum()), [one_of(column=_LEAK, value_set=[False])], columns=(_LEAK,))


def _repeats(index: pd.DataFrame, columns: list[str]) -> int | None:
    return int(index.duplicated(columns).sum()) if set(columns) <= set(index.columns) else None


def _run(checks: Sequence[Check], index: pd.DataFrame, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The result of each check as JSON, in order, with the ids of the clips that break it."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("clips")
    able = {check.name: not set(check.columns) - set(index.columns) for check in checks}
    passed = dict(able)
    failing: dict[str, set[str]] = {check.name: set() for check in checks}
    tables = {"index": index, "summary": pd.DataFrame([summary])}
    for name, frame in tables.items():
        batch = (
            source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name).get_batch({"dataframe": frame})
        )
        suite = gx.ExpectationSuite(name)
        for check in checks:
            for expectation in (check.expectations if name == "index" else check.summary) if able[check.name] else ():
                expectation.meta = {"check": check.name}
                suite.add_expectation(expectation)
        keys = [_ROW_KEY] if name == "index" and _ROW_KEY in index else []
        for result in batch.validate(
            suite, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": keys}
        ).results:
            assert result.expectation_config is not None
            check_name = result.expectation_config.meta["check"]
            passed[check_name] &= bool(result.success)
            rows = result.result.get("unexpected_index_list") or []
            failing[check_name] |= {str(row[_ROW_KEY]) for row in rows if keys and _ROW_KEY in row}
    return [
        {
            "name": check.name,
            "passed": passed[check.name],
            "observed": check.observed if able[check.name] else "a column is missing or of another type",
            "limit": check.limit,
            "failing": sorted(failing[check.name]),
        }
        for check in checks
    ]
