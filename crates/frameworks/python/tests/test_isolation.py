"""What keeps runners apart from each other, from the template, and from what tests do to their process."""

import os
import signal
import sys

import pytest


def test_runners_are_children_of_the_keeper_and_lead_their_groups(suite, keeper):
    suite(test_a="def test_0(): pass\n")
    keeper.load()
    runner = keeper.fork()
    assert os.getpgid(runner.pid) == runner.pid
    with open(f"/proc/{runner.pid}/stat") as stat:
        assert int(stat.read().rsplit(")", 1)[1].split()[1]) == os.getpid()


def test_a_runner_knows_its_slot_as_an_xdist_worker_would(suite, keeper):
    suite(
        test_a="""
        import os
        def test_0(request, worker_id, testrun_uid):
            env = os.environ
            assert (env["MUSTER_SLOT"], env["MUSTER_SLOTS"]) == ("2", "3")
            assert (env["PYTEST_XDIST_WORKER"], env["PYTEST_XDIST_WORKER_COUNT"]) == ("gw2", "3")
            assert env["PYTEST_XDIST_TESTRUNUID"] == testrun_uid == "run-1"
            assert env["MUSTER_COOKIE"] == "cookie-1"
            assert worker_id == request.config.workerinput["workerid"] == "gw2"
            assert request.config.workeroutput == {}
            assert not [name for name in env if name.startswith("MUSTER_RUNNER")]
        """
    )
    keeper.load()
    runner = keeper.fork(slot=2, slots=3)
    assert runner.run("test_a.py::test_0")[0]["outcome"] == "passed", runner.output_of("test_a.py::test_0")


@pytest.mark.parametrize("method", ["fd", "sys", "no"])
def test_captured_output_of_two_runners_does_not_mix(suite, keeper, method):
    suite(
        test_a="""
        import pytest
        @pytest.mark.parametrize("x", range(40))
        def test_0(x, worker_id):
            for _ in range(x): print(f"{worker_id} {x}")
        """
    )
    names = keeper.load(f"--capture={method}")
    runners = [keeper.fork(0, 2), keeper.fork(1, 2)]
    for number, name in enumerate(names):
        runner = runners[number % 2]
        runner.until("want")
        runner.give(name)
    for runner in runners:
        runner.channel.send("drained")
    for number, name in enumerate(names):
        runner = runners[number % 2]
        while name not in runner.results:
            runner.next()
        printed = runner.output_of(name) + runner.loose[name]
        lines = [line for line in printed.splitlines() if line.startswith("gw")]
        assert lines == [f"gw{number % 2} {number}"] * number


def test_output_of_a_test_in_flight_outlives_its_process(suite, keeper):
    suite(test_a="import os, sys\ndef test_0():\n    print('last words')\n    print('to err', file=sys.stderr)\n    os._exit(7)\n")
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    while runner.next() is not None:
        pass
    assert runner.wait() == 7
    assert open(runner.stdio + ".out").read() == "last words\n"
    assert open(runner.stdio + ".err").read() == "to err\n"


def test_a_crash_leaves_its_stack(suite, keeper):
    suite(test_a="import faulthandler, ctypes\ndef test_0(): ctypes.string_at(0)\n")
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    while runner.next() is not None:
        pass
    assert runner.wait() == -signal.SIGSEGV
    assert "Segmentation fault" in runner.stdio_text() and "test_0" in runner.stdio_text()


def test_a_test_that_is_told_to_end_leaves_the_stacks_of_all_threads(suite, keeper):
    suite(
        test_a="""
        import threading
        def stuck(): threading.Event().wait()
        def test_0():
            thread = threading.Thread(target=stuck, daemon=True)
            thread.start()
            print("waiting", flush=True)
            thread.join()
        """
    )
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    runner.until("start")
    out = runner.stdio + ".out"
    while not os.path.exists(out) or "waiting" not in open(out).read():
        assert runner.channel.silent(0.01)
    os.kill(runner.pid, signal.SIGTERM)
    assert runner.wait() == -signal.SIGTERM
    assert "in stuck" in runner.stdio_text() and "in test_0" in runner.stdio_text()


