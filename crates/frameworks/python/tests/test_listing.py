"""What a listing says of a suite."""

import sys

import pytest


def row(keeper, name):
    return next(row for row in keeper.rows() if row["item"] == name)


def test_items_come_in_pytests_order_with_their_places(suite, keeper):
    suite(test_b="def test_2(): pass\n\n\ndef test_1(): pass\n", test_a="def test_0(): pass\n")
    assert keeper.load() == ["test_a.py::test_0", "test_b.py::test_2", "test_b.py::test_1"]
    assert (row(keeper, "test_b.py::test_1")["file"], row(keeper, "test_b.py::test_1")["line"]) == ("test_b.py", 4)
    done = keeper.said("done")
    assert (done["items"], done["problems"], done["deselected"], done["fork"]) == (3, 0, 0, True)


def test_places_are_relative_to_where_pytest_was_called(suite, keeper):
    suite.folder.joinpath("below").mkdir()
    suite.folder.joinpath("below", "test_a.py").write_text("def test_0(): pass\n")
    keeper.suite = suite.folder / "below"
    assert keeper.load() == ["below/test_a.py::test_0"]
    assert keeper.rows()[0]["file"] == "test_a.py"


def test_scope_is_the_widest_below_the_session(suite, keeper):
    suite(
        test_a="""
        import pytest, unittest
        @pytest.fixture(scope="session")
        def s(): pass
        @pytest.fixture(scope="module")
        def m(s): pass
        @pytest.fixture(scope="class")
        def c(): pass
        @pytest.fixture
        def through(m): pass
        def test_session(s, tmp_path_factory, monkeypatch): pass
        def test_module(through, c): pass
        class TestClass:
            def test_class(self, c): pass
        class TestXunit:
            def setup_class(cls): pass
            def test_xunit(self): pass
        class TestUnit(unittest.TestCase):
            def test_unit(self): pass
        class TestPrepared(unittest.TestCase):
            @classmethod
            def setUpClass(cls): pass
            def test_prepared(self): pass
        """,
        test_b="def setup_module(): pass\ndef test_setup_module(): pass\n",
    )
    keeper.load()
    scopes = {row["item"].split("::")[-1]: (row["scope"], row["class"]) for row in keeper.rows()}
    assert scopes == {
        "test_session": ("function", ""),
        "test_module": ("module", ""),
        "test_class": ("class", "test_a.py::TestClass"),
        "test_xunit": ("class", "test_a.py::TestXunit"),
        "test_unit": ("function", "test_a.py::TestUnit"),
        "test_prepared": ("class", "test_a.py::TestPrepared"),
        "test_setup_module": ("module", ""),
    }


def test_xdist_group_marks_are_known_even_without_xdist(suite, keeper):
    suite(
        test_a="""
        import pytest
        @pytest.mark.xdist_group("db")
        def test_0(): pass
        @pytest.mark.xdist_group(name="web")
        def test_1(): pass
        """
    )
    keeper.load("--strict-markers")
    assert [row["mark"] for row in keeper.rows()] == ["db", "web"]


def test_a_module_skipped_while_loaded_stands_as_one_item(suite, keeper):
    suite(test_a="import pytest\npytest.skip('not here', allow_module_level=True)\n")
    assert keeper.load() == ["test_a.py"]
    assert (keeper.rows()[0]["skipped"], keeper.rows()[0]["line"]) == ("not here", 2)
    result = keeper.fork().run("test_a.py")[0]
    assert (result["outcome"], result["message"]) == ("skipped", "not here")


def test_a_module_that_cannot_be_loaded_is_a_problem_and_ends_the_process(suite, keeper):
    suite(test_a="import nothing_like_it\n", test_b="def test_0(): pass\n")
    keeper.load()
    problem = keeper.said("problem")
    assert (problem["item"], problem["file"], problem["line"]) == ("test_a.py", "test_a.py", 1) or problem["line"] == 0
    assert "ModuleNotFoundError: No module named 'nothing_like_it'" in problem["text"]
    assert (keeper.said("done")["problems"], keeper.said("done")["items"]) == (1, 0)
    assert keeper.process.wait() == 2
    assert "nothing_like_it" in keeper.process.printed.read_text()


def test_with_continue_a_module_that_cannot_be_loaded_stands_as_a_failing_item(suite, keeper):
    suite(test_a="def broken(:\n", test_b="def test_0(): pass\n")
    assert sorted(keeper.load("--continue-on-collection-errors")) == ["test_a.py", "test_b.py::test_0"]
    runner = keeper.fork()
    failed, passed = runner.run("test_a.py", "test_b.py::test_0")
    assert failed["outcome"] == "failed"
    assert "SyntaxError" in runner.output_of("test_a.py")
    assert passed["outcome"] == "passed"


def test_names_that_are_twice_there_are_numbered(suite, keeper):
    suite(test_a="def test_0(): pass\n")
    names = keeper.load("--keep-duplicates", "test_a.py", "test_a.py")
    assert names == ["test_a.py::test_0", "test_a.py::test_0 #2"]
    assert [result["outcome"] for result in keeper.fork().run(*names)] == ["passed", "passed"]


