"""What a result says of a test, and what its output file tells a person."""

import pytest


def test_a_test_that_passes_says_where_it_is_and_what_it_used(ran):
    result = ran(test_a="\n\ndef test_0(): pass\n").results["test_a.py::test_0"]
    assert (result["outcome"], result["file"], result["line"]) == ("passed", "test_a.py", 3)
    assert (result["output_bytes"], "message" in result) == (0, False)
    assert result["user_us"] >= 0 and result["sys_us"] >= 0 and result["memory_peak_kib"] > 1_000


def test_a_failing_test_says_where_and_why_in_pytests_words(ran):
    runner = ran(test_a="def test_0():\n    x = 1\n    assert x == 2, 'too\\nbad'\n")
    result = runner.results["test_a.py::test_0"]
    assert (result["outcome"], result["phase"]) == ("failed", "call")
    assert (result["file"], result["line"]) == ("test_a.py", 3)
    assert result["message"] == "AssertionError: too"
    output = runner.output_of("test_a.py::test_0")
    assert ">       assert x == 2" in output and "test_a.py:3: AssertionError" in output


def test_errors_of_setup_and_teardown_are_told_from_failures(ran):
    runner = ran(
        test_a="""
        import pytest
        @pytest.fixture
        def before(): raise ValueError("no table")
        @pytest.fixture
        def after():
            yield
            raise ValueError("still open")
        def test_before(before): pass
        def test_after(after): pass
        def test_both(after): assert False
        """
    )
    before, after, both = (runner.results[f"test_a.py::test_{name}"] for name in ("before", "after", "both"))
    assert (before["phase"], before["message"]) == ("setup", "error at setup: ValueError: no table")
    assert (after["phase"], after["message"]) == ("teardown", "error at teardown: ValueError: still open")
    assert (both["phase"], both["message"]) == ("call", "assert False")
    assert "ERROR at setup of test_before" in runner.output_of("test_a.py::test_before")
    output = runner.output_of("test_a.py::test_both")
    assert "assert False" in output and "ERROR at teardown of test_both" in output and "still open" in output


def test_what_was_expected_to_fail_has_passed_and_says_so(ran):
    runner = ran(
        test_a="""
        import pytest
        @pytest.mark.xfail(reason="known")
        def test_xfailed(): assert False
        @pytest.mark.xfail
        def test_xpassed(): pass
        @pytest.mark.xfail(strict=True)
        def test_strict(): pass
        def test_inside(): pytest.xfail("later")
        """
    )
    found = {name.split("::")[1]: (r["outcome"], r.get("expectation")) for name, r in runner.results.items()}
    assert found == {
        "test_xfailed": ("passed", "xfailed"),
        "test_xpassed": ("passed", "xpassed"),
        "test_strict": ("failed", None),
        "test_inside": ("passed", "xfailed"),
    }
    assert "XPASS(strict)" in runner.results["test_a.py::test_strict"]["message"]


def test_a_skipped_test_gives_its_reason(ran):
    runner = ran(
        test_a="""
        import pytest, unittest
        @pytest.mark.skip(reason="by mark")
        def test_mark(): pass
        def test_call(): pytest.skip("by call")
        @pytest.mark.skipif(True, reason="by condition")
        def test_if(): pass
        class TestUnit(unittest.TestCase):
            def test_unit(self): self.skipTest("by unittest")
        """
    )
    assert {(r["outcome"], r["message"]) for r in runner.results.values()} == {
        ("skipped", f"by {how}") for how in ("mark", "call", "condition", "unittest")
    }


def test_what_was_printed_is_kept_whether_it_passed_or_not(ran):
    runner = ran(
        test_a="""
        import logging, os, sys
        def test_passes():
            print("to stdout")
            print("to stderr", file=sys.stderr)
            os.write(1, b"past python\\n")
            logging.warning("logged")
        def test_quiet(): pass
        def test_fails():
            print("before", "the end")
            assert False
        """
    )
    output = runner.output_of("test_a.py::test_passes")
    assert "Captured stdout call" in output and "to stdout" in output and "past python" in output
    assert "Captured stderr call" in output and "to stderr" in output
    assert "Captured log call" in output and "logged" in output
    assert runner.output_of("test_a.py::test_quiet") == ""
    output = runner.output_of("test_a.py::test_fails")
    assert output.index("assert False") < output.index("before the end")


def test_options_about_output_are_honoured(ran):
    runner = ran("--show-capture=no", "--tb=line", test_a="def test_0():\n    print('noise')\n    assert False\n")
    output = runner.output_of("test_a.py::test_0")
    assert "noise" not in output and "test_a.py:3: assert False" in output and "def test_0" not in output


