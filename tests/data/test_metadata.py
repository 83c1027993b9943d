from pathlib import Path

import pytest

from onestep.data.metadata import Caption, MetadataError, caption_of, read_metadata
from onestep.storage import open_folder


def read(folder: Path, text: str) -> dict[str, list[Caption]]:
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    return read_metadata(*open_folder(folder))


def test_a_file_with_two_columns_is_enough(tmp_path: Path) -> None:
    captions = read(tmp_path, 'file_name,caption\na.mp4,a dog\n./b/c.mp4,"a cat, asleep"\n')
    assert captions["a.mp4"] == [Caption("a dog")]
    assert captions["b/c.mp4"][0].text == "a cat, asleep"
    assert captions["a.mp4"][0].attributes == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,text\na.mp4,x\n", "no column caption"),
        ("file_name,caption,split\na.mp4,x,training\n", "line 2: split 'training'"),
        ("file_name,caption,start_s\na.mp4,x,\nb.mp4,x,soon\n", "line 3: start_s 'soon'"),
        ("file_name,caption,start_s,end_s\na.mp4,x,2,1\n", "end_s 1.0 is not after start_s 2.0"),
        ("file_name,caption,held_out\na.mp4,x,maybe\n", "held_out 'maybe'"),
        ("file_name,caption,split\na.mp4,x,train\na.mp4,y,test\n", "a.mp4 has rows in several splits"),
        ("", "not a CSV table"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(MetadataError) as refusal:
        read(tmp_path, text)
    assert words in str(refusal.value)
    assert "metadata.csv" in str(refusal.value)


def test_a_folder_without_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="does not exist"):
        read_metadata(*open_folder(tmp_path))


def test_a_shot_gets_the_caption_that_overlaps_it_most() -> None:
    first = Caption("first", 0.0, 2.0, whole=False)
    second = Caption("second", 2.0, 5.0, whole=False)
    assert caption_of([first, second], 0.1, 1.9) is first
    assert caption_of([first, second], 1.5, 3.0) is second
    assert caption_of([first, second], 6.0, 7.0) is None


def test_a_caption_of_a_window_comes_before_one_of_the_whole_file() -> None:
    whole, window = Caption("whole"), Caption("window", 2.0, 3.0, whole=False)
    assert caption_of([whole, window], 1.8, 3.4) is window
    assert caption_of([whole, window], 4.0, 6.0) is whole
