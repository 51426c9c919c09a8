"""Names print as their readers write them: joined, from right to left, and never as markup."""

from __future__ import annotations

import pytest

from dicom_services.reports.fonts import fonts
from dicom_services.reports.scripts import printed


@pytest.mark.parametrize("name", ["", "Müller", "Łukasiewicz", "Ωμέγα Иван", "患者 太郎", "김철수"])
def test_what_is_written_from_left_to_right_stays(name: str) -> None:
    assert printed(name) == name


def test_hebrew_is_set_from_right_to_left() -> None:
    assert printed("שרה לוי") == "יול הרש"


def test_arabic_letters_join() -> None:
    # Meem initial, hah medial, meem medial, dal final; from right to left.
    assert printed("محمد") == "\ufeaa\ufee4\ufea4\ufee3"


def test_letters_that_do_not_join_the_next_stay_apart() -> None:
    # Alef and dal and waw join only what comes before them.
    assert printed("داود") == "\ufea9\ufeed\ufe8d\ufea9"


def test_lam_and_alef_are_one_sign() -> None:
    assert printed("لا") == "\ufefb"
    assert printed("بلا") == "\ufefc\ufe91"


def test_persian_letters_join() -> None:
    # Peh initial, reh final; zheh isolated.
    assert printed("پر") == "\ufeae\ufb58"


def test_marks_stay_on_their_letters() -> None:
    assert printed("בָּא") == "א" + "ב" + "".join(printed("בָּא")[2:])
    assert printed("בָּא")[0] == "א"


def test_latin_within_hebrew_keeps_its_order() -> None:
    assert printed("שרה (Sarah) לוי") == "יול (Sarah) הרש"


def test_hebrew_within_latin_keeps_its_place() -> None:
    assert printed("Levi שרה 1951") == "Levi הרש 1951"


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("<b>Doe</b>", "&lt;b&gt;Doe&lt;/b&gt;"),
        ("A & B &amp;", "A &amp; B &amp;amp;"),
        ('<img src="file:///etc/passwd"/>', '&lt;img src="file:///etc/passwd"/&gt;'),
        ("a\nb", "a<br/>b"),
    ],
)
def test_text_is_nothing_but_text(text: str, markup: str) -> None:
    assert fonts().markup(text) == markup


@pytest.mark.parametrize("sign", ["\u202e", "\u2066", "\u200b", "\x07", "\ud7ff", "\U000e0041"])
def test_what_steers_or_has_no_glyph_stands_as_its_number(sign: str) -> None:
    assert f"U+{ord(sign):04X}" in fonts().markup(f"a{sign}b")
    assert fonts().unprintable(sign)


def test_what_prints_is_not_called_unprintable() -> None:
    assert not fonts().unprintable("Łukasiewicz\n\tΩ Иван")


def test_east_asian_names_print_or_stand_as_numbers() -> None:
    east = fonts().east
    assert fonts().unprintable("患者 太郎さん 김철수") == (east == "")
    expected = '<font name="report-east">患</font>' if east else "‹U+60A3›"
    assert fonts().markup("患") == expected
