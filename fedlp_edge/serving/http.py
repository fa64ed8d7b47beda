"""This module serves a model over HTTP: ``POST /v1/infer``, ``GET /health``, ``/v1/statistics``, ``/openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fedlp_edge.errors import DataError, FedLPError, OperatorError
from fedlp_edge.serving.openapi import openapi_document
from fedlp_edge.serving.served_model import MAX_REQUEST_BYTES, ServedModel
from fedlp_edge.system.loading.install_command import install_command

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

INSTALL = f"serving needs Starlette and uvicorn: {install_command('serve')}"


def make_app(model: ServedModel) -> Starlette:
    """Returns the application.

    Args:
        model: Model that answers.

    Raises:
        OperatorError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette  # noqa: PLC0415  # an extra
        from starlette.concurrency import run_in_threadpool  # noqa: PLC0415
        from starlette.responses import Response  # noqa: PLC0415
        from starlette.routing import Route  # noqa: PLC0415
    except ModuleNotFoundError:
        raise OperatorError(INSTALL) from None

    def reply(content: object, status: int = 200) -> Response:
        return Response(msgspec.json.encode(content), status, media_type="application/json")

    async def infer(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_REQUEST_BYTES:
                return reply({"error": f"the request is larger than {MAX_REQUEST_BYTES // 2**20} MiB"}, 413)
        kind = request.headers.get("content-type", "")
        try:
            return reply(await run_in_threadpool(model.answer, bytes(body), kind))
        except DataError as error:
            return reply({"error": str(error)}, 400)
        except FedLPError as error:
            return reply({"error": str(error)}, 500)

    async def health(request: Request) -> Response:
        del request
        about: dict[str, Any] = await run_in_threadpool(model.about)
        return reply({"status": "ok", **about})

    async def statistics(request: Request) -> Response:
        del request
        return reply(await run_in_threadpool(model.report))

    async def openapi(request: Request) -> Response:
        del request
        return reply(openapi_document())

    return Starlette(
        routes=[
            Route("/v1/infer", infer, methods=["POST"]),
            Route("/v1/statistics", statistics),
            Route("/health", health),
            Route("/openapi.json", openapi),
        ]
    )
