import copy

import pytest
import torch

from onestep.models.discriminator import Discriminator, head_layers
from onestep.models.families.wan import Wan
from tests.tiny import tiny_pipeline


def test_heads_sit_where_the_paper_has_them_at_its_depth() -> None:
    assert head_layers(36, [16 / 36, 26 / 36, 1.0]) == (15, 25, 35)


@pytest.mark.parametrize("depth", range(1, 41))
def test_heads_fit_any_depth(depth: int) -> None:
    layers = head_layers(depth, [16 / 36, 26 / 36, 1.0])
    assert layers[-1] == depth - 1
    assert list(layers) == sorted(set(layers))
    assert layers[0] >= 0


def test_logits_depend_on_clip_text_and_timestep() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(tiny_pipeline(layers=3).transformer, Wan(), [0.5, 1.0])
    x, t, text = torch.randn(2, 4, 2, 4, 4), torch.tensor([0.2, 0.8]), torch.randn(2, 6, 16)
    logits = discriminator(x, t, text)
    assert logits.shape == (2,)
    for changed in ((x + 0.1, t, text), (x, t + 0.1, text), (x, t, text + 0.1)):
        assert not torch.allclose(discriminator(*changed), logits)


def test_one_forward_of_joined_inputs_equals_separate_ones() -> None:
    discriminator = Discriminator(tiny_pipeline().transformer, Wan(), [0.5, 1.0]).eval()
    x, t, text = torch.randn(4, 4, 2, 4, 4), torch.rand(4), torch.randn(4, 6, 16)
    separate = torch.cat([discriminator(x[:2], t[:2], text[:2]), discriminator(x[2:], t[2:], text[2:])])
    torch.testing.assert_close(discriminator(x, t, text), separate)


def test_backbone_starts_from_the_given_weights_and_is_trained_whole() -> None:
    backbone = tiny_pipeline().transformer
    given = copy.deepcopy(backbone.state_dict())
    discriminator = Discriminator(backbone, Wan(), [1.0])
    for name, weight in discriminator.backbone.state_dict().items():
        assert torch.equal(weight, given[name])
    discriminator(torch.randn(2, 4, 2, 4, 4), torch.rand(2), torch.randn(2, 6, 16)).sum().backward()
    without = {n for n, p in discriminator.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
