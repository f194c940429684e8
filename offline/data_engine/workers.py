"""One process for each piece of work. None of them outlives the command that started it, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Job = TypeVar("Job")

_PR_SET_PDEATHSIG = 1


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block like Ctrl-C, by KeyboardInterrupt. A signal that is ignored (nohup) stays so."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_each(
    jobs: Sequence[Job],
    target: Callable[[Job], None],
    workers: int,
    ended: Callable[[Job, int], None],
    preload: Sequence[str] = (),
) -> None:
    """Run ``target(job)`` in one process per job, at most ``workers`` at a time.

    If this process is stopped or ``ended`` raises, the workers are killed first; if it is killed, they die with it.

    Args:
        target: can be pickled.
        ended: called here after each, with the job and its exit status (negative: the signal that ended it).
        preload: modules that workers start with.
    """
    # A worker is one thread: as many run as there are cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    waiting = list(jobs)
    running: dict[Any, tuple[Any, Job]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, workers):
                job = waiting.pop(0)
                process = context.Process(target=_work, args=(target, job))
                process.start()
                running[process.sentinel] = (process, job)
            for sentinel in multiprocessing.connection.wait(list(running)):
                process, job = running.pop(sentinel)
                process.join()
                ended(job, process.exitcode)
    finally:
        for process, _ in running.values():
            process.kill()
        for process, _ in running.values():
            process.join()


def _work(target: Callable[[Job], None], job: Job) -> None:
    die_with_parent()
    target(job)


def die_with_parent() -> None:
    """Make this worker end at once when the process that started it does. Ctrl-C is that process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        # The kernel's own: it also works while a library holds the interpreter. The parent is the fork server, which
        # ends with the command.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    with contextlib.suppress(OSError):
        multiprocessing.connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
