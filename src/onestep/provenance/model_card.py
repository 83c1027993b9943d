"""A model card in Hugging Face's format and a CycloneDX ML-BOM, both drawn from a model's record alone.

Sources: the model card's metadata (https://huggingface.co/docs/hub/model-cards), CycloneDX 1.6
(https://cyclonedx.org/docs/1.6/json/), licences by SPDX (https://spdx.org/licenses/).
"""

import json
import math
import uuid
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from onestep.core.storage import replacing
from onestep.core.yaml_files import dump_yaml
from onestep.provenance.record import Licence, Record
from onestep.provenance.show import number
from onestep.provenance.store import Found, sources
from onestep.vcs.project import Project

TASK = "text-to-video"


def write_card(project: Project, found: Found, out: Path) -> list[Path]:
    """Write `README.md` and `bom.cdx.json` into a folder; their paths. Raises `RecordError` where the record is broken."""
    rows = sources(project, found)
    written = {
        out / "README.md": model_card(found, rows),
        out / "bom.cdx.json": json.dumps(bom(found), indent=2, sort_keys=True) + "\n",
    }
    for path, text in written.items():
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return list(written)


def model_card(found: Found, rows: list[dict[str, Any]]) -> str:
    """The card as Markdown below its metadata."""
    record = found.record
    clips = {split: sum(len(row["clips"].get(split, [])) for row in rows) for split in ("train", "dev", "test")}
    lines = [
        "---",
        dump_yaml(_metadata(record), sort_keys=True).rstrip(),
        "---",
        "",
        f"# {found.title}",
        "",
        "A one-step video generator: one denoising step from noise to clip, guidance baked in.",
        "",
        f"- verdict of the gate: **{record.verdict.verdict}**. {record.verdict.reason}",
        f"- sha256 of the model's files: `{record.sha256}`",
        f"- signed by: {found.signer.fingerprint if found.signer else '**no key (unsigned)**'}",
        f"- made by run `{record.run}` from git commit `{record.source_commit}`; recorded {record.recorded_at}",
        f"- footage: {len(rows)} source files; clips: "
        + ", ".join(f"{count} {split}" for split, count in clips.items()),
        f"- random seeds: {', '.join(f'{name} {seed}' for name, seed in record.seeds.items()) or 'none'}",
        f"- hardware: {record.hardware.cpu}, {record.hardware.cores} cores {', '.join(record.hardware.gpus)}".rstrip(),
        "",
        "## Metrics",
        "",
        "| metric | value, with its interval |",
        "|---|---|",
        *(f"| {name} | {number(cell)} |" for name, cell in record.metrics.items()),
        "",
        "## Licences",
        "",
        *(
            f"- `{licence.path}`: {licence.licence or '**not stated**'}"
            + (f", {licence.source}" if licence.source else "")
            for licence in record.licences
        ),
        *_licences_of_footage(rows),
        "",
        "## How it was made",
        "",
        "| stage | command |",
        "|---|---|",
        *(f"| {stage.name} | `{stage.cmd or 'imported'}` |" for stage in record.stages),
        "",
        f"`onestep lineage verify {found.title}` checks all of this; `onestep lineage reproduce {found.title}` makes it again.",
        "",
    ]
    return "\n".join(lines)


def _metadata(record: Record) -> dict[str, Any]:
    """The card's metadata, in the hub's words."""
    own = _licence(record, record.path)
    metadata: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": TASK,
        "tags": ["onestep", "one-step", TASK],
    }
    if own:
        spdx = _spdx(own)
        single = spdx is not None and " " not in spdx  # the hub knows no expressions
        metadata |= {"license": own.lower()} if single else {"license": "other", "license_name": own}
    results = [
        {"type": name, "name": name.replace("_", " "), "value": cell["value"]}
        for name, cell in record.metrics.items()
        if isinstance(cell, dict) and _is_number(cell.get("value"))
    ]
    if results:
        dataset = {"type": "own-footage", "name": "test split of the run's clips"}
        result = {"task": {"type": TASK}, "dataset": dataset, "metrics": results}
        metadata["model-index"] = [{"name": record.model, "results": [result]}]
    return metadata


