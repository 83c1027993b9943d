"""Samples measured while a model trains: the evaluation's own metrics on the dev split's captions.

The test split is for the verdict alone. Noise, captions and reference clips are fixed by the seed, so that two evaluations
differ by the weights alone; no random state but its own is touched.
"""

from pathlib import Path

import numpy as np
import torch

from onestep.core.storage import sha256_folder
from onestep.data.clips import load_frames, read_index
from onestep.data.latents import LatentSet
from onestep.evaluation.distances import Estimate, FrechetDistance, Moments, diversity, make_draws, mean_of
from onestep.evaluation.fidelity import Margins, read_margins, scores, texture
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measurement import make_measurer, measure
from onestep.models.pipeline import VideoPipeline
from onestep.training.adversarial import MakeMeasure
from onestep.training.adversarial_settings import AdversarialSettings
from onestep.training.batches import seeded
from onestep.training.measurement import Measure, Measured, Sampler

_REFERENCE = 256  # real clips of the dev and train splits that samples are compared with
_RESAMPLES = 200  # of the prompts
_BATCH = 16  # clips decoded at once
_LEAST_MOTION = 1e-6  # so that real clips without motion divide by something


def dev_measure_of(clips: Path, judge: Path, margins: Path) -> MakeMeasure:
    """What the adversarial stage needs to measure its samples: clips give captions' attributes and the reference.

    margins: where fidelity's whitening stands; without ones that fit, fidelity is not measured.
    """

    def make(pipeline: VideoPipeline, dev: LatentSet, settings: AdversarialSettings) -> Measure:
        found = read_margins(margins)
        return dev_measure(pipeline, dev, clips, judge, settings.evaluate_clips, settings.seed, found)

    return make


def dev_measure(
    pipeline: VideoPipeline,
    dev: LatentSet,
    clips: Path,
    judge: Path,
    count: int,
    seed: int,
    margins: Margins | None = None,
) -> Measure:
    """A function from a one-step sampler to metrics on `count` dev prompts (captions repeat where dev is smaller).

    `frechet_video_distance`, `patch_frechet_distance`, `attribute_accuracy` where the footage has attributes, `fidelity`
    where margins hold for these clips and this judge, and as shares of real clips' values `diversity`, `motion`,
    `structural_stability`. Each also on resampled prompts and reference clips, the same at every evaluation.
    """
    index = read_index(clips)
    own = index.set_index("clip_id").loc[dev.rows.clip_id.tolist()].reset_index()
    prompts = own.iloc[np.arange(count) % len(own)].reset_index(drop=True)
    measurer = make_measurer(load_judge(judge), prompts, None)
    pool = index[index.split == "train"].head(_REFERENCE)
    reference = measurer.judge.assess(load_frames(clips, pool.clip_id.tolist()))
    draws = make_draws(count, len(pool), _RESAMPLES, seed)
    video = FrechetDistance(Moments(reference.features[:, None]), draws)
    patch = FrechetDistance(Moments(reference.patches), draws)
    shape = (int(own.frames[0]), int(own.height[0]), int(own.width[0]))
    holding = margins if margins and not margins.misfit(sha256_folder(judge), shape) else None
    textures = texture(Moments(reference.patches))
    real = measure(load_frames(clips, prompts.clip_id.tolist()), measurer)
    noise = torch.randn((count, *dev.record["latent_shape"]), generator=seeded(seed, "development"))
    text = dev.text(prompts.caption.tolist())

    def measured(sampler: Sampler) -> Measured:
        frames = []
        for start in range(0, count, _BATCH):
            part = slice(start, start + _BATCH)
            latents = sampler(noise[part].to(pipeline.device), text[part].to(pipeline.device))
            frames.append(pipeline.decode_video(latents))
        found = measure(np.concatenate(frames), measurer)
        estimates = {
            "frechet_video_distance": video.of(Moments(found.features[:, None])),
            "patch_frechet_distance": patch.of(found.patches),
        }
        if "attribute_accuracy" in found.clips:
            estimates["attribute_accuracy"] = mean_of(found.clips["attribute_accuracy"].to_numpy(), draws)
        if holding:
            estimates["fidelity"] = mean_of(scores(found, textures, holding)["fidelity"], draws)
        for name in ("motion", "structural_stability"):
            share = found.clips[name].to_numpy() / max(real.clips[name].mean(), _LEAST_MOTION)
            estimates[name] = mean_of(share, draws)
        spread, spread_of_real = (diversity(each.features, draws) for each in (found, real))
        if spread and spread_of_real:
            estimates["diversity"] = Estimate(
                spread.value / spread_of_real.value, spread.resampled / spread_of_real.value
            )
        return Measured(
            {name: estimate.value for name, estimate in estimates.items()},
            {name: estimate.resampled for name, estimate in estimates.items()},
        )

    return measured
