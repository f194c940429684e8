from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at
from roboref_core.views.view import LazyImage, View
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
DEPTH = np.full((48, 64), 2.0, np.float32)


def view(buffer, seconds, T=None, color=None, **fields):
    color = np.zeros((48, 64, 3), np.uint8) if color is None else color
    fields = {"camera": CAMERA, "depth": DEPTH, "T_world_camera": T} | fields
    return View(view_id=buffer.next_id(), stamp_ns=int(seconds * SECOND), color=color, **fields)


def looking(angle, eye=(0.0, 0.0, 1.0)):
    return look_at(eye, (eye[0] + np.cos(angle), eye[1] + np.sin(angle), eye[2]))


def moving(**config):
    return ViewBuffer(ViewBufferConfig(**({"sharpness_window": 1, "min_interval": 0.0} | config)))


def test_newest_is_always_there_and_keyframes_need_motion():
    buffer = moving()
    first = view(buffer, 0.0, looking(0.0))
    buffer.add(first)
    for i in range(1, 20):
        buffer.add(view(buffer, i / 30, looking(0.001 * i)))
    assert buffer.newest().stamp_ns == int(19 / 30 * SECOND)
    assert [v.view_id for v in buffer.views()] == [buffer.newest().view_id, first.view_id]
    turned = view(buffer, 0.7, looking(0.5))
    buffer.add(turned)
    buffer.add(view(buffer, 0.8, looking(0.5)))
    assert buffer.get(turned.view_id) is turned


def test_time_alone_asks_for_a_keyframe_and_interval_forbids_it():
    buffer = moving(min_interval=1.0, max_interval=5.0)
    buffer.add(view(buffer, 0.0, looking(0.0)))
    buffer.add(view(buffer, 0.5, looking(2.0)))
    buffer.add(view(buffer, 0.6, looking(2.0)))
    assert len(buffer) == 2
    buffer.add(view(buffer, 6.0, looking(0.0)))
    buffer.add(view(buffer, 6.1, looking(0.0)))
    assert len(buffer) == 3


def test_the_sharpest_of_the_window_becomes_the_keyframe():
    buffer = moving(sharpness_window=3)
    buffer.add(view(buffer, 0.0, looking(0.0)))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
    views = [
        view(buffer, 1.0 + i / 30, looking(1.0), color=(noise * s).astype(np.uint8))
        for i, s in enumerate((0.2, 0.9, 0.5))
    ]
    for v in views:
        buffer.add(v)
    buffer.add(view(buffer, 1.2, looking(1.0)))
    assert buffer.get(views[1].view_id) is views[1]
    assert buffer.get(views[0].view_id) is None


def test_eviction_keeps_coverage_not_youth():
    """A corner seen once survives any number of later views of the same wall."""
    buffer = moving(max_views=6)
    corner = view(buffer, 0.0, looking(np.pi))
    buffer.add(corner)
    for i in range(30):
        buffer.add(view(buffer, 1.0 + i, looking(0.0, eye=(0.0, 0.05 * (i % 5) + 0.3 * (i % 2), 1.0))))
    assert buffer.get(corner.view_id) is corner
    assert len(buffer) <= 7


def test_bytes_are_bounded_and_pinned_views_survive():
    size = 48 * 64 * 3 + 48 * 64 * 4
    buffer = moving(max_bytes=5 * size, max_views=50)
    pinned = view(buffer, 0.0, looking(0.0), depth=DEPTH.copy())
    buffer.add(pinned)
    buffer.pin(pinned.view_id)
    for i in range(1, 20):
        buffer.add(view(buffer, i, looking(0.3 * i), depth=DEPTH.copy()))
        assert buffer.nbytes <= 5 * size
    assert buffer.get(pinned.view_id) is pinned
    assert buffer.is_pinned(pinned.view_id)
    assert buffer.release() == 1
    assert buffer.release([pinned.view_id]) == 0


def test_pinning_everything_is_refused():
    buffer = moving(max_views=3)
    ids = []
    for i in range(3):
        v = view(buffer, i, looking(i))
        buffer.add(v)
        ids.append(v.view_id)
    buffer.pin(ids[0])
    buffer.pin(ids[1])
    with pytest.raises(ValueError, match="2 of 3 views are pinned"):
        buffer.pin(ids[2])
    with pytest.raises(ValueError, match="unknown view 'nowhere'"):
        buffer.pin("nowhere")


def test_views_that_were_spoken_of_stay_a_while_and_evict_no_keyframe():
    buffer = moving(max_views=3, max_kept=2, min_interval=100.0, max_interval=1000.0)
    first = view(buffer, 0.0, looking(0.0))
    buffer.add(first)
    spoken = [view(buffer, 1 + i, looking(0.1 * i)) for i in range(4)]
    for v in spoken:
        buffer.add(v)
        buffer.keep(v)
    buffer.add(view(buffer, 9.0, looking(0.0)))
    assert [buffer.get(v.view_id) for v in spoken] == [None, None, spoken[2], spoken[3]]
    assert buffer.get(first.view_id) is first
    buffer.keep(spoken[2])  # spoken of again: it outlives the other
    buffer.keep(spoken[0])
    assert buffer.get(spoken[2].view_id) is spoken[2]
    assert buffer.get(spoken[3].view_id) is None
    buffer.clear()
    assert len(buffer) == 0


