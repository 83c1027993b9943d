import math

from onestep.core.rounding import rounded, significant


def test_significant_digits_stay_whatever_the_size():
    assert [significant(number, 6) for number in (1234567.0, 0.12345678, -9.87654321e-7)] == [
        1.23457e6,
        0.123457,
        -9.87654e-7,
    ]


def test_last_bits_of_two_machines_come_to_one_number():
    assert significant(0.1 + 0.2, 6) == significant(0.3, 6) == 0.3
    assert significant(-1.1e-16, 6) == 0.0 and math.copysign(1, significant(-1.1e-16, 6)) == 1


def test_a_number_near_zero_has_no_digits_beyond_its_decimals():
    assert significant(-4.449373e-6, 4, 6) == significant(-4.446359e-6, 4, 6) == -4e-6
    assert [str(significant(number, 4, 6)) for number in (-3e-7, 123.456, 0.0123456)] == ["0.0", "123.5", "0.01235"]


def test_only_floats_are_touched():
    content = {"p": 0.123456789, "prompts": 1234567, "word": "x", "none": None, "rows": [True, {"low": -1 / 3}]}
    assert rounded(content, 6) == {
        "p": 0.123457, "prompts": 1234567, "word": "x", "none": None, "rows": [True, {"low": -0.333333}],
    }  # fmt: skip
    assert math.isnan(rounded(float("nan"), 4, 6))
