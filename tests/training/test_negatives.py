import pytest
import torch

from onestep.training.negatives import Negatives


def states(count: int) -> torch.Tensor:
    return torch.arange(float(count)).view(-1, 1, 1).expand(-1, 3, 2).contiguous()


@pytest.mark.parametrize("nearest", [None, 2])
def test_a_clip_is_never_shown_with_its_own_caption(nearest: int | None) -> None:
    negatives = Negatives(states(6), nearest)
    right = states(6).repeat(20, 1, 1)
    wrong = negatives.draw(right, torch.Generator().manual_seed(0))
    assert ((wrong - right).abs().amax((1, 2)) > 0).all()


def test_only_the_nearest_captions_are_drawn() -> None:
    right = states(20)[10:11].repeat(200, 1, 1)
    wrong = Negatives(states(20), 4).draw(right, torch.Generator().manual_seed(0))
    assert set(wrong[:, 0, 0].tolist()) == {8.0, 9.0, 11.0, 12.0}


def test_every_other_caption_is_drawn_where_none_is_nearer() -> None:
    right = states(5)[2:3].repeat(200, 1, 1)
    wrong = Negatives(states(5), None).draw(right, torch.Generator().manual_seed(0))
    assert set(wrong[:, 0, 0].tolist()) == {0.0, 1.0, 3.0, 4.0}
