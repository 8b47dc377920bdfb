"""When shared fixtures are torn down, and to whom an error in it belongs."""

SHARED = """
import pytest
@pytest.fixture(scope="module")
def shared():
    yield
    print("module given back")
    raise RuntimeError("shared broke")
def test_0(shared): pass
def test_1(shared): pass
def test_plain(): pass
"""


def test_without_a_next_test_a_result_waits_for_what_shares_with_it(suite, keeper):
    suite(test_a=SHARED)
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    runner.until("want")
    assert runner.channel.silent()
    runner.channel.send("drained")
    result = runner.until("result")
    assert (result["outcome"], result["message"]) == ("failed", "error at teardown: RuntimeError: shared broke")


def test_a_next_test_that_shares_keeps_the_fixture(suite, keeper):
    suite(test_a=SHARED)
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    runner.until("want")
    runner.give("test_a.py::test_1")
    assert runner.until("result")["outcome"] == "passed"
    runner.until("want")
    runner.channel.send("drained")
    assert "shared broke" in runner.until("result")["message"]


def test_a_next_test_elsewhere_ends_the_fixture_in_the_last_test_that_used_it(suite, keeper):
    suite(test_a=SHARED, test_b="def test_2(): pass\n")
    keeper.load()
    runner = keeper.fork()
    results = runner.run("test_a.py::test_0", "test_b.py::test_2", batch=2)
    assert [result["outcome"] for result in results] == ["failed", "passed"]


def test_a_test_that_shares_nothing_waits_for_nobody(suite, keeper):
    suite(test_a=SHARED)
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_plain")
    assert [runner.next()["type"] for _ in range(3)] == ["start", "want", "result"]
    assert runner.results["test_a.py::test_plain"]["outcome"] == "passed"


def test_after_a_test_that_did_not_know_another_module_can_come(suite, keeper):
    suite(test_a=SHARED, test_b="class TestX:\n    def test_2(self): pass\n")
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    for name in ("test_a.py::test_plain", "test_b.py::TestX::test_2", "test_a.py::test_plain"):
        runner.give(name)
        assert runner.until("result")["outcome"] == "passed"


def test_a_session_fixture_lives_until_the_runner_is_drained(suite, keeper):
    suite(
        test_a="""
        import pytest
        @pytest.fixture(scope="session")
        def shared():
            yield
            raise RuntimeError("session broke")
        def test_0(shared): pass
        def test_1(): pass
        """,
        test_b="def test_2(): pass\n",
    )
    keeper.load()
    results = keeper.fork().run("test_a.py::test_0", "test_a.py::test_1", "test_b.py::test_2")
    assert [result["outcome"] for result in results] == ["passed", "passed", "failed"]
    assert "session broke" in results[2]["message"]


def test_stop_in_place_of_an_answer_tears_down_within_the_test(suite, keeper):
    suite(test_a=SHARED)
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_0")
    runner.until("want")
    runner.channel.send("stop")
    assert "shared broke" in runner.until("result")["message"]
    assert runner.next() is None
    assert runner.wait() == 0


def test_wants_are_said_once_for_each_answer(suite, keeper):
    suite(test_a=SHARED)
    keeper.load()
    runner = keeper.fork()
    runner.until("want")
    runner.give("test_a.py::test_plain", "test_a.py::test_1", "test_a.py::test_0")
    kinds = [runner.next()["type"] for _ in range(6)]
    assert kinds == ["start", "result", "start", "result", "start", "want"]
    runner.channel.send("drained")
    assert [runner.next()["type"] for _ in range(2)] == ["result", "want"]
    assert runner.channel.silent()


def test_plugins_may_look_at_the_next_item(suite, keeper):
    suite(
        conftest="""
        def pytest_runtest_teardown(item, nextitem):
            at = "the end" if nextitem is None or not nextitem else nextitem.nodeid
            print("next:", at, nextitem is not None and nextitem.module is item.module)
        """,
        test_a="def test_0(): pass\ndef test_1(): pass\n",
        test_b="def test_2(): pass\n",
    )
    names = keeper.load()
    runner = keeper.fork()
    runner.run(*names)
    assert "next: test_a.py::test_1 True" in runner.output_of(names[0])
    assert "next: test_b.py::test_2 False" in runner.output_of(names[1])
    assert "next: the end False" in runner.output_of(names[2])


def test_a_collector_with_a_teardown_of_its_own_counts_as_shared(suite, keeper):
    suite(
        conftest="""
        import pytest
        class File(pytest.File):
            def collect(self):
                yield Item.from_parent(self, name="it")
            def teardown(self):
                raise RuntimeError("file broke")
        class Item(pytest.Item):
            def runtest(self): pass
            def reportinfo(self): return self.path, 0, self.name
        def pytest_collect_file(file_path, parent):
            if file_path.suffix == ".case":
                return File.from_parent(parent, path=file_path)
        """,
        **{"one.case": ""},
    )
    names = keeper.load()
    assert names == ["one.case::it"]
    runner = keeper.fork()
    runner.until("want")
    runner.give(*names)
    runner.until("want")
    assert runner.channel.silent()
    runner.channel.send("drained")
    assert "file broke" in runner.until("result")["message"]
