"""The warning about a public name that will go."""

import pytest

from xprnn import checks


def old():
    checks.deprecated("old()", "new()", gone="0.4")
    return 3


def test_it_names_the_users_line_and_what_to_write():
    with pytest.warns(
        DeprecationWarning, match=r"^old\(\) is deprecated and goes in xprnn 0\.4: "
    ) as seen:
        assert old() == 3
    assert "use new()" in str(seen[0].message)
    assert seen[0].filename == __file__
    assert seen[0].lineno == old.__code__.co_firstlineno + 9
