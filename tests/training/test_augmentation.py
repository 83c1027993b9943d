import torch

from onestep.training.augmentation import augment


def draw(probability: float, *clips: torch.Tensor) -> list[torch.Tensor]:
    return augment(list(clips), probability, torch.Generator().manual_seed(3))


def test_a_pair_and_all_its_frames_get_the_same_draw() -> None:
    x = torch.rand(8, 2, 3, 8, 8) + 1
    one, other = draw(1.0, x, 10 * x)
    torch.testing.assert_close(10 * one, other)
    still = x[:, :, :1].expand_as(x)
    (moved,) = draw(1.0, still)
    assert torch.equal(moved[:, :, 0], moved[:, :, 2])


def test_clips_are_changed_as_often_as_asked() -> None:
    x = torch.rand(400, 1, 1, 8, 8) + 1
    assert torch.equal(draw(0.0, x)[0], x)
    changed = (draw(0.4, x)[0] != x).flatten(1).any(1).float().mean()
    assert 0.3 < changed < 0.5


def test_what_is_shown_was_there_before_or_is_zero() -> None:
    x = torch.arange(1.0, 65.0).view(1, 1, 1, 8, 8).expand(16, 1, 1, 8, 8)
    (shown,) = draw(1.0, x)
    assert set(shown.unique().tolist()) <= {0.0, *range(1, 65)}
    assert all(len(clip[clip > 0].unique()) == (clip > 0).sum() for clip in shown)


def test_gradient_reaches_the_clip() -> None:
    x = torch.rand(4, 2, 2, 8, 8, requires_grad=True)
    draw(1.0, x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