def test_processes_that_a_test_ends_leave_no_stacks(suite, keeper):
    suite(
        test_a="""
        import multiprocessing, time
        def test_0():
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join()
            assert process.exitcode == -15
        """
    )
    keeper.load()
    runner = keeper.fork()
    assert runner.run("test_a.py::test_0")[0]["outcome"] == "passed"
    assert runner.stdio_text() == ""


def test_a_test_that_closes_every_descriptor_is_reported_all_the_same(suite, keeper):
    suite(
        test_a="""
        import os, resource
        def test_0(capfd):
            os.closerange(20, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        def test_1(): pass
        """
    )
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    token = runner.give("test_a.py::test_0")[0]
    runner.until("start")
    channel = keeper.accept(keeper.listener)
    hello = channel.expect("hello")
    assert (hello["id"], hello["pid"], hello["busy"]) == (runner.number, runner.pid, token)
    runner.channel = channel
    runner.until("want")
    channel.send("drained")
    assert runner.until("result")["outcome"] == "passed"
    assert runner.run("test_a.py::test_1")[0]["outcome"] == "passed"


def test_what_was_given_on_a_lost_connection_is_asked_for_again(suite, keeper):
    suite(
        test_a="""
        import os, resource
        def test_0():
            os.closerange(20, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        def test_1(): pass
        """
    )
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    token = runner.give("test_a.py::test_0", "test_a.py::test_1")[0]
    runner.until("start")
    runner.channel = keeper.accept(keeper.listener)
    assert runner.channel.expect("hello")["busy"] == token
    assert [runner.next()["type"] for _ in range(2)] == ["want", "result"]
    runner.give("test_a.py::test_1")
    assert [runner.next()["type"] for _ in range(3)] == ["start", "want", "result"]


def test_a_child_that_falls_out_of_its_test_does_not_speak_for_the_runner(suite, keeper):
    suite(
        test_a="""
        import os
        def test_0():
            pid = os.fork()
            if pid == 0:
                assert False, "in the child"
            _, status = os.waitpid(pid, 0)
            assert os.WEXITSTATUS(status) == 70
        """
    )
    keeper.load()
    runner = keeper.fork()
    assert runner.run("test_a.py::test_0")[0]["outcome"] == "passed", runner.output_of("test_a.py::test_0")


def test_an_idle_runner_exits_when_its_keeper_is_gone(suite, keeper):
    suite(test_a="def test_0(): pass\n")
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.channel.close()
    assert runner.wait() == 0


def test_a_template_exits_without_the_frameworks_end_when_its_keeper_is_gone(suite, keeper):
    suite(
        conftest="def pytest_sessionfinish():\n    open('ended', 'w').close()\n",
        test_a="def test_0(): pass\n",
    )
    keeper.load()
    keeper.ready()
    keeper.template.close()
    assert keeper.process.wait(30) == 0
    assert not suite.folder.joinpath("ended").exists()


def test_what_one_test_leaves_behind_does_not_break_the_next(ran):
    runner = ran(
        test_a="""
        import os, signal, subprocess, sys, threading
        def test_0():
            os.chdir("/")
            os.environ.clear()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            threading.Thread(target=threading.Event().wait).start()
            sys.stdout = sys.stderr = None
            sys.setrecursionlimit(200)
        def test_1(tmp_path): print("still here")
        """
    )
    assert {r["outcome"] for r in runner.results.values()} == {"passed"}


def test_an_error_inside_the_framework_ends_the_runner_with_70(suite, keeper):
    suite(
        conftest="def pytest_runtest_logreport(report):\n    raise RuntimeError('plugin broke')\n",
        test_a="def test_0(): pass\n",
    )
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    while runner.next() is not None:
        pass
    assert runner.wait() == 70
    assert "plugin broke" in runner.stdio_text()


