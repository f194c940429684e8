"""Phrases against the picture they are about: who is shown where, by its pixels alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at

from offline.data_engine.tasks.expressions import could_be_meant
from offline.data_engine.tasks.simulated import SceneFacts, absent_phrases, free_space, phrases, seen_objects
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene

CAMERA = Camera(224, 168, 202.25, 202.25, 111.5, 83.5)


@pytest.fixture(scope="module")
def views():
    """(facts, seen, frame, rendering, pose) of some views of two rooms."""
    found = []
    for seed in (6_100_000, 6_100_001):
        scene = make_scene(seed, triangles=16_000)
        renderer = Renderer(scene)
        facts = SceneFacts.of(renderer)
        middle = np.mean([points.mean(axis=0) for points in facts.points.values()], axis=0)
        middle[2] = 1.5
        for points in facts.points.values():
            target = points.mean(axis=0)
            if np.linalg.norm((target - middle)[:2]) < 0.5:
                continue
            T = look_at(middle, target)
            rendering = renderer.render(CAMERA, T)
            found.append((facts, *seen_objects(renderer, facts, CAMERA, T, rendering), rendering, T))
    return found


def test_what_is_seen_has_pixels(views):
    for facts, seen, frame, rendering, _ in views:
        shown = set(np.unique(rendering.ids).tolist()) & set(facts.labels)
        assert {s.uid for s in seen} == shown
        for s in seen:
            assert s.area == pytest.approx((rendering.ids == s.uid).mean()) and 0 < s.fraction <= 1
        assert {o.uid for o in frame.seen} <= shown
    assert any(s.clear for _, seen, *_ in views for s in seen)
    assert not all(s.clear for _, seen, *_ in views for s in seen)


def test_who_is_leftmost_and_who_wears_a_colour(views):
    checked = {"leftmost": 0, "rightmost": 0, "color": 0}
    for facts, seen, frame, rendering, _ in views:
        for phrase in phrases(frame, facts, np.random.default_rng(0)):
            if phrase.relation not in checked:
                continue
            (uid,) = phrase.uids
            same = [s.uid for s in seen if facts.labels[s.uid] == facts.labels[uid]]
            if phrase.relation == "color":
                assert re.search(rf"\b{facts.colors[uid]} {facts.labels[uid]}\b", phrase.text)
                assert [other for other in same if facts.colors[other] == facts.colors[uid]] == [uid]
            else:
                columns = {other: np.nonzero(rendering.ids == other)[1].mean() for other in same}
                assert uid == (min if phrase.relation == "leftmost" else max)(columns, key=columns.get)
            checked[phrase.relation] += 1
    assert all(count >= 3 for count in checked.values()), checked


def test_what_is_absent_cannot_be_meant(views):
    count = 0
    for facts, seen, frame, _, _ in views:
        for phrase in absent_phrases(frame, facts, np.random.default_rng(0)):
            count += 1
            for s in seen:
                label, color = facts.labels[s.uid], facts.colors[s.uid]
                places = {
                    m.start(): own
                    for own in facts.labels.values()
                    if (m := re.search(rf"\b{re.escape(own)}\b", phrase.text))
                }
                # What is named second, to tell where the first would be, is there.
                named = [places[min(places)]] if phrase.relation.endswith("_related") else places.values()
                if any(could_be_meant(own, label) for own in named):
                    assert phrase.relation.startswith("absent_color") and f"{color} {label}" not in phrase.text
    assert count > 20


def test_free_space_is_on_what_the_phrase_names(views):
    count = 0
    for facts, _, frame, rendering, T in views:
        for phrase, (u, v) in free_space(frame, CAMERA, T, rendering, np.random.default_rng(0)):
            assert re.search(rf"\b{re.escape(facts.labels[int(rendering.ids[v, u])])}\b", phrase.text)
            count += 1
    assert count
