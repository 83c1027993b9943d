import base64
import io

import numpy as np
import pytest
from PIL import Image

from onestep.report.gallery import inline_animation, side_by_side
from tests.evaluation.made import drawn


@pytest.fixture(scope="module")
def real():
    return drawn(2, seed=51)[0]


def test_an_inline_clip_is_an_endless_animation_of_all_frames(real):
    address = inline_animation(real[0], fps=12)
    picture = Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1])))
    assert picture.n_frames == len(real[0]) and picture.size == (64, 64) and picture.info["loop"] == 0
    assert abs(np.asarray(picture.convert("RGB")).astype(int) - real[0][0]).mean() < 3


def test_a_large_clip_is_shrunk():
    address = inline_animation(np.zeros((2, 480, 832, 3), np.uint8), fps=12)
    picture = Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1])))
    assert max(picture.size) <= 320


def test_clips_stand_side_by_side_and_a_short_one_holds_its_end(real, tmp_path):
    rows = [("a caption", [real[0], real[1][:4]]), ("another", [real[1], real[0]])]
    side_by_side(["real", "onestep"], rows, tmp_path / "pair.gif", fps=12, scale=2)
    picture = Image.open(tmp_path / "pair.gif")
    assert picture.n_frames == len(real[0]) and picture.width > 2 * 128 and picture.height > 2 * 128
    first = (tmp_path / "pair.gif").read_bytes()
    side_by_side(["real", "onestep"], rows, tmp_path / "pair.gif", fps=12, scale=2)
    assert (tmp_path / "pair.gif").read_bytes() == first


def test_nothing_to_show_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        side_by_side([], [], tmp_path / "none.gif", fps=12)