@pytest.mark.parametrize("method", ["no", "sys", "tee-sys"])
def test_what_is_printed_past_capturing_belongs_to_its_test(suite, keeper, method):
    suite(
        test_a="""
        import os
        def test_0():
            print("printed")
            os.write(1, b"written\\n")
        def test_1(): pass
        """
    )
    runner = keeper.run_all(f"--capture={method}")
    loose = runner.loose["test_a.py::test_0"]
    assert "written\n" in loose
    # Through Python: captured and passed on, only captured, or neither.
    assert ("printed\n" in loose) == (method != "sys")
    assert ("printed" in runner.output_of("test_a.py::test_0")) == (method != "no")
    assert runner.loose["test_a.py::test_1"] == "" and runner.output_of("test_a.py::test_1") == ""


def test_output_is_coloured_only_if_asked_for(suite, keeper):
    suite(test_a="def test_0(): assert False\ndef test_1(): assert False\n")
    keeper.load()
    runner = keeper.fork()
    runner.run("test_a.py::test_0")
    runner.run("test_a.py::test_1", color=True)
    assert "\x1b[" not in runner.output_of("test_a.py::test_0")
    assert "\x1b[" in runner.output_of("test_a.py::test_1")


def test_output_is_coloured_if_pytest_is_asked_to(ran):
    assert "\x1b[" in ran("--color=yes", test_a="def test_0(): assert False\n").output_of("test_a.py::test_0")


def test_figures_of_a_test_have_a_file_of_their_own(suite, keeper):
    suite(
        test_a="""
        import os
        def note(text):
            with open(os.environ["MUSTER_METRICS"], "a") as file: file.write(text)
        def test_0(): note("rps 1"); os.environ.clear()
        def test_1(): note("rps 2")
        """
    )
    runner = keeper.run_all()
    tokens = [runner.results[f"test_a.py::test_{number}"]["token"] for number in (0, 1)]
    assert [(keeper.home / f"metrics-{token}").read_text() for token in tokens] == ["rps 1", "rps 2"]


def test_properties_that_a_test_records_are_sent(ran):
    runner = ran(test_a="def test_0(record_property): record_property('build', 7)\n")
    assert runner.results["test_a.py::test_0"]["properties"] == [["build", "7"]]


def test_a_test_that_is_not_here_is_no_failure_of_the_test(suite, keeper):
    suite(test_a="def test_0(): pass\n")
    keeper.load()
    result = keeper.fork().run("test_a.py::test_of_another_version")[0]
    assert result["outcome"] == "env"
    assert "1 tests were collected" in result["message"]


def test_doctests_and_unittests_are_tests_like_any_other(ran):
    runner = ran(
        "--doctest-modules",
        "--doctest-glob=*.txt",
        **{
            "mod": 'def f():\n    """\n    >>> f()\n    2\n    """\n    return 1\n',
            "guide.txt": "hello\n\n>>> 1 + 1\n2\n",
            "test_u": "import unittest\nclass T(unittest.TestCase):\n    def test_0(self): self.assertEqual(1, 2)\n",
        },
    )
    found = {name: (r["outcome"], r["file"], r["line"]) for name, r in runner.results.items()}
    assert found["mod.py::mod.f"] == ("failed", "mod.py", 3)
    assert found["guide.txt::guide.txt"][0] == "passed"
    assert found["test_u.py::T::test_0"] == ("failed", "test_u.py", 3)


def test_ending_the_run_from_a_test_says_so(ran):
    runner = ran(
        test_a="""
        import pytest
        @pytest.fixture(scope="module")
        def shared():
            yield
            print("given back")
        def test_0(shared): pytest.exit("the server is gone")
        """
    )
    result = runner.results["test_a.py::test_0"]
    assert (result["outcome"], result["message"]) == ("failed", "pytest.exit: the server is gone")
    assert result["stop"] == "pytest.exit: the server is gone"


def test_an_interrupt_that_a_test_raises_ends_the_run(ran):
    result = ran(test_a="def test_0(): raise KeyboardInterrupt\n").results["test_a.py::test_0"]
    assert (result["outcome"], result["stop"]) == ("failed", "KeyboardInterrupt")


def test_a_plugin_that_stops_the_session_says_so(ran):
    runner = ran(
        conftest="def pytest_runtest_logreport(report):\n    pass\n",
        test_a="def test_0(request): request.session.shouldstop = 'enough'\n",
    )
    result = runner.results["test_a.py::test_0"]
    assert (result["outcome"], result["stop"]) == ("passed", "enough")


def test_system_exit_in_a_test_is_a_failure(ran):
    runner = ran(test_a="import sys\ndef test_0(): sys.exit(3)\ndef test_1(): pass\n")
    assert [r["outcome"] for r in runner.results.values()] == ["failed", "passed"]


def test_the_output_can_be_read_whatever_the_test_did_to_its_surroundings(suite, keeper):
    suite(
        test_a="""
        import builtins, os, sys
        def test_0():
            os.umask(0o777)
            os.chdir("/")
            builtins.open = os.open = os.write = os.close = sys.stdout = None
            print = None
            assert False, "wild"
        def test_1(): assert True
        """
    )
    keeper.load("--capture=no")
    runner = keeper.fork()
    runner.run("test_a.py::test_0")
    assert "wild" in runner.output_of("test_a.py::test_0")
