"""The model's thread, and deadlines in steady time."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref
from concurrent.futures import Future

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not in the environment: source setup/env.sh")

from roboref_core.errors import ErrorCode, ReferError
from roboref_ros.services.futures import Deadlines, complete
from roboref_ros.services.worker import Worker


@pytest.fixture
def worker():
    worker = Worker(queue_size=2)
    yield worker
    assert worker.close(10)


@pytest.fixture
def deadlines():
    deadlines = Deadlines()
    yield deadlines
    deadlines.close()


def blocked(worker):
    """A job that runs until it is released, and is running now."""
    started, release = threading.Event(), threading.Event()
    future = worker.submit(lambda waited: (started.set(), release.wait(10), "done")[-1])
    assert started.wait(10)
    return future, release


def test_jobs_run_one_after_the_other_in_one_thread(worker):
    first, release = blocked(worker)
    later = [worker.submit(lambda waited: (threading.current_thread().name, waited)) for _ in range(2)]
    assert not any(future.done() for future in later)
    time.sleep(0.02)
    release.set()
    assert first.result(10) == "done"
    results = [future.result(10) for future in later]
    assert {name for name, _ in results} == {"model"}
    assert all(waited >= 0.02 for _, waited in results), "each is told how long it waited"


def test_a_full_queue_says_so_at_once(worker):
    _, release = blocked(worker)
    waiting = [worker.submit(lambda waited: None) for _ in range(2)]
    with pytest.raises(queue.Full):
        worker.submit(lambda waited: None)
    release.set()
    for future in waiting:
        future.result(10)
    assert worker.submit(lambda waited: "again").result(10) == "again"


def test_who_has_given_up_takes_no_place(worker):
    _, release = blocked(worker)
    waiting = [worker.submit(lambda waited: None) for _ in range(2)]
    complete(waiting[0], exception=TimeoutError())
    third = worker.submit(lambda waited: 3)
    with pytest.raises(queue.Full):
        worker.submit(lambda waited: None)
    release.set()
    assert third.result(10) == 3


def test_an_exception_belongs_to_its_job(worker):
    def fail(waited):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        worker.submit(fail).result(10)
    assert worker.submit(lambda waited: 1).result(10) == 1


def test_a_job_whose_deadline_came_is_passed_over(worker, deadlines):
    _, release = blocked(worker)
    ran = []
    late = worker.submit(ran.append)
    deadlines.watch(late, time.monotonic() + 0.01, "too late")
    with pytest.raises(TimeoutError, match="too late"):
        late.result(10)
    release.set()
    worker.submit(lambda waited: None).result(10)
    assert not ran


def test_a_deadline_comes_while_the_job_runs(worker, deadlines):
    running, release = blocked(worker)
    deadlines.watch(running, time.monotonic() + 0.01, "too late")
    with pytest.raises(TimeoutError):
        running.result(10)
    release.set()
    assert worker.submit(lambda waited: 2).result(10) == 2, "its own result, later, disturbs nothing"


def test_deadlines_come_in_their_order_whatever_the_order_of_watching(deadlines):
    failed = []
    futures = [Future() for _ in range(4)]
    start = time.monotonic()
    for number in (3, 1, 2, 0):
        futures[number].add_done_callback(lambda _, number=number: failed.append(number))
        deadlines.watch(futures[number], start + 0.02 * (number + 1), str(number))
    complete(futures[2], "in time")
    for number in (0, 1, 3):
        with pytest.raises(TimeoutError, match=str(number)):
            futures[number].result(10)
    assert futures[2].result() == "in time"
    assert failed == [2, 0, 1, 3]


def test_closing_fails_what_is_watched():
    deadlines, future = Deadlines(), Future()
    deadlines.watch(future, time.monotonic() + 1000, "closed")
    deadlines.close()
    with pytest.raises(TimeoutError):
        future.result(0)


def test_a_result_does_not_live_until_its_deadline(deadlines):
    """It may hold images, and there may be many questions within one timeout."""

    class Picture:
        pass

    future = Future()
    deadlines.watch(future, time.monotonic() + 1000, "never")
    complete(future, Picture())
    picture = weakref.ref(future.result())
    del future
    gc.collect()
    assert picture() is None
    assert len(deadlines) == 0


def test_a_future_has_one_outcome():
    future = Future()
    assert complete(future, 1)
    assert not complete(future, 2) and not complete(future, exception=ValueError())
    assert future.result() == 1


def test_closing_fails_the_waiting_jobs_and_the_running_one():
    worker = Worker(queue_size=1)
    running, release = blocked(worker)
    waiting = worker.submit(lambda waited: None)
    assert not worker.close(0.01), "the running job is not interrupted"
    release.set()
    assert worker.close(10)
    for future in (running, waiting):
        with pytest.raises(ReferError) as refused:
            future.result(0)
        assert refused.value.code == ErrorCode.CANCELED
    with pytest.raises(ReferError) as refused:
        worker.submit(lambda waited: None)
    assert refused.value.code == ErrorCode.NOT_ACTIVE
