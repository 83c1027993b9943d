"""Odd names, and what is no regular file below the footage's folder: never opened, and named."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from .card import Card
from .odd import Maker, Odd, film, filmed

_NO_FILE = "link|not a (regular )?file|outside|folder|device|pipe|missing"


def odd() -> Iterator[Odd]:
    """All of them."""
    yield from _names()
    yield from _listed_otherwise()
    yield from _links()
    yield from _no_files()


def named(path: Path, card: Card) -> None:
    """Film under a plain name, then rename: ffmpeg reads some signs in a name."""
    plain = path.with_name("plain.mp4")
    film(plain, card)
    plain.rename(path)


def _names() -> Iterator[Odd]:
    for name, what in (
        ("one, two.mp4", "a comma"), ('say "cheese".mp4', "quotes"), ("two\nlines.mp4", "a new line"),
        ("100%d %s %%.mp4", "percent signs"), ("-vf null.mp4", "a leading dash"), ("窯元 café Ωmega.mp4", "four alphabets"),
        ("🎬🏺.mp4", "emoji"), ("concat:a.mp4|b.mp4", "a protocol of ffmpeg"), ("file:name.mp4", "a protocol of ffmpeg"),
        ("[0] {x} (y) 'z'.mp4", "brackets and an apostrophe"), ("a;b&c$HOME`x`.mp4", "signs of a shell"),
        ("two  blanks.mp4", "two blanks"), ("no.dots.here.mp4", "dots"), ("#hash?query=1.mp4", "signs of a URL"),
        ("*.mp4", "a star"), (f"{'x' * 240}.mp4", "nearly 255 bytes"), ("back\\slash.mp4", "a backslash of its own"),
        ("NA", "what pandas reads as nothing"), (".hidden.mp4", "a leading dot"), (".hidden/take.mp4", "a leading dot"),
    ):  # fmt: skip
        yield Odd(f"names/{name}", f"a name with {what}", named)
    for name in ("same/take.mp4", "same/take.mov", "Same/take.mp4"):
        yield Odd(f"names/{name}", "names that differ by ending or capitals alone", named)
    undecodable = os.fsdecode(b"names/caf\xe9.mp4")
    what = "a name that is not UTF-8, which the table cannot list"
    yield Odd(undecodable, what, named, 0, ["not listed|UTF-8"], rows=[])


def _listed_otherwise() -> Iterator[Odd]:
    forms = {form: unicodedata.normalize(form, "Töpferei-é.mp4") for form in ("NFC", "NFD")}
    for form, other, what in (
        ("NFD", "NFC", "letters decomposed on disk, as macOS has them, composed in the table"),
        ("NFC", "NFD", "letters composed on disk, decomposed in the table"),
    ):
        yield Odd(f"names/{form}/{forms[form]}", what, named, listed_as=f"names/{form}/{forms[other]}")
    yield Odd("names/from/windows.mp4", "listed with backslashes", named, listed_as="names\\from\\windows.mp4")
    roundabout = "./names//dots/../dots/take.mp4"
    yield Odd("names/dots/take.mp4", f"listed as `{roundabout}`", named, listed_as=roundabout)


def _links() -> Iterator[Odd]:
    for name, target, what in (
        ("dangling.mp4", "nowhere.mp4", "a link to nothing"),
        ("looping.mp4", "looping.mp4", "a link to itself"),
        ("zero.mp4", "/dev/zero", "a link to /dev/zero"),
        ("outside.mp4", "../../outside/film.mp4", "a link to a film outside the folder"),
        ("up.mp4", "..", "a link to a folder"),
    ):
        yield Odd(f"links/{name}", what, _linked(target), 0, [_NO_FILE])
    inside = "links/away/film.mp4"
    what = "a film behind a link to a folder outside"
    yield Odd("links/away", what, _linked("../../outside"), 0, [_NO_FILE], listed_as=inside, source=inside)
    yield Odd("links/target.mp4", "a film that the next one links to", named)
    yield Odd("links/beside.mp4", "a link to the film before it", _linked("target.mp4"), 0, ["duplicate|link"])
    yield Odd("links/hard.mp4", "a film with a second name on disk, as DVC makes them", _hard)


def _no_files() -> Iterator[Odd]:
    yield Odd("links/pipe.mp4", "a named pipe", lambda path, _card: os.mkfifo(path), 0, [_NO_FILE])
    yield Odd("links/folder.mp4", "a folder", lambda path, _card: path.mkdir(), 0, [_NO_FILE])
    yield Odd("links/folder.mov/take.mp4", "a film in a folder that is named like one", named)
    yield Odd("../outside/film.mp4", "a film outside the folder, listed", filmed(), 0, [_NO_FILE])
    what = "a film that this user may not read"
    yield Odd("links/locked.mp4", what, _locked, 0, ["permission|may not|cannot be read"], root_reads=True)


def _linked(target: str) -> Maker:
    return lambda path, _card: path.symlink_to(target)


def _hard(path: Path, card: Card) -> None:
    named(path, card)
    path.with_name("second-name.bin").hardlink_to(path)


def _locked(path: Path, card: Card) -> None:
    named(path, card)
    path.chmod(0)
