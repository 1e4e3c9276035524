"""`docs/security.md` names tests that there are."""

import re

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()


def test_named_tests_exist() -> None:
    """Every file of tests that the page names is there, and has the tests that it names of it."""
    sources = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`|`::(test_\w+)`", PAGE)
    assert len(named) > 20
    file = ""
    for whole, test, short in named:
        file = whole or file
        assert file in sources, file
        assert not (test or short) or f"def {test or short}(" in sources[file], (file, test, short)


def test_ten_risks() -> None:
    """Each of the ten has a row, and each row names a test."""
    rows = [line for line in PAGE.splitlines() if re.match(r"\| API\d+ ", line)]
    assert [row.split()[1] for row in rows] == [f"API{number}" for number in range(1, 11)]
    assert all("`test_" in row.split("|")[3] for row in rows)
