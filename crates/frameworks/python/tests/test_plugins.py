"""Plugins that many suites use, each skipped where it is not installed."""

import re
import subprocess
import sys

import pytest

SOURCE = {
    "pkg/__init__.py": "",
    "pkg/mod.py": """
        def sign(x):
            if x > 0:
                return 1
            elif x < 0:
                return -1
            return 0

        def unused():
            return None
        """,
    "test_a.py": "from pkg.mod import sign\ndef test_0(): assert sign(1) == 1\n",
    "test_b.py": "from pkg.mod import sign\ndef test_1(): assert sign(-1) == -1\n",
}


def table(text):
    """The lines of coverage's table: file, statements, missed, ..."""
    return [line.split() for line in text.splitlines() if re.match(r"(\S+\.py|TOTAL)\s+\d", line)]


def plain(suite, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "pytest_cov", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(command, cwd=suite.folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cov=pkg", "--cov-report=term-missing"],
        ["--cov=pkg", "--cov-branch", "--cov-report=term-missing"],
        ["--cov=.", "--cov-context=test", "--cov-report=term-missing"],
    ],
)
def test_coverage_of_two_runners_is_that_of_plain_pytest(suite, keeper, monkeypatch, arguments):
    pytest.importorskip("pytest_cov")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    suite(**SOURCE)
    expected = table(plain(suite, *arguments))
    assert len(expected) >= 3
    names = keeper.load("-p", "pytest_cov", "-p", "no:cacheprovider", *arguments)
    for slot, name in enumerate(names):
        runner = keeper.fork(slot, 2)
        assert runner.run(name)[0]["outcome"] == "passed"
        assert runner.stop() == 0, runner.stdio_text()
    code, printed = keeper.finish()
    assert (code, table(printed)) == (0, expected), printed
    assert [path.name for path in suite.folder.glob(".coverage*")] == [".coverage"]


def test_contexts_of_coverage_are_those_of_the_tests(suite, keeper):
    pytest.importorskip("pytest_cov")
    import coverage

    suite(**SOURCE)
    keeper.run_all("-p", "pytest_cov", "--cov=pkg", "--cov-context=test")
    keeper.finish()
    data = coverage.CoverageData(str(suite.folder / ".coverage"))
    data.read()
    assert {"test_a.py::test_0|run", "test_b.py::test_1|run"} <= set(data.measured_contexts())


def test_coverage_can_be_appended(suite, keeper, monkeypatch):
    pytest.importorskip("pytest_cov")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    suite(**SOURCE)
    plain(suite, "--cov=pkg", "test_a.py")
    keeper.run_all("-p", "pytest_cov", "--cov=pkg", "--cov-append", "--cov-report=term-missing", "test_b.py")
    rows = {row[0]: row for row in table(keeper.finish()[1])}
    assert rows["pkg/mod.py"][-1] == "10"


def test_coverage_below_the_wanted_shows_in_the_exit_code(suite, keeper):
    pytest.importorskip("pytest_cov")
    suite(**SOURCE)
    keeper.run_all("-p", "pytest_cov", "--cov=pkg", "--cov-fail-under=99")
    code, printed = keeper.finish()
    assert code == 1
    assert "Required test coverage of 99" in printed


def test_collecting_leaves_coverage_alone(suite, keeper):
    pytest.importorskip("pytest_cov")
    suite(**SOURCE)
    suite.folder.joinpath(".coverage").write_text("as it was")
    process = keeper.spawn("collect", "-p", "pytest_cov", "--cov=pkg")
    keeper.hear_list()
    assert process.wait() == 0, process.printed.read_text()
    assert suite.folder.joinpath(".coverage").read_text() == "as it was"


def test_coverage_of_runners_that_load_the_suite_themselves_is_combined(suite, keeper, monkeypatch):
    pytest.importorskip("pytest_cov")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    suite(**SOURCE)
    arguments = ["-p", "pytest_cov", "--cov=pkg", "--cov-branch", "--cov-report=term-missing"]
    expected = table(plain(suite, *arguments))
    suite(conftest="import os\nWORKER = os.environ.get('PYTEST_XDIST_WORKER')\n")
    names = keeper.load(*arguments)
    assert not keeper.ready()["fork"]
    for slot, name in enumerate(names):
        env = {"MUSTER_SLOT": str(slot), "MUSTER_SLOTS": "2"}
        process = keeper.spawn("runner", *arguments, collect=False, env=env)
        runner = keeper.greet(keeper.numbers)
        assert runner.run(name)[0]["outcome"] == "passed"
        runner.channel.send("stop")
        assert process.wait(30) == 0, process.printed.read_text()
        runner.status = 0
    code, printed = keeper.finish()
    assert (code, table(printed)) == (0, expected), printed


