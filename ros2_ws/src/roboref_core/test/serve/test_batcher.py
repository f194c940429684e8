from __future__ import annotations

import threading

import pytest
from roboref_core.errors import ReferError
from roboref_core.models.vision_language_model import Prompt
from roboref_core.serve.batcher import Batcher


def test_questions_that_wait_are_answered_together_each_with_its_own_answer(make_model, spot):
    model = make_model()
    seen = []
    batcher = Batcher(max_batch=4, on_batch=lambda size, seconds: seen.append(size))
    first = batcher.submit(model, Prompt("gate", (spot(10, 10, 0, 0),)))
    while not model.batches:  # the first call is under way: the others pile up behind it
        pass
    futures = [batcher.submit(model, Prompt(f"q{i}", (spot(10, 10, i, i),))) for i in range(9)]
    model.gate.set()
    for i, future in enumerate(futures):
        generation = future.result(30)
        assert f" q{i} " in generation.text and generation.points.tolist() == [[(i + 0.5) / 10] * 2]
        assert generation.timings["queue"] >= 0
    assert first.result(30)
    batcher.close()
    assert seen == [1, 4, 4, 1]


def test_one_bad_prompt_does_not_cost_the_others_their_answers(make_model):
    model = make_model()
    batcher = Batcher(max_batch=8)
    gate = batcher.submit(model, Prompt("gate"))
    while not model.batches:
        pass
    good, bad, worse = (batcher.submit(model, Prompt(text)) for text in ("good", "fail", "explode"))
    model.gate.set()
    assert gate.result(30) and good.result(30).text == "NOT_VISIBLE"
    with pytest.raises(ReferError, match="does not like"):
        bad.result(30)
    with pytest.raises(ZeroDivisionError):
        worse.result(30)
    assert batcher.submit(model, Prompt("after")).result(30).text == "NOT_VISIBLE"
    batcher.close()


def test_a_cancelled_question_is_not_asked(make_model):
    model = make_model()
    batcher = Batcher(max_batch=1)
    batcher.submit(model, Prompt("gate"))
    while not model.batches:
        pass
    cancelled, kept = batcher.submit(model, Prompt("cancelled")), batcher.submit(model, Prompt("kept"))
    assert cancelled.cancel()
    model.gate.set()
    kept.result(30)
    batcher.close()
    assert [text for batch in model.batches for text in batch] == ["gate", "kept"]


def test_closing_answers_what_was_taken_and_takes_nothing_more(make_model):
    model = make_model(seconds=0.01)
    batcher = Batcher(max_batch=2)
    futures = [batcher.submit(model, Prompt(f"q{i}")) for i in range(7)]
    batcher.close()
    assert all(future.done() for future in futures) and not batcher.alive
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(model, Prompt("late"))


def test_many_threads_lose_nothing(make_model, spot):
    model, batcher = make_model(), Batcher(max_batch=5)
    answers = {}

    def ask(i):
        answers[i] = batcher.submit(model, Prompt(f"q{i}", (spot(20, 20, i % 20, i // 20),))).result(30)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    assert all(f" q{i} " in answers[i].text for i in range(100))


def test_a_model_that_miscounts_is_an_error_not_a_mix_up(make_model):
    model = make_model()
    model.generate_batch = lambda prompts: []
    batcher = Batcher()
    with pytest.raises(RuntimeError, match="0 answers to 1 prompts"):
        batcher.submit(model, Prompt("x")).result(30)
    batcher.close()


def test_models_share_the_thread_and_not_their_batches(make_model):
    model, other = make_model(), make_model()
    batcher = Batcher(max_batch=8)
    gate = batcher.submit(model, Prompt("gate"))
    while not model.batches:
        pass
    futures = [batcher.submit((model, other)[i % 2], Prompt(f"q{i}")) for i in range(6)]
    model.gate.set()
    assert gate.result(30) and all(future.result(30) for future in futures)
    batcher.close()
    assert model.batches[1:] == [["q0", "q2", "q4"]] and other.batches == [["q1", "q3", "q5"]]
