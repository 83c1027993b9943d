import os
from pathlib import Path

import pytest

from onestep.core.storage import open_folder
from onestep.data.metadata import Caption, MetadataError, captions_of, read_metadata


def read(folder: Path, text: str) -> dict[str, list[Caption]]:
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    return read_metadata(*open_folder(folder))


def test_a_file_with_two_columns_is_enough(tmp_path: Path) -> None:
    captions = read(tmp_path, 'file_name,caption\na.mp4,a dog\n./b/c.mp4,"a cat, asleep"\n')
    assert captions["a.mp4"] == [Caption("a dog", line=2)]
    assert captions["./b/c.mp4"][0].text == "a cat, asleep"
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
        ("file_name,caption\n,x\n", "line 2: file_name is empty"),
        ("file_name,caption\na.mp4,a cat, asleep\n", "line 2: 3 fields where the header has 2: a caption with a comma"),
        ("file_name,caption\na.mp4,a cat,\n", "line 2: 3 fields where the header has 2: remove the commas"),
        ("file_name,caption,split\na.mp4,x\n", "line 2: 2 fields where the header has 3: write a comma"),
        ('file_name,caption\na.mp4,"one\ntwo"\nb.mp4,x,y\n', "line 4: 3 fields"),
        ('file_name,caption\na.mp4,"never closed\nb.mp4,x\n', "line 2: a quote that is not closed"),
        ("file_name;caption\na.mp4;x\n", "separated by semicolons"),
        ("file_name\tcaption\na.mp4\tx\n", "separated by tabs"),
        ("file_name|caption\na.mp4|x\n", "separated by bars"),
        ("sep=,\nfile_name,caption\na.mp4,x\n", "line 1: remove the line 'sep='"),
        ("file_name,caption,,\na.mp4,x,,\n", "line 1: column 3 has no name: name it, or remove its commas"),
        ("file_name,caption,caption\na.mp4,x,y\n", "the column caption stands twice"),
        ("file_name,licence,caption,license\na.mp4,x,y,z\n", "the column licence stands twice"),
        ("File Name,caption\na.mp4,x\n", "did you mean 'File Name'?"),
        (
            "file_name,caption,end_s\na.mp4,x,1:05\n",
            "end_s '1:05' is not a number of seconds from the file's start: write",
        ),
        ('file_name,caption,end_s\na.mp4,x,"5,0"\n', "write a point"),
        ("file_name,caption,end_s\na.mp4,x,nan\n", "end_s 'nan'"),
        ("file_name,caption,end_s\na.mp4,x,1e300\n", "the longest is"),
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


@pytest.mark.parametrize("name", ["Metadata.CSV", "metadata.csv.txt", "metadata.xlsx"])
def test_a_table_with_a_wrong_name_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(MetadataError, match=f"does not exist .the folder has '{name}'"):
        read_metadata(*open_folder(tmp_path))


def test_every_row_that_speaks_of_a_shot_captions_it() -> None:
    first = Caption("first", 0.0, 2.0, whole=False)
    second = Caption("second", 2.0, 5.0, whole=False)
    assert captions_of([first, second], 0.1, 1.9) == [first]
    assert captions_of([first, second], 1.5, 3.0) == [first, second]
    assert captions_of([first, second], 6.0, 7.0) == []


def test_a_row_of_the_whole_file_captions_what_rows_with_windows_leave() -> None:
    whole, window = Caption("whole"), Caption("window", 2.0, 3.0, whole=False)
    assert captions_of([whole, window], 1.8, 3.4) == [window]
    assert captions_of([whole, window], 4.0, 6.0) == [whole]


def test_the_line_of_a_row_is_the_line_in_the_file(tmp_path: Path) -> None:
    captions = read(tmp_path, 'file_name,caption\r\n\r\na.mp4,"two\r\nlines"\r\nb.mp4,x\r\n')
    assert [(rows[0].text, rows[0].line) for rows in captions.values()] == [("two\r\nlines", 3), ("x", 5)]


def test_a_byte_order_mark_and_blanks_after_commas_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes(b"\xef\xbb\xbffile_name, caption\na.mp4, a dog\n")
    assert read_metadata(*open_folder(tmp_path))["a.mp4"][0].text == "a dog"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"file_name,caption\na.mp4,caf\xe9\n", "line 2: byte 0xe9 is not UTF-8: save the table as UTF-8"),
        (b"file_name,caption\ra.mp4,caf\xe9\r", "line 2: byte 0xe9 is not UTF-8"),
        ("file_name,caption\n".encode("utf-16"), "is in UTF-16"),
        ("file_name,caption\n".encode("utf-16-le"), "is in UTF-16"),
        (b"PK\x03\x04\x14\0", "is a spreadsheet or an archive, not a table of text: export it as CSV"),
        (b"file_name,caption\na.mp4,x\0\n", "line 2: a NUL character"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(MetadataError, match=words):
        read_metadata(*open_folder(tmp_path))


def test_a_pipe_or_folder_in_the_tables_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").mkdir()
    with pytest.raises(MetadataError, match="not a regular file"):
        read_metadata(*open_folder(tmp_path))
    (tmp_path / "metadata.csv").rmdir()
    os.mkfifo(tmp_path / "metadata.csv")
    with pytest.raises(MetadataError, match="not a regular file"):
        read_metadata(*open_folder(tmp_path))
