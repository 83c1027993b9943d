"""From a video file to the time windows of its shots."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from onestep.video import VideoInfo, scan

_DETECTION_SIDE = 256  # pixels of the longer side that cuts are looked for on


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


def find_shots(path: Path, threshold: float) -> tuple[VideoInfo, list[Shot]]:
    """Probe a file and find its shots in one decoding, by the content detector of PySceneDetect.

    threshold: mean change of hue, saturation and value between two frames, 0 to 255, that is a cut.
    Raises `VideoError` when the file is not a video.
    """
    import cv2
    from scenedetect import FrameTimecode
    from scenedetect.detectors import ContentDetector

    cv2.setNumThreads(1)
    detector = ContentDetector(threshold=threshold, min_scene_len=0)
    reformatter = av.video.reformatter.VideoReformatter()
    times: list[float] = []
    cuts: list[int] = []

    def look(time_s: float, frame: av.VideoFrame) -> None:
        scale = min(1.0, _DETECTION_SIDE / max(frame.width, frame.height))
        width, height = max(round(frame.width * scale), 2), max(round(frame.height * scale), 2)
        image = reformatter.reformat(frame, width, height, "bgr24").to_ndarray()
        cuts.extend(cut.frame_num for cut in detector.process_frame(FrameTimecode(len(times), 25.0), image))
        times.append(time_s)

    info = scan(path, look)
    edges = [0, *cuts, len(times)]
    shots = [
        Shot(index, tuple(times[first:last]), times[last] if last < len(times) else info.duration_s)
        for index, (first, last) in enumerate(itertools.pairwise(edges))
        if last > first
    ]
    return info, shots


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
        start = max(time for time in times if time <= wanted + slack / 2)
        windows.append((start, min(start + length_s, until)))
    return windows
