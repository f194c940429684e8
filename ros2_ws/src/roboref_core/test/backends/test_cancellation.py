"""Who waits no longer ends a remote request that hangs, and a generation between two of its tokens."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.cancellation import Cancellation
from roboref_core.models.http.openai_compatible import OpenAICompatible
from roboref_core.models.http.remote import RemoteServer
from roboref_core.models.http.roborefer_http import RoboReferHTTP
from roboref_core.models.vision_language_model import Prompt, check_waiting


def test_it_is_set_once_and_calls_those_who_run():
    cancellation, called = Cancellation(), []
    cancellation.check()
    with cancellation.calling(lambda: called.append("gone")):
        pass
    with cancellation.calling(lambda: called.append("runs")):
        cancellation.cancel()
        cancellation.cancel()
    with cancellation.calling(lambda: called.append("late")):
        pass
    assert called == ["runs", "late"]
    with pytest.raises(ReferError) as error:
        cancellation.check()
    assert error.value.code is ErrorCode.CANCELED


@pytest.fixture
def hanging():
    """URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "ask",
    [
        lambda url, prompt: RemoteServer(url).get("/", cancellation=prompt.cancellation),
        lambda url, prompt: RoboReferHTTP(url).generate(prompt),
        lambda url, prompt: OpenAICompatible(url, model="any", convention="thousand").generate(prompt),
    ],
    ids=["get", "roborefer_http", "openai"],
)
def test_a_server_that_hangs(hanging, ask):
    cancellation, ended = Cancellation(), []

    def run():
        try:
            ask(hanging, Prompt("Where?", cancellation=cancellation))
        except ReferError as error:
            ended.append(error.code)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    cancellation.cancel()
    thread.join(10)
    assert ended == [ErrorCode.CANCELED]


def test_a_batch_goes_on_as_long_as_somebody_waits():
    gone, here = Cancellation(), Cancellation()
    gone.cancel()
    prompts = [Prompt("a", cancellation=gone), Prompt("b", cancellation=here), Prompt("c")]
    check_waiting(prompts)
    check_waiting([])
    with pytest.raises(ReferError) as error:
        check_waiting(prompts[:1])
    assert error.value.code is ErrorCode.CANCELED
    with pytest.raises(ReferError) as error:
        check_waiting([Prompt("d", deadline=time.monotonic() - 1)])
    assert error.value.code is ErrorCode.TIMEOUT


def test_transformers_stops_between_two_tokens(llava_onevision):
    from roboref_core.models.hugging_face import HuggingFaceModel
    from roboref_core.prompting.conventions import Convention

    model = HuggingFaceModel(llava_onevision, Convention.NORMALISED, device="cpu", max_new_tokens=50)
    cancellation, passes = Cancellation(), []

    def on_pass(*_):
        passes.append(1)
        if len(passes) == 3:
            cancellation.cancel()

    model._model.register_forward_hook(on_pass)
    with pytest.raises(ReferError) as error:
        model.generate(Prompt("Where?", cancellation=cancellation))
    assert error.value.code is ErrorCode.CANCELED and len(passes) == 3
    assert model.generate(Prompt("Where?")).text is not None