def _licences_of_footage(rows: list[dict[str, Any]]) -> list[str]:
    """What the footage's own table says of each clip, as Markdown; nothing where the table has no such column."""
    clips: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for row in rows:
        clips.update(row.get("licences", {}))
        files.update(row.get("licences", {}).keys())
    if not clips:
        return []
    lines = [
        "",
        "The footage by the column `licence` of its `metadata.csv`:",
        "",
        "| licence | clips | source files |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {_cell(words) or '**not stated**'} | {clips[words]} | {files[words]} |"
        for words in sorted(clips, key=lambda words: (-clips[words], words))
    ]


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def bom(found: Found) -> dict[str, Any]:
    """The bill of materials: the model, what it was made from, and the packages that made it."""
    record = found.record
    outs = record.outs()
    parts = [licence for licence in record.licences if licence.path != record.path and licence.path in outs]
    packages = {name: f"pkg:pypi/{name}@{quote(v, safe='')}" for name, v in record.environment.packages.items()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, found.envelope_sha256)}",
        "version": 1,
        "metadata": {
            "timestamp": record.recorded_at,
            "component": {
                "type": "machine-learning-model",
                "bom-ref": record.model,
                "name": record.model,
                "version": found.title.partition("@")[2] or record.run,
                "hashes": [_hash(record.sha256)],
                "licenses": _licences(_licence(record, record.path)),
                "modelCard": {
                    "modelParameters": {
                        "task": TASK,
                        "datasets": [{"ref": part.artifact} for part in parts if _is_data(part)],
                    },
                    "quantitativeAnalysis": {
                        "performanceMetrics": [_metric(name, cell) for name, cell in record.metrics.items()]
                    },
                },
                "properties": [
                    {"name": "onestep:verdict", "value": record.verdict.verdict},
                    {"name": "onestep:run", "value": record.run},
                    {"name": "onestep:gitCommit", "value": record.source_commit},
                    {"name": "onestep:ledgerHead", "value": record.ledger_head},
                ],
            },
        },
        "components": [
            *(_part(part, outs[part.path].sha256) for part in parts),
            *(
                {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [_hash(sha256)]}
                for path, sha256 in sorted(record.files.items())
                if path
            ),
            *(_library(name, record.environment.packages[name], purl) for name, purl in sorted(packages.items())),
        ],
        "dependencies": [
            {
                "ref": record.model,
                "dependsOn": sorted([*(part.artifact for part in parts), *packages.values()]),
            }
        ],
    }


def _part(part: Licence, sha256: str | None) -> dict[str, Any]:
    return {
        "type": "data" if _is_data(part) else "machine-learning-model",
        "bom-ref": part.artifact,
        "name": part.artifact,
        "hashes": [_hash(sha256)] if sha256 else [],
        "licenses": _licences(part.licence),
    }


def _library(name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _is_data(part: Licence) -> bool:
    return part.kind == "dataset"


def _metric(name: str, cell: Any) -> dict[str, Any]:
    if not isinstance(cell, dict):
        return {"type": name, "value": str(cell)}
    found: dict[str, Any] = {"type": name, "value": str(cell.get("value"))}
    if cell.get("low") is not None and cell.get("high") is not None:
        found["confidenceInterval"] = {"lowerBound": str(cell["low"]), "upperBound": str(cell["high"])}
    return found


def _licence(record: Record, path: str) -> str | None:
    return next((licence.licence for licence in record.licences if licence.path == path), None)


def _licences(licence: str | None) -> list[dict[str, Any]]:
    if licence is None:
        return []
    spdx = _spdx(licence)
    return [{"expression": spdx}] if spdx else [{"license": {"name": licence}}]


def _spdx(licence: str) -> str | None:
    """The licence as an SPDX expression in its usual case, null where it is none: a team's own terms have a name only."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(licence))
    except InvalidLicenseExpression:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}
