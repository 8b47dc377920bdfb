"""The end of a run: what pytest and its plugins learn of what runners did, and what is printed."""

import json


def last_failed(suite):
    path = suite.folder / ".pytest_cache/v/cache/lastfailed"
    return json.loads(path.read_text()) if path.exists() else {}


def test_a_run_with_nothing_to_say_prints_nothing(suite, keeper):
    suite(test_a="def test_0(): pass\ndef test_1(): assert False\n")
    keeper.run_all()
    assert keeper.finish() == (0, "")


def test_failures_are_remembered_for_the_next_run(suite, keeper):
    suite(test_a="def test_0(): pass\ndef test_1(): assert False\n")
    keeper.run_all()
    keeper.finish()
    assert last_failed(suite) == {"test_a.py::test_1": True}


def test_what_passes_now_is_no_longer_remembered(suite, keeper):
    cache = suite.folder / ".pytest_cache/v/cache"
    cache.mkdir(parents=True)
    cache.joinpath("lastfailed").write_text('{"test_a.py::test_0": true}')
    suite(test_a="def test_0(): pass\ndef test_1(): pass\n")
    names = keeper.load("--lf")
    assert names == ["test_a.py::test_0"]
    assert any("rerun previous 1 failure" in line for line in keeper.said("header")["lines"])
    runner = keeper.fork()
    runner.run(*names)
    runner.stop()
    keeper.finish()
    assert last_failed(suite) == {}


def test_a_test_that_passes_when_tried_again_is_not_remembered(suite, keeper):
    suite(test_a="import os\ndef test_0():\n    assert os.path.exists('there')\n")
    names = keeper.load()
    first = keeper.fork()
    assert first.run(*names)[0]["outcome"] == "failed"
    suite.folder.joinpath("there").touch()
    second = keeper.fork()
    assert second.run(*names)[0]["outcome"] == "passed"
    keeper.finish()
    assert last_failed(suite) == {}


def test_a_test_whose_runner_died_is_remembered(suite, keeper):
    suite(test_a="import os\ndef test_0(): os._exit(1)\n")
    names = keeper.load()
    crash(keeper, *names)
    assert keeper.finish()[0] == 0
    assert last_failed(suite) == {"test_a.py::test_0": True}


def test_a_test_whose_runner_died_and_that_passed_then_is_not_remembered(suite, keeper):
    suite(test_a="import os\ndef test_0(): os.path.exists('there') or os._exit(1)\n")
    names = keeper.load()
    crash(keeper, *names)
    suite.folder.joinpath("there").touch()
    assert keeper.fork().run(*names)[0]["outcome"] == "passed"
    keeper.finish()
    assert last_failed(suite) == {}


def crash(keeper, *names):
    runner = keeper.fork()
    runner.until("want")
    runner.give(*names)
    while runner.next() is not None:
        pass
    assert runner.wait() == 1


def test_warnings_of_all_runners_are_summed_up_by_pytest(suite, keeper):
    suite(
        test_a="""
        import warnings
        class Own(UserWarning): pass
        def test_0(): warnings.warn("careful", DeprecationWarning)
        def test_1(): warnings.warn(Own("mine"))
        """
    )
    names = keeper.load()
    for slot, name in enumerate(names):
        runner = keeper.fork(slot, 2)
        runner.run(name)
        runner.stop()
    code, printed = keeper.finish()
    assert code == 0
    assert printed.startswith("====") and "warnings summary" in printed.splitlines()[0]
    assert "test_a.py::test_0" in printed and "DeprecationWarning: careful" in printed and "Own: mine" in printed
    assert "passed" not in printed and "failed" not in printed


def test_plugins_of_the_suite_see_every_report_and_print_their_summary(suite, keeper):
    suite(
        conftest="""
        seen = []
        def pytest_runtest_logreport(report):
            seen.append((report.nodeid, report.when, report.outcome))
        def pytest_terminal_summary(terminalreporter):
            terminalreporter.write_line(f"{len(seen)} reports, {len(terminalreporter.stats['passed'])} passed")
        """,
        test_a="def test_0(): pass\ndef test_1(): assert False\n",
    )
    keeper.run_all()
    assert keeper.finish() == (0, "6 reports, 1 passed\n")


def test_durations_can_be_asked_for(suite, keeper):
    suite(test_a="import time\ndef test_0(): time.sleep(0.02)\n")
    keeper.run_all("--durations=1")
    assert "slowest 1 durations" in keeper.finish()[1]


def test_the_end_of_the_suites_own_conftest_happens_once(suite, keeper):
    suite(
        conftest="""
        import os
        def note(what):
            with open("notes", "a") as notes: notes.write(what + "\\n")
        def pytest_sessionstart(): note("start")
        def pytest_sessionfinish(): note("finish")
        def pytest_unconfigure(): note("unconfigure")
        """,
        test_a="def test_0(): pass\n",
    )
    keeper.run_all()
    keeper.finish()
    assert suite.folder.joinpath("notes").read_text().split() == ["start", "finish", "unconfigure"]


def test_an_end_that_knows_of_workers_happens_in_them_too(suite, keeper):
    suite(
        conftest="""
        def pytest_sessionfinish(session):
            if hasattr(session.config, "workeroutput"):
                session.config.workeroutput["found"] = session.config.workerinput["workerid"]
        """,
        test_a="def test_0(): pass\n",
    )
    keeper.run_all()
    journal = next((keeper.home / "run").glob("*.journal")).read_text()
    assert json.loads(journal.splitlines()[-1])["output"] == {"found": "gw0"}


def test_a_plugin_that_fails_the_session_at_the_end_shows_in_the_exit_code(suite, keeper):
    suite(
        conftest="""
        import pytest
        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtestloop(session):
            yield
            session.testsfailed += not hasattr(session.config, "workerinput")
        """,
        test_a="def test_0(): assert False\n",
    )
    keeper.run_all()
    assert keeper.finish()[0] == 1


def test_a_directory_of_a_failed_test_is_kept_where_only_those_are(suite, keeper):
    suite(test_a="def test_0(tmp_path):\n    tmp_path.joinpath('evidence').touch()\n    assert False\n")
    keeper.load("--basetemp=base", "-o", "tmp_path_retention_policy=failed")
    runner = keeper.fork()
    runner.run("test_a.py::test_0")
    runner.stop()
    keeper.finish()
    assert list((suite.folder / "base").rglob("evidence"))