def test_names_of_any_characters_survive(suite, keeper):
    suite(
        test_a="""
        import pytest
        @pytest.mark.parametrize("x", [1, 2, 3, 4], ids=["a b::[/]", "\\u00fc\\U0001F600", "\\udc80", "\\udc81"])
        def test_0(x): pass
        """
    )
    names = keeper.load("-o", "disable_test_id_escaping_and_forfeit_all_rights_to_community_support=true")
    assert len(set(names)) == 4
    assert [result["outcome"] for result in keeper.fork().run(*names)] == ["passed"] * 4


def test_deselected_tests_are_counted(suite, keeper):
    suite(test_a="def test_0(): pass\ndef test_1(): pass\n")
    assert keeper.load("-k", "test_1") == ["test_a.py::test_1"]
    assert keeper.said("done")["deselected"] == 1


def test_a_long_list_comes_in_several_frames(suite, keeper):
    suite(test_a="import pytest\n@pytest.mark.parametrize('x', range(2_500))\ndef test_0(x): pass\n")
    assert len(keeper.load()) == 2_500
    assert [len(m["items"]) for m in keeper.listing if m["type"] == "items"] == [1_000, 1_000, 500]


def test_a_collecting_process_needs_no_keeper_and_exits(suite, keeper):
    suite(test_a="def test_0(): pass\n")
    process = keeper.spawn("collect")
    keeper.hear_list()
    assert keeper.names() == ["test_a.py::test_0"]
    assert process.wait() == 0
    assert process.printed.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--collect-only"], "pytest --collect-only"),
        (["--fixtures"], "pytest --fixtures"),
        (["--version"], "pytest --version"),
        (["--help"], "pytest --help"),
        (["--pdb"], "pytest --pdb"),
        (["--no-such-option"], "--no-such-option"),
        (["no/such/file.py"], "no/such/file.py"),
    ],
)
def test_what_cannot_be_run_is_said(suite, keeper, arguments, message):
    suite(test_a="def test_0(): pass\n")
    process = keeper.spawn("collect", *arguments)
    keeper.hear_list()
    failed = keeper.said("failed")
    assert message in failed["message"]
    assert process.wait() == failed["exit_code"]


def test_a_conftest_that_cannot_be_loaded_is_said(suite, keeper):
    suite(conftest="1 / 0\n", test_a="def test_0(): pass\n")
    process = keeper.spawn("collect")
    keeper.hear_list()
    assert "ZeroDivisionError" in keeper.said("failed")["message"]
    assert process.wait() == 4
    assert "ZeroDivisionError" in process.printed.read_text()


def test_a_python_without_pytest_is_said(suite, keeper, tmp_path):
    suite(test_a="def test_0(): pass\n")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    hidden.joinpath("pytest.py").write_text("raise ImportError('no pytest in these parts')\n")
    process = keeper.spawn("collect", env={"PYTHONPATH": str(hidden)})
    keeper.hear_list()
    assert "no pytest in these parts" in keeper.said("failed")["message"]
    assert process.wait() == 4


def test_a_pytest_that_is_too_old_is_said(suite, keeper, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    hidden.joinpath("pytest.py").write_text("__version__ = '6.2.5'\n")
    process = keeper.spawn("collect", env={"PYTHONPATH": str(hidden)})
    keeper.hear_list()
    assert "pytest 6.2.5" in keeper.said("failed")["message"]
    assert process.wait() == 4


def test_the_suite_sees_the_environment_of_plain_pytest(suite, keeper):
    suite(
        conftest="""
        import os, sys
        HERE = os.path.dirname(os.path.abspath(__file__))
        def pytest_configure(config):
            assert not [name for name in os.environ if name.startswith("MUSTER_RUNNER")], os.environ
            assert "MUSTER_COLLECT_SOCKET" not in os.environ
            assert not any("muster" in path for path in sys.path), sys.path
            assert HERE in sys.path
            assert sys.argv == ["pytest", "-q"], sys.argv
        """,
        test_a="def test_0(): pass\n",
    )
    assert keeper.load("-q") == ["test_a.py::test_0"], keeper.listing


def test_threads_of_the_suite_forbid_forking(suite, keeper):
    suite(
        test_a="""
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True, name="heartbeat").start()
        def test_0(): pass
        """
    )
    keeper.load()
    done, ready = keeper.said("done"), keeper.ready()
    assert (done["fork"], ready["fork"]) == (False, False)
    assert "heartbeat" in done["why"] and "heartbeat" in ready["why"]


def test_a_suite_that_asks_for_its_worker_while_loaded_is_not_forked(suite, keeper):
    suite(
        conftest="import os\nDATABASE = 'test_' + os.environ.get('PYTEST_XDIST_WORKER', 'main')\n",
        test_a="def test_0(): pass\n",
    )
    keeper.load()
    assert "conftest.py:2 asks for PYTEST_XDIST_WORKER" in keeper.said("done")["why"]


def test_a_suite_that_asks_for_workerinput_while_configured_is_not_forked(suite, keeper):
    suite(
        conftest="def pytest_configure(config):\n    config.is_main = not hasattr(config, 'workerinput')\n",
        test_a="def test_0(): pass\n",
    )
    keeper.load()
    assert "conftest.py:2 asks for config.workerinput" in keeper.said("done")["why"]


def test_the_header_names_framework_and_python(suite, keeper):
    suite(test_a="def test_0(): pass\n")
    keeper.load()
    header = keeper.listing[0]
    assert header["framework"] == f"pytest {pytest.__version__}"
    assert header["python"] == "%d.%d.%d" % sys.version_info[:3]
    assert header["rootdir"] == str(suite.folder)
