"""Options that muster does itself, or ignores."""

import pytest


def test_options_of_xdist_are_accepted_and_ignored_without_it(suite, keeper):
    suite(**{"pytest.ini": "[pytest]\naddopts = -n 4 --dist loadfile --maxprocesses=8\n"}, test_a="def test_0(): pass\n")
    keeper.run_all()
    header = keeper.said("header")
    assert any("-n 4" in line and "--dist loadfile" in line for line in header["lines"])
    assert header["dist"] == "loadfile"


def test_options_of_xdist_are_ignored_with_it(suite, keeper):
    pytest.importorskip("xdist")
    suite(
        **{"pytest.ini": "[pytest]\naddopts = -p xdist -n 4 -d --tx popen\n"},
        test_a="""
        import xdist
        def test_0(request, worker_id):
            assert xdist.is_xdist_worker(request) and not xdist.is_xdist_controller(request)
            assert xdist.get_xdist_worker_id(request) == worker_id == "gw0"
        """,
    )
    runner = keeper.run_all()
    assert runner.results["test_a.py::test_0"]["outcome"] == "passed", runner.output_of("test_a.py::test_0")
    assert any("-n 4" in line for line in keeper.said("header")["lines"])


def test_junitxml_and_maxfail_are_left_to_muster(suite, keeper):
    suite(test_a="def test_0(): assert False\ndef test_1(): assert False\ndef test_2(): pass\n")
    runner = keeper.run_all("--junitxml=report.xml", "--maxfail=2")
    header = keeper.said("header")
    assert (header["junitxml"], header["maxfail"]) == (str(suite.folder / "report.xml"), 2)
    assert not [r for r in runner.results.values() if "stop" in r]
    keeper.finish()
    assert not suite.folder.joinpath("report.xml").exists()


def test_exitfirst_stops_at_no_problem_of_loading(suite, keeper):
    suite(test_a="1 / 0\n", test_b="1 / 0\n")
    keeper.load("-x")
    assert keeper.said("done")["problems"] == 2


def test_stepwise_stops_at_the_first_failure_and_goes_on_from_it(suite, keeper):
    suite(test_a="def test_0(): pass\ndef test_1(): assert False\n")
    runner = keeper.run_all("--stepwise")
    assert "stop" in runner.results["test_a.py::test_1"]
    keeper.finish()
    assert "test_1" in (suite.folder / ".pytest_cache/v/cache/stepwise").read_text()


def test_a_suite_without_pytests_terminal_runs(suite, keeper):
    suite(test_a="def test_0(): pass\ndef test_1(): assert False\n")
    runner = keeper.run_all("-p", "no:terminal")
    assert [r["outcome"] for r in runner.results.values()] == ["passed", "failed"]
    assert keeper.finish() == (0, "")


def test_a_suite_without_pytests_cache_runs(suite, keeper):
    suite(test_a="def test_0(): pass\n")
    keeper.run_all("-p", "no:cacheprovider")
    assert keeper.finish() == (0, "")
    assert not suite.folder.joinpath(".pytest_cache").exists()
