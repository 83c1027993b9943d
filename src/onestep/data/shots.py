"""From a video file to the time windows of its shots."""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from onestep.media.decoding import Limits, VideoInfo, scan
from onestep.media.errors import VideoError, video_errors

_KNOWN_TO_SCALER = (0, 1, 2, 4, 5, 6, 7, 9)  # colour matrices of ITU-T H.273; another does not matter to a cut
_DETECTION_SIDE = 256  # pixels of the longer side that cuts are detected on


@dataclass(frozen=True)
class Shot:
    """One shot of a file: the times of its frames, in seconds from the file's start, and of its end."""

    index: int
    times_s: tuple[float, ...]
    end_s: float

    @property
    def start_s(self) -> float:
        """When its first frame is shown."""
        return self.times_s[0]


def find_shots(path: Path, threshold: float, limits: Limits | None = None) -> tuple[VideoInfo, list[Shot]]:
    """Probe a file and find its shots in one decoding, by the content detector of PySceneDetect.

    threshold: mean change of hue, saturation and value between two frames, 0 to 255, that is a cut. Where a file
    changes its size, pixel format or clock, a new shot begins as well. Raises `VideoError` with the reason when the
    file is no video, is truncated, damaged or beyond the limits.
    """
    with video_errors(str(path)):
        cutter = _CutDetector(threshold)
        info = scan(path, cutter.process_frame, limits)
        if info.frames == 0:
            raise VideoError(f"{path} holds no frame that can be decoded", "not a video")
        if info.damage:
            raise VideoError(f"{path}: {info.damage}", "truncated")
        edges = sorted({0, *cutter.cuts, *info.breaks, info.frames})
        times = [info.time_s(number) for number in range(info.frames)]
        shots = [
            Shot(index, tuple(times[first:last]), times[last] if last < len(times) else info.duration_s)
            for index, (first, last) in enumerate(itertools.pairwise(edges))
        ]
        return info, shots


class _CutDetector:
    """Takes frames one by one, in a small picture of each; `cuts`: the numbers of those that begin a shot."""

    def __init__(self, threshold: float) -> None:
        import cv2

        cv2.setNumThreads(1)
        self.threshold = threshold
        self.reformatter = av.video.reformatter.VideoReformatter()
        self.cuts: list[int] = []
        self.count = 0
        self.form: tuple[int, int, str] | None = None
        self.detector: Any = None

    def process_frame(self, _time_s: float, frame: av.VideoFrame) -> None:
        """Take the next frame."""
        from scenedetect import FrameTimecode
        from scenedetect.detectors import ContentDetector

        form = (frame.width, frame.height, frame.format.name)
        if form != self.form:
            self.form, self.detector = form, ContentDetector(threshold=self.threshold, min_scene_len=0)
        if frame.colorspace not in _KNOWN_TO_SCALER:
            frame.colorspace = 2
        scale = min(1.0, _DETECTION_SIDE / max(frame.width, frame.height))
        width, height = max(round(frame.width * scale), 2), max(round(frame.height * scale), 2)
        image = self.reformatter.reformat(frame, width, height, "bgr24").to_ndarray()
        found = self.detector.process_frame(FrameTimecode(self.count, 25.0), image)
        self.cuts.extend(cut.frame_num for cut in found)
        self.count += 1


def windows_of(shot: Shot, start_s: float, end_s: float, length_s: float, most: int) -> Sequence[tuple[float, float]]:
    """At most `most` windows of `length_s` seconds, evenly spaced in the part of a shot between start and end.

    Each starts on a frame of the shot. Empty where that part is too short.
    """
    frame_s = (shot.end_s - shot.start_s) / len(shot.times_s)
    slack = frame_s / 2  # a caption's window is typed by a person, and rounded
    times = [time for time in shot.times_s if start_s - slack <= time < end_s - slack]
    if not times:
        return []
    until = min(end_s + slack, shot.end_s)
    room = until - times[0]
    count = min(int((room + slack) / length_s), most)
    gap = max(room - count * length_s, 0.0) / (count + 1)
    windows: list[tuple[float, float]] = []
    for index in range(count):
        wanted = times[0] + gap * (index + 1) + length_s * index
        start = times[max(bisect_right(times, wanted + slack / 2) - 1, 0)]
        windows.append((start, min(start + length_s, until)))
    return windows
