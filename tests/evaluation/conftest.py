from pathlib import Path

import pytest
import torch

from onestep.evaluation.judge import Judge, load_judge
from onestep.evaluation.settings import EvaluateSettings
from onestep.pretraining.judge import LabelledClips, class_numbers, fit
from onestep.pretraining.settings import JudgeTraining
from tests.evaluation.made import drawn, write_clips_folder

BUNDLED = Path(__file__).parents[2] / "data" / "bundled" / "judge"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def judge() -> Judge:
    """The judge that is shipped, or, before there is one, one trained for a few seconds: it knows colours at least."""
    if (BUNDLED / "config.json").is_file():
        return load_judge(BUNDLED)
    frames, rows = drawn(240, seed=0)
    settings = JudgeTraining(seed=0, updates=80, batch=16, learning_rate=4e-3, width=6)
    return fit(LabelledClips(frames, class_numbers(rows)), settings)


@pytest.fixture(scope="session")
def judge_folder(judge, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    judge.save(folder)
    return folder


@pytest.fixture(scope="session")
def settings() -> EvaluateSettings:
    return EvaluateSettings(resamples=60, confidence=0.9, seed=5, gallery=3, text_model=None)


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A clips folder with a test split of real H.264 files, and one dev clip."""
    return write_clips_folder(tmp_path_factory.mktemp("clips"), with_attributes=True)
