from pathlib import Path

import pytest

from onestep.training.adversarial_settings import AdversarialSettings, GuardSettings
from onestep.training.distillation_settings import ConsistencySettings, DmdSettings
from tests.tiny import save_latents, save_pipeline

CONSISTENCY = ConsistencySettings(
    seed=1, target="consistency", updates=6, batch=3, accumulate=1, optimizer="adamw", learning_rate=1e-3, weight_decay=0.01,
    warmup=2, lr_decay=0.0, levels=4, pairs=8, teacher_steps=2, guidance_scale=2.0, depth_repeats=1, depth_tied=False,
    dmd=DmdSettings(updates=0, warmup=1, guidance_scale=2.0, token_exchange=0.5, token_dropout=0.5,
                    optimizer="adamw", student_lr=1e-3, score_lr=1e-3),
    ema=0.9, precision="fp32", samples_every=3, checkpoint_every=2,
)  # fmt: skip
GUARD = GuardSettings(window=2, one_sided=0.0, gap=1e6, floor=0.0, rollbacks=1, lr_factor=0.5)
ADVERSARIAL = AdversarialSettings(
    seed=1, image_updates=0, updates=6, batch=3, accumulate=1, generator_lr=1e-3, discriminator_lr=1e-3, lr_decay=0.5,
    discriminator_warmup=1, loss="relativistic", r1=1.0, r2=1.0, sigma=0.1, penalty_share=1.0, centring=0.01,
    contrastive=1.0, contrastive_share=0.5, contrastive_nearest=None, augmentation=0.5, frame_logits=True,
    timestep_shift=1.0, heads=(0.5, 1.0), train_backbone=True, ema=(0.9, 0.5), end_game=0, end_game_lr_scale=0.5,
    evaluate_every=2, evaluate_clips=8, select={"fidelity": 1.0}, certainty=0.95, guard=GUARD,
    precision="fp32", samples_every=3, checkpoint_every=2,
).model_copy(update={"select": {"score": 1.0}})  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", params=["flow", "sample"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / request.param, request.param)


@pytest.fixture(scope="session")
def latents(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_latents(tmp_path_factory.mktemp("latents") / base.name, base)
