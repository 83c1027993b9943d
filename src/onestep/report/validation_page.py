"""The page of `validation.json`: every check, clips that break one, a sample of the others, and the quarantine."""

from pathlib import Path

from onestep.core.storage import read_mapping
from onestep.data.clips import read_index, read_quarantine
from onestep.report.page import filmstrips, render_page

_FAILING_OF_A_CHECK = 8  # clips that are shown
_FAILING = 24
_SAMPLE = 12


def write_validation_page(clips: Path, validation: Path, page: Path) -> None:
    """Write `page` (HTML, offline) from the verdict and the clips that it speaks of; the same files give the same bytes.

    Raises `StorageError` where one of them is missing or broken.
    """
    record = read_mapping(validation)
    index, quarantine = read_index(clips), read_quarantine(clips)
    captioned = {"clip_id", "caption"} <= set(index.columns)
    captions = dict(zip(index["clip_id"], index["caption"], strict=True)) if captioned else {}
    failing = dict.fromkeys(clip for check in record["checks"] for clip in check["failing"][:_FAILING_OF_A_CHECK])
    sample = [clip for clip in captions if clip not in failing][:: max(len(captions) // _SAMPLE, 1)][:_SAMPLE]
    render_page(
        "validation.html.j2",
        page,
        record=record,
        failing=filmstrips(clips, [clip for clip in failing if clip in captions][:_FAILING], captions),
        sample=filmstrips(clips, sample, captions),
        quarantined=quarantine.astype(object).where(quarantine.notna(), None).to_dict("records"),
    )
