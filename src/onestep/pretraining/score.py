"""The base's own score on held-out captions, measured before any student of it exists; a later base must be no worse."""

from pathlib import Path
from tempfile import TemporaryDirectory

from onestep.core.storage import replacing
from onestep.evaluation.evaluate import METRICS_FILE, evaluate
from onestep.evaluation.measurement import measuring_code
from onestep.evaluation.settings import EvaluateSettings
from onestep.inference.baselines import sample_baselines
from onestep.inference.settings import SamplesSettings


def score_base(
    clips: Path,
    base: Path,
    judge: Path,
    out: Path,
    text_tokens: int,
    samples: SamplesSettings,
    evaluation: EvaluateSettings,
) -> None:
    """Write every metric of the real clips, the autoencoder and the teacher at each setting, in the form of `metrics.json`."""
    with TemporaryDirectory() as scratch:
        family, reports = Path(scratch) / "teacher", Path(scratch) / "reports"
        sample_baselines(base, clips, judge, Path(scratch) / "none", family, text_tokens, samples, measuring_code())
        evaluate([family], clips, judge, reports, evaluation)
        with replacing(out) as partial:
            partial.write_bytes((reports / METRICS_FILE).read_bytes())