def test_clearing_keeps_pinned_views_and_ids_stay_unique():
    buffer = moving()
    old, pinned = view(buffer, 100.0, looking(0.0)), view(buffer, 101.0, looking(1.0))
    for v in (old, pinned):
        buffer.add(v)
    buffer.pin(pinned.view_id)
    late = view(buffer, 100.5, looking(1.0))
    buffer.add(late)
    assert buffer.newest() is pinned
    assert buffer.clear() == 1
    assert buffer.newest() is None and buffer.get(old.view_id) is None
    assert buffer.get(pinned.view_id) is pinned and buffer.is_pinned(pinned.view_id)
    restarted = view(buffer, 3.0, looking(0.0))
    buffer.add(restarted)
    assert buffer.newest() is restarted
    assert buffer.release() == 1
    assert len({ViewBuffer().next_id() for _ in range(50)}) == 50


def test_pinned_views_fit_into_the_bytes():
    def undecoded(shape, dtype):
        return LazyImage(lambda: np.zeros(shape, dtype), 1000)

    size = 48 * 64 * (3 + 4) + 2 * 1000
    buffer = moving(max_bytes=3 * size + 1, max_views=50)
    views = [
        view(buffer, i, color=undecoded((48, 64, 3), np.uint8), depth=undecoded((48, 64), np.float32)) for i in range(4)
    ]
    for v in views[:3]:
        buffer.add(v)
        buffer.pin(v.view_id)
    buffer.add(views[3])
    with pytest.raises(ValueError, match="release some first"):
        buffer.pin(views[3].view_id)


def test_views_of_two_world_frames_do_not_cover_each_other(room, poses):
    buffer = moving(max_interval=0.5)
    one = room.view(poses[0], view_id="one", stamp_ns=0)
    other = room.view(poses[0], view_id="other", stamp_ns=SECOND // 100, world_frame="odom2")
    again = room.view(poses[0], view_id="again", stamp_ns=2 * SECOND)
    for v in (one, other, again):
        buffer.add(v)
    assert buffer.get("other") is other, "motion between two frames is unknown: a keyframe"
    assert {v.view_id for v, _ in buffer.views_overlapping(one)} == {"again"}
    assert buffer.views_overlapping(other) == []


def test_covisibility_of_views(room, poses):
    buffer = moving(max_interval=0.5)
    views = [room.view(T, view_id=buffer.next_id(), stamp_ns=i * SECOND) for i, T in enumerate(poses)]
    for v in views:
        buffer.add(v)
    overlapping = dict((v.view_id, share) for v, share in buffer.views_overlapping(views[0]))
    assert views[0].view_id not in overlapping
    assert overlapping[views[1].view_id] > overlapping.get(views[8].view_id, 0.0)


def test_unposed_views_go_first():
    buffer = moving(max_views=3, max_interval=0.5)
    unposed = view(buffer, 0.0)
    buffer.add(unposed)
    posed = [view(buffer, 1 + i, looking(2 * i)) for i in range(4)]
    for v in posed[:3]:
        buffer.add(v)
    assert buffer.get(unposed.view_id) is None


def test_broken_images_do_not_break_the_buffer():
    def fail():
        raise ValueError("frame 7: not a JPEG")

    buffer = moving(sharpness_window=2, max_interval=0.1)
    for i in range(6):
        buffer.add(view(buffer, i, looking(i), color=LazyImage(fail, 10), depth=LazyImage(fail, 10)))
    assert len(buffer) >= 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "pin", "release", "keep", "jump"]), st.integers(0, 30)), max_size=60))
def test_bounds_hold_whatever_happens(operations):
    buffer = moving(max_views=4, max_bytes=200_000, max_kept=2)
    clock, seen = 0.0, []
    for operation, n in operations:
        if operation in ("add", "jump"):
            clock = clock + 0.5 if operation == "add" else 0.0
            if operation == "jump":
                buffer.clear()
            v = view(buffer, clock, looking(0.4 * n) if n % 3 else None)
            buffer.add(v)
            seen.append(v)
        elif seen and operation == "pin":
            try:
                buffer.pin(seen[n % len(seen)].view_id)
            except ValueError:
                pass
        elif seen and operation == "keep":
            buffer.keep(seen[n % len(seen)])
        else:
            buffer.release()
        pinned = [v for v in buffer.views() if buffer.is_pinned(v.view_id)]
        assert len(buffer) <= 4 + 2 + 1
        assert len(pinned) <= 3
    ids = [v.view_id for v in seen]
    assert len(ids) == len(set(ids))


def test_concurrent_use():
    buffer = moving(max_views=5)
    failures = []

    def work(seed):
        try:
            rng = np.random.default_rng(seed)
            for i in range(100):
                buffer.add(view(buffer, i / 10, looking(rng.uniform(0, 6))))
                for v in buffer.views():
                    buffer.get(v.view_id)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def test_lazy_images_decode_once_and_are_counted():
    calls = []

    def decode():
        calls.append(1)
        return np.ones((48, 64, 3), np.uint8)

    buffer = ViewBuffer()
    v = view(buffer, 0.0, color=LazyImage(decode, nbytes=100), depth=None)
    assert v.nbytes == 100
    assert calls == []
    assert v.color is not None and v.color.shape == (48, 64, 3)
    assert calls == [1]
    assert v.nbytes == 100 + 48 * 64 * 3
    raw = np.ones((48, 64, 3), np.uint8).tobytes()
    shared = LazyImage(lambda: np.frombuffer(raw, np.uint8).reshape(48, 64, 3), nbytes=len(raw))
    shared.read()
    assert shared.nbytes == len(raw)


def test_without_poses_time_makes_keyframes():
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1))
    views = [view(buffer, seconds) for seconds in (0.0, 0.5, 1.0, 1.5, 2.0)]
    for each in views:
        buffer.add(each)
    assert [each.view_id for each in views if buffer.get(each.view_id)] == [views[i].view_id for i in (0, 2, 4)]
