"""A look at samples while a model trains: the evaluation's own measures on the dev split's captions.

The test split is for the verdict alone. Noise, captions and reference clips are fixed by the seed, so that two looks
differ by the weights alone; no random state but its own is touched.
"""

from pathlib import Path

import numpy as np
import torch

from onestep.config import AdversarialSettings
from onestep.data.clips import load_frames, read_index
from onestep.data.latents import LatentSet
from onestep.evaluation.distances import Draws, FrechetDistance, Moments, diversity, make_draws
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measuring import make_ruler, measure
from onestep.models.pipeline import VideoPipeline
from onestep.training.adversarial import WatchWith
from onestep.training.loop import seeded
from onestep.training.watch import Generate, Measure

_REFERENCE = 256  # real clips of the dev and train splits that samples are compared with
_BATCH = 16  # clips decoded at once
_FAINT = 1e-6  # so that real clips without motion divide by something


def watch_with(clips: Path, judge: Path) -> WatchWith:
    """What the adversarial stage needs to look at its samples: clips give captions' attributes and the reference."""

    def make(pipeline: VideoPipeline, dev: LatentSet, settings: AdversarialSettings) -> Measure:
        return development_measure(pipeline, dev, clips, judge, settings.evaluate_clips, settings.seed)

    return make


def development_measure(
    pipeline: VideoPipeline, dev: LatentSet, clips: Path, judge: Path, count: int, seed: int
) -> Measure:
    """A function from a one-step sampler to metrics on `count` dev prompts (captions repeat where dev is smaller).

    `frechet_video_distance`, `patch_frechet_distance`, `attribute_accuracy` where the footage has attributes, and as
    shares of real clips' values `diversity`, `motion`, `structural_stability`.
    """
    index = read_index(clips)
    own = index.set_index("clip_id").loc[dev.rows.clip_id.tolist()].reset_index()
    prompts = own.iloc[np.arange(count) % len(own)].reset_index(drop=True)
    ruler = make_ruler(load_judge(judge), prompts, None)
    pool = index[index.split == "train"].head(_REFERENCE)
    reference = ruler.judge.assess(load_frames(clips, pool.clip_id.tolist()))
    draws = Draws(np.empty((0, count), int), np.empty((0, len(pool)), int), seed)
    video = FrechetDistance(Moments(reference.features[:, None]), draws)
    patch = FrechetDistance(Moments(reference.patches), draws)
    whole = make_draws(count, len(pool), 1, seed)
    real = measure(load_frames(clips, prompts.clip_id.tolist()), ruler)
    noise = torch.randn((count, *dev.record["latent_shape"]), generator=seeded(seed, "development"))
    text = dev.text(prompts.caption.tolist())

    def measured(generate: Generate) -> dict[str, float]:
        frames = []
        for start in range(0, count, _BATCH):
            part = slice(start, start + _BATCH)
            latents = generate(noise[part].to(pipeline.device), text[part].to(pipeline.device))
            frames.append(pipeline.decode_video(latents))
        found = measure(np.concatenate(frames), ruler)
        numbers = {
            "frechet_video_distance": video.of(Moments(found.features[:, None])).value,
            "patch_frechet_distance": patch.of(found.patches).value,
        }
        if "attribute_accuracy" in found.clips:
            numbers["attribute_accuracy"] = float(found.clips["attribute_accuracy"].mean())
        for name in ("motion", "structural_stability"):
            numbers[name] = float(found.clips[name].mean() / max(real.clips[name].mean(), _FAINT))
        spread, spread_of_real = (diversity(each.features, whole) for each in (found, real))
        if spread and spread_of_real:
            numbers["diversity"] = spread.value / spread_of_real.value
        return numbers

    return measured