def test_tests_that_a_plugin_runs_again_pass_and_say_how_often(suite, keeper):
    pytest.importorskip("pytest_rerunfailures")
    suite(
        test_a="""
        import itertools
        count = itertools.count()
        def test_0():
            print("turn", "number one" if not next(count) else "number two")
            assert next(count) > 1
        """
    )
    runner = keeper.run_all("-p", "pytest_rerunfailures", "--reruns=2")
    result = runner.results["test_a.py::test_0"]
    assert (result["outcome"], result["reruns"]) == ("passed", 1)
    assert "RERUN at call of test_0" in runner.output_of("test_a.py::test_0")


def test_a_test_that_may_run_again_keeps_its_time_limit(suite, keeper):
    pytest.importorskip("pytest_rerunfailures")
    suite(
        test_a="""
        import itertools, pytest
        count = itertools.count()
        @pytest.fixture(scope="module")
        def shared():
            yield
            raise RuntimeError("shared broke")
        def test_0(shared): assert next(count) > 0
        def test_1(shared): assert False
        """
    )
    keeper.load("-p", "pytest_rerunfailures", "--reruns=1")
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    assert [runner.next()["type"] for _ in range(2)] == ["start", "want"]
    runner.give("test_a.py::test_1")
    # The second attempt asked, for it passed; the last one of this test has failed, and asks when it is over.
    assert runner.next()["outcome"] == "passed"
    assert [runner.next()["type"] for _ in range(2)] == ["start", "want"]
    assert runner.channel.silent()
    runner.channel.send("drained")
    result = runner.until("result")
    assert (result["outcome"], result["phase"]) == ("failed", "call")
    assert "shared broke" in runner.output_of("test_a.py::test_1")


def test_rerunfailures_with_xdist_does_not_forbid_forking(suite, keeper):
    pytest.importorskip("pytest_rerunfailures")
    pytest.importorskip("xdist")
    suite(test_a="def test_0(): pass\n")
    keeper.run_all("-p", "xdist", "-p", "pytest_rerunfailures", "--reruns=1")
    assert keeper.said("done")["fork"]


def test_asynchronous_tests_run(suite, keeper):
    pytest.importorskip("pytest_asyncio")
    suite(
        test_a="""
        import asyncio, pytest
        @pytest.mark.asyncio
        async def test_0(): await asyncio.sleep(0)
        @pytest.mark.asyncio
        async def test_1(): assert False
        """
    )
    runner = keeper.run_all("-p", "pytest_asyncio.plugin")
    assert [r["outcome"] for r in runner.results.values()] == ["passed", "failed"]


def test_time_limits_of_a_plugin_work(suite, keeper):
    pytest.importorskip("pytest_timeout")
    suite(test_a="import time\ndef test_0(): time.sleep(60)\ndef test_1(): pass\n")
    runner = keeper.run_all("-p", "pytest_timeout", "--timeout=0.2")
    assert [r["outcome"] for r in runner.results.values()] == ["failed", "passed"]
    assert "Timeout" in runner.results["test_a.py::test_0"]["message"]


def test_a_random_order_is_the_same_in_every_process(suite, keeper):
    pytest.importorskip("pytest_randomly")
    suite(test_a="import random\ndef test_0(): print('drew', random.random())\ndef test_1(): pass\n")
    names = keeper.load("-p", "pytest_randomly")
    drawn = set()
    for slot in (0, 1):
        runner = keeper.fork(slot, 2)
        runner.run(*names)
        drawn.add(runner.output_of("test_a.py::test_0"))
    assert len(drawn) == 1


def test_workers_are_configured_by_hooks_of_xdist(suite, keeper):
    pytest.importorskip("xdist")
    suite(
        conftest="""
        def pytest_configure_node(node):
            node.workerinput["port"] = 9000 + int(node.gateway.id[2:])
        def pytest_testnodedown(node, error):
            print("down", node.workeroutput["said"])
        def pytest_sessionfinish(session):
            if hasattr(session.config, "workeroutput"):
                session.config.workeroutput["said"] = "goodbye"
        """,
        test_a="def test_0(request): assert request.config.workerinput['port'] == 9003\n",
    )
    names = keeper.load("-p", "xdist")
    runner = keeper.fork(3, 4)
    assert runner.run(*names)[0]["outcome"] == "passed", runner.output_of(names[0])
    runner.stop()
    assert "down goodbye" in keeper.finish()[1]


def test_flaky_tests_run_again(suite, keeper):
    pytest.importorskip("flaky")
    suite(
        test_a="""
        import itertools
        from flaky import flaky
        count = itertools.count()
        @flaky
        def test_0(): assert next(count) > 0
        """
    )
    runner = keeper.run_all("-p", "flaky.flaky_pytest_plugin")
    assert runner.results["test_a.py::test_0"]["outcome"] == "passed"


def test_hypothesis_finds_its_examples(suite, keeper):
    pytest.importorskip("hypothesis")
    suite(test_a="from hypothesis import given, strategies as st\n@given(st.integers())\ndef test_0(x): assert x < 100\n")
    runner = keeper.run_all("-p", "_hypothesis_pytestplugin")
    assert "x=100" in runner.output_of("test_a.py::test_0")
