"""What of the user's options muster does itself, ignores, or leaves to pytest alone."""

import os

import pytest

# Attribute of `config.option`, and how the user knows it: what only pytest itself can do.
REFUSED = (
    ("version", "--version"),
    ("help", "--help"),
    ("collectonly", "--collect-only"),
    ("showfixtures", "--fixtures"),
    ("show_fixtures_per_test", "--fixtures-per-test"),
    ("markers", "--markers"),
    ("cacheshow", "--cache-show"),
    ("setuponly", "--setup-only"),
    ("setupplan", "--setup-plan"),
    ("usepdb", "--pdb"),
    ("trace", "--trace"),
    ("looponfail", "--looponfail"),
)
# Attribute, what it is when unused, and how the user knows it: pytest-xdist's, where it is not installed.
DISTRIBUTION = (
    ("numprocesses", None, ("-n", "--numprocesses"), "store"),
    ("maxprocesses", None, ("--maxprocesses",), "store"),
    ("maxworkerrestart", None, ("--max-worker-restart",), "store"),
    ("maxschedchunk", None, ("--maxschedchunk",), "store"),
    ("dist", "no", ("--dist",), "store"),
    ("distload", False, ("-d",), "store_true"),
    ("tx", [], ("--tx",), "append"),
    ("px", [], ("--px",), "append"),
)


class Wishes:
    """What was asked for and is muster's to do; goes into the header of the listing."""

    def __init__(self):
        self.ignored = []
        self.maxfail = 0
        self.junitxml = ""
        self.dist = ""

    def ignore(self, text):
        if text not in self.ignored:
            self.ignored.append(text)

    def lines(self):
        if not self.ignored:
            return []
        return [f"ignored: {', '.join(self.ignored)} (muster runs tests in parallel itself)"]


def complaint(error):
    """One line of an error of pytest's: of a wrong option it says the usage first."""
    text = str(error) if isinstance(error, pytest.UsageError) else f"{type(error).__name__}: {error}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if ": error: " in line:
            return line.split(": error: ", 1)[1]
    return lines[0] if lines else type(error).__name__


def accept_distribution(early_config, parser):
    """Where pytest-xdist is not installed its options are accepted all the same, and ignored."""
    if early_config.pluginmanager.hasplugin("xdist"):
        return
    taken = {name for group in (*parser._groups, parser._anonymous) for option in group.options for name in option.names()}
    group = parser.getgroup("muster", "accepted and ignored by muster")
    for dest, unused, names, action in DISTRIBUTION:
        if taken.isdisjoint(names):
            group._addoption(*names, dest=dest, default=unused, action=action, help="ignored")


def neutralise_distribution(option, wishes):
    """Tests are distributed by muster: pytest-xdist must not, and plugins must not think that it does."""
    for dest, unused, names, action in DISTRIBUTION:
        value = getattr(option, dest, unused)
        if value in (unused, None, []) or value == 0:
            continue
        if dest == "dist":
            wishes.dist = value
        wishes.ignore(names[0] if action == "store_true" else f"{names[0]} {value}")
        setattr(option, dest, list(unused) if isinstance(unused, list) else unused)


def take_over(config, wishes):
    """Options that pytest must not act on; called before any plugin is configured."""
    option = config.option
    for dest, name in REFUSED:
        if getattr(option, dest, None):
            raise pytest.UsageError(f"{name} is pytest's own: run `pytest {name}`")
    neutralise_distribution(option, wishes)
    wishes.maxfail = int(getattr(option, "maxfail", 0) or 0)
    option.maxfail = 0
    if getattr(option, "xmlpath", None):
        wishes.junitxml = os.path.abspath(os.path.expanduser(os.path.expandvars(option.xmlpath)))
        option.xmlpath = None
    if getattr(option, "pastebin", None):
        wishes.ignore(f"--pastebin={option.pastebin}")
        option.pastebin = None
