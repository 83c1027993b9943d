import copy
from pathlib import Path

import pytest
import torch

from onestep.models.depth import repeat_blocks, untie
from onestep.models.families.wan import Wan
from onestep.models.pipeline import load_pipeline
from tests.tiny import tiny_pipeline


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 4, 2, 4, 4), torch.tensor([999.0, 500.0]), torch.randn(2, 6, 16)


def test_a_deeper_student_starts_as_the_function_of_the_shallow_one() -> None:
    shallow = tiny_pipeline().transformer
    deep = repeat_blocks(copy.deepcopy(shallow), Wan(), 3, tied=False)
    assert len(deep.blocks) == 3 * len(shallow.blocks)
    with torch.no_grad():
        torch.testing.assert_close(deep(*inputs()).sample, shallow(*inputs()).sample)


def test_a_repetition_of_its_own_weights_learns() -> None:
    deep = repeat_blocks(tiny_pipeline().transformer.train().requires_grad_(True), Wan(), 2, tied=False)
    deep(*inputs()).sample.square().sum().backward()
    assert all(block.ffn.net[-1].weight.grad.abs().sum() > 0 for block in deep.blocks)


def test_tied_repetitions_differ_by_their_embedding_alone() -> None:
    shallow = tiny_pipeline().transformer
    deep = repeat_blocks(copy.deepcopy(shallow), Wan(), 2, tied=True)
    added = sum(p.numel() for p in deep.parameters()) - sum(p.numel() for p in shallow.parameters())
    assert added == sum(block.scale_shift_table.numel() for block in shallow.blocks)
    before = deep(*inputs()).sample
    with torch.no_grad():
        deep.blocks[1].scale_shift_table += 0.1
    assert not torch.allclose(deep(*inputs()).sample, before)


@pytest.mark.parametrize("tied", [False, True])
def test_the_folder_of_a_deeper_student_loads_as_stock(tmp_path: Path, tied: bool) -> None:
    pipeline = tiny_pipeline("sample")
    repeat_blocks(pipeline.transformer, pipeline.family, 2, tied)
    with torch.no_grad():
        for block in pipeline.transformer.blocks[1::2]:
            block.scale_shift_table += 0.1
        expected = pipeline.transformer(*inputs()).sample
        untie(pipeline.transformer, pipeline.family)
        pipeline.save(tmp_path / "deep")
        loaded = load_pipeline(tmp_path / "deep")
        assert len(loaded.transformer.blocks) == 4
        torch.testing.assert_close(loaded.transformer(*inputs()).sample, expected)
