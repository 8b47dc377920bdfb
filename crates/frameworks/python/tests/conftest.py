import textwrap

import pytest
from keeper import Keeper


@pytest.fixture
def suite(tmp_path):
    """Writes files of a suite: suite(test_a="...")."""
    folder = tmp_path / "suite"
    folder.mkdir()

    def write(**files):
        for name, text in files.items():
            path = folder / (name if "." in name else name + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return folder

    write.folder = folder
    # Otherwise pytest looks for its configuration above.
    (folder / "pytest.ini").write_text("[pytest]\n")
    return write


@pytest.fixture
def keeper(suite):
    with Keeper(suite.folder) as it:
        yield it


@pytest.fixture
def ran(suite, keeper):
    """Writes a suite, runs all of it, and gives the ended runner."""

    def run(*arguments, **files):
        suite(**files)
        return keeper.run_all(*arguments)

    return run
