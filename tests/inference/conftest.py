"""The fixtures of the evaluation: a judge, its folder, settings and clips."""

from tests.evaluation.conftest import clips, judge, judge_folder, one_thread, settings  # noqa: F401