def test_temporary_directories_of_runners_lie_side_by_side(suite, keeper):
    suite(
        test_a="""
        def test_0(tmp_path_factory, tmp_path): print("base", tmp_path_factory.getbasetemp())
        def test_1(tmp_path_factory): print("base", tmp_path_factory.getbasetemp())
        """
    )
    names = keeper.load()
    bases = []
    for slot, name in enumerate(names):
        runner = keeper.fork(slot, 2)
        assert runner.run(name)[0]["outcome"] == "passed"
        bases.append(next(line for line in runner.output_of(name).splitlines() if line.startswith("base")))
    assert [os.path.basename(base) for base in bases] == ["popen-gw0", "popen-gw1"]
    assert len({os.path.dirname(base) for base in bases}) == 1


def test_exit_handlers_of_the_suite_run_in_the_template_alone(suite, keeper):
    suite(
        conftest="import atexit, os\natexit.register(lambda: os.write(2, b'at exit of the suite\\n'))\n",
        test_a="import atexit, os\ndef test_0(): atexit.register(lambda: os.write(2, b'at exit of the test\\n'))\n",
    )
    runner = keeper.run_all()
    assert "at exit of the suite" not in runner.stdio_text()
    assert "at exit of the test" in runner.stdio_text()
    assert keeper.finish()[1].count("at exit of the suite") == 1


@pytest.mark.parametrize("seed", ["", "random.seed(7)"])
def test_runners_draw_alike_only_if_the_suite_has_seeded(suite, keeper, seed):
    suite(conftest=f"import random\n{seed}\n", test_a="import random\ndef test_0(): print('drew', random.random())\n")
    keeper.load()
    drawn = set()
    for slot in (0, 1):
        runner = keeper.fork(slot, 2)
        runner.run("test_a.py::test_0")
        drawn.add(runner.output_of("test_a.py::test_0"))
    assert len(drawn) == (1 if seed else 2)


def test_a_runner_that_loads_the_suite_itself_is_like_any_other(suite, keeper):
    suite(
        conftest="import os\nWORKER = os.environ.get('PYTEST_XDIST_WORKER')\n",
        test_a="from conftest import WORKER\ndef test_0(worker_id, tmp_path): assert WORKER == worker_id == 'gw1'; print(tmp_path)\n",
    )
    names = keeper.load()
    assert not keeper.ready()["fork"]
    stdio = keeper.stdio(keeper.numbers + 1)
    env = {"MUSTER_SLOT": "1", "MUSTER_SLOTS": "2", "MUSTER_RUNNER_STDIO": stdio}
    process = keeper.spawn("runner", collect=False, env=env)
    runner = keeper.greet(keeper.numbers)
    assert runner.run(*names)[0]["outcome"] == "passed", runner.output_of(names[0])
    assert "popen-gw1" in runner.output_of(names[0])
    runner.channel.send("stop")
    assert process.wait(30) == 0
    runner.status = 0
    assert keeper.finish()[0] == 0


def test_a_test_that_a_plugin_runs_twice_is_one_test(suite, keeper):
    suite(
        conftest="""
        import pytest
        from _pytest.runner import runtestprotocol
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_protocol(item, nextitem):
            for _ in range(2):
                runtestprotocol(item, nextitem=nextitem, log=True)
            return True
        """,
        test_a="def test_0(): pass\n",
    )
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    assert [runner.next()["type"] for _ in range(3)] == ["start", "want", "result"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads by /proc")
def test_native_threads_that_survive_a_fork_call_forbid_forking(suite, keeper):
    suite(
        conftest="""
        import _thread, time
        _thread.start_new_thread(time.sleep, (60,))
        """,
        test_a="def test_0(): pass\n",
    )
    keeper.load()
    assert "1 threads that are not Python's" in keeper.said("done")["why"]
