"""The HTTP server: RoboRefer's published API, the typed one, health and metrics. No authentication: see ``cli``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.vision_language_model import Generation, Prompt, VisionLanguageModel
from roboref_core.serve.batcher import Batcher
from roboref_core.serve.images import ImageRefused, decode_images
from roboref_core.serve.metrics import Metrics
from roboref_core.serve.schema import ErrorReply, HealthReply, QueryReply, QueryRequest, ReferReply, ReferRequest

_STATUS = {ErrorCode.INVALID_QUERY: 422, ErrorCode.BUSY: 503, ErrorCode.OUT_OF_MEMORY: 503, ErrorCode.TIMEOUT: 504}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply} for status in (400, 408, 413, 422, 500, 503, 504)
}
Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may cost.

    Attributes:
        max_body_bytes: largest body of a request [byte].
        max_images: in one request, colour and depth each.
        max_pixels: most pixels of all colour images of one request, and of all depth pictures; read from their headers.
        max_text_chars: longest prompt [character].
        max_in_flight: requests waiting or being answered; one more gets 503. Bodies that still arrive do not count, so
            that slow senders keep nobody else waiting.
        max_readers: requests whose bodies are arriving; for one more, the one that takes longest is given up.
        header_timeout: for a request's headers to arrive [s].
        body_timeout: for a request's body to arrive [s].
        answer_timeout: for the model to answer, waiting included [s].
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_images: int = 10
    max_pixels: int = 16_000_000
    max_text_chars: int = 20_000
    max_in_flight: int = 32
    max_readers: int = 64
    header_timeout: float = 10.0
    body_timeout: float = 20.0
    answer_timeout: float = 120.0


class Refused(Exception):
    """A request that is not answered; ``status`` and the text go to the client."""

    def __init__(self, status: int, message: str, code: int = 0):
        super().__init__(message)
        self.status, self.code = status, code


def create_app(
    vlm: VisionLanguageModel,
    limits: Limits | None = None,
    max_batch: int = 8,
    estimate_depth: Callable[[np.ndarray], np.ndarray] | None = None,
    text_vlm: VisionLanguageModel | None = None,
) -> FastAPI:
    """A server of one model. One thread owns it; concurrent questions are answered in batches of up to ``max_batch``.

    Args:
        vlm: answers the typed API.
        estimate_depth: makes the depth picture of a colour image, for published-API questions with
            enable_depth = 1 and no depth_url. Without it they are answered from colour alone, and counted.
        text_vlm: answers the published API, whose askers expect free text; None: ``vlm`` does.
    """
    server = _Server(vlm, text_vlm or vlm, limits or Limits(), max_batch, estimate_depth)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.batcher.close)

    app = FastAPI(title="roboref", lifespan=lifespan)

    def body_of(model: type[BaseModel]) -> dict[str, Any]:
        schema = model.model_json_schema()
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    @app.post("/query", response_model=QueryReply, responses=_ERRORS, openapi_extra=body_of(QueryRequest))
    async def query(request: Request) -> Response:
        """RoboRefer's published API."""
        return await server.respond("/query", request, QueryRequest, server.query)

    @app.post("/v1/refer", response_model=ReferReply, responses=_ERRORS, openapi_extra=body_of(ReferRequest))
    async def refer(request: Request) -> Response:
        """A prompt with pictures; points, probability and covariance come back."""
        return await server.respond("/v1/refer", request, ReferRequest, server.refer)

    @app.get("/", response_class=PlainTextResponse)
    async def hello() -> str:
        """The published server's sign of life."""
        return "Hello, World!"

    @app.get("/healthz", response_model=HealthReply, responses={503: {"model": HealthReply}})
    async def health() -> Response:
        """200 while the model's thread is alive."""
        alive = server.batcher.alive
        status = "ok" if alive else "the model's thread died"
        reply = HealthReply(status=status, model=vlm.name, uses_depth=vlm.uses_depth)
        return JSONResponse(reply.model_dump(), status_code=200 if alive else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    return app


class _Server:
    def __init__(
        self,
        vlm: VisionLanguageModel,
        text_vlm: VisionLanguageModel,
        limits: Limits,
        max_batch: int,
        estimate_depth: Callable[[np.ndarray], np.ndarray] | None,
    ):
        self.vlm, self.text_vlm, self.limits, self.estimate_depth = vlm, text_vlm, limits, estimate_depth
        self.metrics = Metrics()
        self.batcher = Batcher(max_batch, on_batch=self.metrics.batch)
        self.in_flight = 0
        self.readers: list[asyncio.Timeout] = []
        self.estimating = threading.Lock()

    async def respond(
        self,
        endpoint: str,
        request: Request,
        body_type: type[Body],
        answer: Callable[[Body], Awaitable[BaseModel]],
    ) -> Response:
        """Admit, read, answer; every failure becomes a status and a text."""
        start = time.perf_counter()
        try:
            reply = await self._admitted(request, body_type, answer)
            response = JSONResponse(reply.model_dump())
        except Refused as refusal:
            error = ErrorReply(detail=str(refusal), code=refusal.code)
            headers = {"Retry-After": "1"} if refusal.status == 503 else None
            response = JSONResponse(error.model_dump(), status_code=refusal.status, headers=headers)
        self.metrics.requests.labels(endpoint, response.status_code).inc()
        self.metrics.latency.labels(endpoint).observe(time.perf_counter() - start)
        return response

    async def _admitted(
        self, request: Request, body_type: type[Body], answer: Callable[[Body], Awaitable[BaseModel]]
    ) -> BaseModel:
        if self.in_flight >= self.limits.max_in_flight:
            await self._discard(request)
            raise self._full()
        body = await self._body(request, body_type)
        # Others may have been admitted while this body arrived.
        if self.in_flight >= self.limits.max_in_flight:
            raise self._full()
        self.in_flight += 1
        self.metrics.in_flight.set(self.in_flight)
        try:
            return await answer(body)
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.set(self.in_flight)

    def _full(self) -> Refused:
        return Refused(503, f"{self.in_flight} requests are in flight, no more are taken", ErrorCode.BUSY)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        """At most ``max_readers`` at once, so that memory is bounded; each of them for ``body_timeout``."""
        if len(self.readers) >= self.limits.max_readers:
            longest = self.readers.pop(0)
            longest.reschedule(asyncio.get_running_loop().time())
        async with asyncio.timeout(self.limits.body_timeout) as reader:
            self.readers.append(reader)
            try:
                yield
            finally:
                if reader in self.readers:
                    self.readers.remove(reader)

    async def _body(self, request: Request, body_type: type[Body]) -> Body:
        declared = request.headers.get("content-length", "")
        limit = self.limits.max_body_bytes
        body = bytearray()
        complete = False
        try:
            async with self._reading():
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit or (declared.isdigit() and int(declared) > limit):
                        break
                else:
                    complete = True
            if complete:
                return await asyncio.to_thread(_validated, body_type, body)
        except ClientDisconnect as error:
            raise Refused(400, f"the body ended after {len(body)} of {declared or 'unknown'} bytes") from error
        except TimeoutError as error:
            raise Refused(
                408,
                f"the body did not arrive within {self.limits.body_timeout:g} s, or {self.limits.max_readers} others "
                "began to arrive after it",
            ) from error
        body.clear()
        await self._discard(request)
        raise Refused(413, f"the body is larger than {limit} bytes")

    async def _discard(self, request: Request) -> None:
        """Read what the client still sends, for a while: it reads the answer only after it has sent all."""
        try:
            async with asyncio.timeout(self.limits.body_timeout):
                async for _ in request.stream():
                    pass
        except (ClientDisconnect, TimeoutError, RuntimeError):
            pass

    async def query(self, body: QueryRequest) -> QueryReply:
        depths = body.depth_url if body.enable_depth == 1 else []
        prompt = await asyncio.to_thread(self._prompt, body.text, body.image_url, depths, body.enable_depth == 1)
        return QueryReply(answer=(await self._generate(self.text_vlm, prompt)).text)

    async def refer(self, body: ReferRequest) -> ReferReply:
        start = time.perf_counter()
        if body.depths and not self.vlm.uses_depth:
            raise Refused(422, f"{len(body.depths)} depth pictures, but {self.vlm.name} takes none")
        prompt = await asyncio.to_thread(self._prompt, body.text, body.images, body.depths, False)
        decoded = time.perf_counter() - start
        return _reply(await self._generate(self.vlm, prompt), self.vlm.name, decoded)

    def _prompt(self, text: str, images: list[str], depths: list[str], wants_depth: bool) -> Prompt:
        limits = self.limits
        if len(text) > limits.max_text_chars:
            raise Refused(422, f"the text has {len(text)} characters, at most {limits.max_text_chars} are taken")
        if len(images) > limits.max_images:
            raise Refused(422, f"{len(images)} images, at most {limits.max_images} are taken")
        if depths and len(depths) != len(images):
            raise Refused(422, f"{len(images)} images but {len(depths)} depth pictures")
        try:
            colours = decode_images(images, "images", limits.max_pixels)
            pictures = decode_images(depths, "depths", limits.max_pixels, depth=True)
        except ImageRefused as error:
            raise Refused(422, str(error)) from error
        if wants_depth and not pictures and self.vlm.uses_depth:
            if self.estimate_depth is None:
                self.metrics.without_depth.inc()
            else:
                with self.estimating:
                    pictures = [self.estimate_depth(image) for image in colours]
        return Prompt(text, tuple(colours), tuple(pictures) if self.vlm.uses_depth else ())

    async def _generate(self, vlm: VisionLanguageModel, prompt: Prompt) -> Generation:
        try:
            future = self.batcher.submit(vlm, prompt)
        except RuntimeError as error:
            raise Refused(503, str(error)) from error
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.answer_timeout)
        except TimeoutError as error:
            message = f"the model did not answer within {self.limits.answer_timeout:g} s"
            raise Refused(504, message, ErrorCode.TIMEOUT) from error
        except ReferError as error:
            raise Refused(_STATUS.get(error.code, 500), str(error), error.code) from error
        except Exception as error:  # a model's own failure is its asker's to know, with status 500
            raise Refused(500, f"{type(error).__name__}: {error}", ErrorCode.INFERENCE_FAILED) from error


def _validated(body_type: type[Body], body: bytearray) -> Body:
    try:
        return body_type.model_validate_json(bytes(body))
    except ValidationError as error:
        # Without the input, which may be megabytes of base64.
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        malformed = any(problem["type"] == "json_invalid" for problem in problems)
        text = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in problems[:5])
        raise Refused(400 if malformed else 422, text) from error


def _reply(generation: Generation, model: str, decoded: float) -> ReferReply:
    covariance, scores = generation.point_covariance, generation.scores
    return ReferReply(
        model=model,
        answer=generation.text,
        visible=generation.outcome.as_json,
        reason=generation.reason,
        points=generation.points.tolist(),
        point_covariance=None if covariance is None else np.asarray(covariance).tolist(),
        scores=None if scores is None else np.asarray(scores).tolist(),
        p_visible=generation.p_visible,
        p_visible_calibrated=generation.p_visible_calibrated,
        timings={**generation.timings, "decode": decoded},
    )
