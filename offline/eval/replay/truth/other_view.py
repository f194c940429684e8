"""A question whose answer is about another view than the one that it was meant for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from roboref_core.views.visibility import Visibility

from offline.eval.records.replays import Question
from offline.eval.replay.truth.questions import truth_at
from offline.eval.replay.truth.truth import GroundTruthScene
from offline.eval.replay.truth.words import named_truth


def at_view(scene: GroundTruthScene, question: Question, query: int) -> Question:
    """The same question, asked for in the frame at position ``query``, with what is true there.

    Words alone name a thing in one view. In another one the truth is decidable as long as the thing is in sight;
    whether a phrase is still true of nothing, or of another thing, is not.
    """
    if question.mark is not None:
        truth, fate = truth_at(scene, question, query)
        return replace(question, query=query, truth=truth, fate=fate)
    if query == question.query:
        return question
    if question.object_id and np.any(scene.ids(query) == question.object_id):
        return replace(question, query=query, truth=named_truth(scene, query, question.object_id))
    gone = replace(question.truth, visibility=Visibility.OUT_OF_FRUSTUM, decidable=False, point=None, pixel=None)
    return replace(question, query=query, truth=replace(gone, in_camera=None))
