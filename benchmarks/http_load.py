"""HTTP server under load: 8 clients on loopback; errors, lost requests, wrong answers, memory, latency.

The server runs as `roboref serve` in a process of its own; every answer is compared with the one that the same
checkpoint gives to the same question in this process. Baseline: that model called one question after the other.
Bad bodies are mixed in and must be refused with 4xx. Exit status 1 if anything fails.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import tyro
from roboref_core.models.http.encoding import png_base64
from roboref_core.models.registry import load_vlm
from roboref_core.models.vision_language_model import Prompt
from roboref_core.prompting.prompt import correspondence, referring

TINY = Path(__file__).parents[1] / "ros2_ws/src/roboref_core/test/roborefer/fixtures/ckpt_rgbd_3x3"
BAD_BODIES = {
    b"{": 400,
    b"\x00" * 1000: 400,
    b'{"images": 1}': 422,
    b'{"text": "x", "images": ["AAAA"]}': 422,
    b" " * 1_100_000: 413,
}


@dataclass(frozen=True)
class LoadConfig:
    """8 clients ask a server on loopback for a while."""

    path: Path = TINY
    """RoboRefer checkpoint."""
    clients: int = 8
    """Clients, each with one question under way."""
    seconds: float = 120.0
    """Duration of the load."""
    questions: int = 12
    """Different questions."""
    memory_growth: float = 0.05
    """Largest growth of the server's memory from the second quarter of the run to the last, as a fraction."""


@dataclass
class Tally:
    """What the clients saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    refused_as_they_should: int = 0
    failures: list[str] = field(default_factory=list)


def make_questions(count: int) -> list[Prompt]:
    rng = np.random.default_rng(0)
    questions = []
    for index in range(count):
        images = tuple(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(1 + index % 2))
        text = correspondence() if len(images) == 2 else referring(f"thing number {index}")
        questions.append(Prompt(text, images, images if index % 3 == 0 else ()))
    return questions


def client(url: str, number: int, bodies: list[bytes], truth: list[str], stop: float, tally: Tally):
    """Ask until time is up; every 20th request is a bad one."""
    bad = list(BAD_BODIES.items())
    with httpx.Client(base_url=url, timeout=60) as http:
        turn = number
        while time.monotonic() < stop:
            turn += 1
            index = turn % len(bodies)
            wrong, expected = bad[turn // 20 % len(bad)] if turn % 20 == 0 else (None, 200)
            start = time.perf_counter()
            with tally.lock:
                tally.sent += 1
            try:
                reply = http.post("/v1/refer", content=wrong or bodies[index])
                answer = reply.json().get("answer")
            except (httpx.HTTPError, ValueError) as error:
                with tally.lock:
                    tally.failures.append(f"{type(error).__name__}: {error}")
                continue
            with tally.lock:
                if reply.status_code != expected:
                    tally.failures.append(f"expected status {expected}, found {reply.status_code}: {reply.text[:200]}")
                elif wrong is not None:
                    tally.refused_as_they_should += 1
                elif answer != truth[index]:
                    tally.failures.append(f"question {index}: expected {truth[index]!r}, found {answer!r}")
                else:
                    tally.latencies.append(time.perf_counter() - start)


def start_server(config: LoadConfig) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "offline.cli", "serve", "--path", str(config.path), "--device", "cpu"]
    command += ["--dtype", "float32", "--port", str(port), "--limits.max-body-bytes", "1000000"]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(url + "/healthz").status_code == 200:
                return process, url
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"the server did not start: {' '.join(command)}")
        time.sleep(0.1)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(argv: list[str] | None = None) -> int:
    config = tyro.cli(LoadConfig, args=argv)
    questions = make_questions(config.questions)
    model = load_vlm("roborefer", str(config.path), device="cpu", dtype="float32")
    truth = [model.generate(question).text for question in questions]
    start = time.perf_counter()
    for question in questions:
        model.generate(question)
    direct = len(questions) / (time.perf_counter() - start)

    bodies = [
        json.dumps(
            {
                "text": question.text,
                "images": [png_base64(image) for image in question.images],
                "depths": [png_base64(depth) for depth in question.depths],
            }
        ).encode()
        for question in questions
    ]
    process, url = start_server(config)
    try:
        tally, memory = Tally(), []
        begun = time.monotonic()
        threads = [
            threading.Thread(
                target=client, args=(url, number, bodies, truth, begun + config.seconds, tally), daemon=True
            )
            for number in range(config.clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(resident_bytes(process.pid))
            time.sleep(0.25)
        elapsed = time.monotonic() - begun
        metrics = httpx.get(url + "/metrics").text
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    finally:
        process.kill()
    return report(config, tally, memory, elapsed, direct, metrics, status)


def report(config: LoadConfig, tally: Tally, memory: list[int], elapsed, direct, metrics: str, status: int) -> int:
    answered = len(tally.latencies)
    lost = tally.sent - answered - tally.refused_as_they_should - len(tally.failures)
    quarter = max(1, len(memory) // 4)
    early, late = (statistics.median(part) for part in (memory[quarter : 2 * quarter] or memory, memory[-quarter:]))
    growth = late / early - 1
    p50, p95, p99 = np.percentile(tally.latencies or [np.nan], (50, 95, 99)) * 1e3
    counted = {line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if not line.startswith("#")}
    mean_batch = counted["roboref_batch_size_sum"] / max(1.0, counted["roboref_batch_size_count"])
    print(f"{config.clients} clients, {elapsed:.0f} s, {os.cpu_count()} cores, checkpoint {config.path.name}")
    print(f"sent {tally.sent}, answered {answered}, bad bodies refused {tally.refused_as_they_should}, ", end="")
    print(f"failed {len(tally.failures)}, lost {lost}")
    print(f"latency p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms; {mean_batch:.1f} questions a batch")
    rate = answered / elapsed
    print(f"{rate:.1f} answers/s served, {direct:.1f} by the model called directly: ratio {rate / direct:.2f}")
    early, late = early / 2**20, late / 2**20
    print(f"server memory {early:.0f} MiB in the second quarter, {late:.0f} in the last ({growth:+.1%})")
    for failure in tally.failures[:5]:
        print("failure:", failure)
    good = not tally.failures and not lost and answered > 0 and growth <= config.memory_growth
    if status not in (0, -signal.SIGTERM):
        print(f"the server ended with status {status}")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
