"""Whole films whose rows in `metadata.csv` are odd: every row ends as clips or as a named reason."""

from collections.abc import Iterator

from .card import Card
from .odd import Odd, Row, filmed, nothing


def odd() -> Iterator[Odd]:
    """All of them."""
    for name, what, windows, clips, refused in (
        ("three", "one take, rows of 0 to 5, 5 to 10 and 10 to 15 s", ((0, 5), (5, 10), (10, 15)), 3, []),
        ("after", "a row that begins after the film's end", ((0, 15), (20, 22)), 1, ["outside|after|end"]),
        ("past-the-end", "a row that ends after the film's end", ((11, 99),), 1, []),
        ("rounded", "rows rounded to a tenth, over the film's end", ((0, 7.1), (7.1, 15.1)), 2, []),
        ("overlapping", "rows that overlap", ((0, 8), (6, 15)), 2, []),
        ("inside", "a row inside another's window", ((0, 15), (9, 14)), 2, []),
        ("backwards", "rows against the order of time", ((8, 15), (0, 7)), 2, []),
        ("gap", "rows that leave out the middle", ((0, 4), (11, 15)), 2, []),
        ("same-window", "two captions for one window", ((0, 15), (0, 15)), 1, ["duplicate|same|twice"]),
        ("short-row", "a row of half a second beside another", ((0, 8), (8, 8.5)), 1, ["too short"]),
        ("open-end", "a row without an end, a row without a start", ((8, None), (None, 7)), 2, []),
    ):
        card = Card(f"captions/{name}.mp4", seconds=15.0, fps=12.0, drifts=True)
        rows = [_row(f"{name}, row {number}", *window) for number, window in enumerate(windows, start=1)]
        yield Odd(card.name, what, filmed(), clips, refused, rows, card)
    yield from _shots()
    yield from _texts()
    yield from _missing()


def _row(caption: str, start_s: float | None = None, end_s: float | None = None, **more: str) -> Row:
    window = {"start_s": start_s, "end_s": end_s}
    return {"caption": caption} | {key: f"{value:g}" for key, value in window.items() if value is not None} | more


def _shots() -> Iterator[Odd]:
    for name, what, windows, clips, refused in (
        ("shots", "two shots, a row for each", ((0, 2), (2, 4)), 2, []),
        ("both-shots", "two shots under one row", ((None, None),), 2, []),
        ("half-captioned", "two shots, a row for the first alone", ((0, 2),), 1, ["no caption"]),
        ("over-the-cut", "a row over a cut, too little on either side", ((1.2, 2.9),), 0, ["too short"] * 2),
    ):
        card = Card(f"captions/{name}.mp4", seconds=4.0, fps=12.0, cuts=True)
        rows = [_row(f"{name}, row {number}", *window) for number, window in enumerate(windows, start=1)]
        yield Odd(card.name, what, filmed(), clips, refused, rows, card)


def _texts() -> Iterator[Odd]:
    held_out = [_row("held-out, row 1", 0, 7), _row("held-out, row 2", 7, 15, held_out="true")]
    card = Card("captions/held-out.mp4", seconds=15.0, fps=12.0, drifts=True)
    yield Odd(card.name, "one take, its second row held out", filmed(), 2, rows=held_out, card=card)
    card = Card("captions/empty-row.mp4", seconds=15.0, fps=12.0, drifts=True)
    rows = [_row("empty-row, row 1", 0, 7), _row("", 7, 15)]
    yield Odd(card.name, "an empty caption beside another", filmed(), 1, ["no caption"], rows, card)
    card = Card("captions/twice.mp4", seconds=15.0, fps=12.0, drifts=True)
    rows = [_row("twice, row 1", 0, 7)] * 2
    yield Odd(card.name, "a row that is there twice", filmed(), 1, ["duplicate|same|twice"], rows, card)
    for name, text in (("no-caption", ""), ("blank-caption", "  \t ")):
        yield Odd(f"captions/{name}.mp4", "an empty caption", filmed(), 0, ["no caption"], [_row(text)])
    long, strange = "long-caption" + " of a wheel" * 3000, 'strange-caption "one", two\nthree ␀ ☃ 🎬 יום'
    yield Odd("captions/long.mp4", "a caption of 30,000 characters", filmed(), rows=[_row(long)])
    yield Odd("captions/strange.mp4", "quotes, a comma, a new line, four alphabets", filmed(), rows=[_row(strange)])


def _missing() -> Iterator[Odd]:
    yield Odd("captions/gone.mp4", "listed, and not there", nothing, 0, ["missing"])
    rows = [_row("gone-rows, row 1", 0, 2), _row("gone-rows, row 2", 2, 4)]
    yield Odd("captions/gone-rows.mp4", "listed with two rows, and not there", nothing, 0, ["missing"] * 2, rows)
    yield Odd("captions/not-listed.mp4", "there, and not listed", filmed(), 0, ["not listed"], rows=[])
    yield Odd("captions/.not-listed.mp4", "hidden and not listed: a leftover, no footage", filmed(), 0, rows=[])
