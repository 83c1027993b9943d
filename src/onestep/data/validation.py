"""The verdict of `validate`, as the stages after it read it."""

from pathlib import Path

from onestep.core.storage import read_mapping


class ValidationRefused(RuntimeError):
    """The clips failed their checks, so nothing may be made from them."""


def require_passed(path: Path) -> None:
    """Return when `validation.json` says that the clips passed; raise `ValidationRefused` when it does not."""
    record = read_mapping(path)
    if record.get("passed") is True:
        return
    failed = [check["name"] for check in record.get("checks", []) if not check["passed"]]
    raise ValidationRefused(
        f"{path} refuses these clips ({', '.join(failed) or 'it holds no verdict'}): "
        "mend the footage or the limits under validate in params.yaml, then run ingest and validate again"
    )
