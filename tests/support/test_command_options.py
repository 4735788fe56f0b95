"""The values that options of commands may have."""

import numpy as np
import pytest

from recbole_hstu.support.commands.command_options import true_or_false, whole_number
from recbole_hstu.support.errors import InputError


def test_a_switch_is_true_or_false_and_no_number():
    assert true_or_false(np.bool_(True), "--quiet") is True
    for value in (0, 1, None, "yes"):
        with pytest.raises(InputError, match=f"^--quiet: {value!r} must be True or False$"):
            true_or_false(value, "--quiet")


def test_a_whole_number_lies_between_its_bounds():
    assert whole_number(2, "--jobs", 2) == whole_number(2, "--jobs", 1, 2) == 2
    for value in (1, True, 2.0, "2", None):
        with pytest.raises(InputError, match=f"^--jobs: {value!r} must be a whole number from 2"):
            whole_number(value, "--jobs", 2)
    with pytest.raises(InputError, match=r"^--port: 65536 must be a whole number 0 to 65,535$"):
        whole_number(65536, "--port", 0, 65535)
