"""The ASGI application: one route per endpoint of each protocol; what answers them is in `answering`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from pp_jax._version import __version__
from pp_jax.service import status
from pp_jax.service.admission import Rejected
from pp_jax.service.answering import Parts, Service
from pp_jax.service.ledger import StoreError
from pp_jax.serving import wire


def application(parts: Parts, *, failed: Callable[[], None] = lambda: None) -> FastAPI:
    """The ASGI application.

    Args:
        parts: what it is made of.
        failed: called where it cannot be made ready; `app.state.service.failure` says why.
    """
    service, model = Service(parts, failed), parts.model

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        service.start()
        yield
        await service.stop()

    # No pages but our own: FastAPI's load their scripts from elsewhere.
    app = FastAPI(
        title="pp_jax", version=__version__, lifespan=lifespan, summary="A defended prediction service",
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.service = service
    known = f"/v2/models/{model.name}"

    @app.exception_handler(Rejected)
    async def rejected(request: Request, error: Rejected) -> Response:
        del request
        return JSONResponse({"error": str(error)}, error.code, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is nothing at this address: the model is {model.name!r}, and /docs lists all addresses"
        return JSONResponse({"error": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the service failed; its log says how"}, 500)

    @app.get("/v2", tags=["v2"])
    async def server() -> Any:
        """Server metadata."""
        return {"name": "pp_jax", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", tags=["v2"])
    async def live() -> Any:
        """Whether the process is there."""
        return {"live": True}

    async def is_ready() -> Response:
        """Whether the model is compiled and answers."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    async def metadata() -> Any:
        """Names, shapes and types of the model's tensors."""
        return {
            "name": model.name,
            "versions": [model.version],
            "platform": "jax",
            "inputs": [{"name": model.input, "datatype": "FP32", "shape": [-1, *model.image_shape]}],
            "outputs": [{"name": model.output, "datatype": "FP32", "shape": [-1, model.classes]}],
        }

    async def infer(request: Request) -> Response:
        """Posteriors of images, JSON or binary tensors; the posteriors may be perturbed."""
        length = request.headers.get(wire.HEADER)
        return await service.infer(
            request,
            "v2",
            lambda body: wire.parse_v2(body, length, model),
            lambda y, asked: wire.render_v2(y, asked, model),
        )

    v2: dict[str, Any] = {"tags": ["v2"], "responses": status.RESPONSES}
    for path in (known, f"{known}/versions/{model.version}"):
        app.add_api_route(path, metadata, methods=["GET"], tags=["v2"])
        app.add_api_route(f"{path}/ready", is_ready, methods=["GET"], tags=["v2"])
        app.add_api_route(f"{path}/infer", infer, methods=["POST"], openapi_extra=status.v2_body(model), **v2)
    app.add_api_route("/v2/health/ready", is_ready, methods=["GET"], tags=["v2"])
    app.add_api_route("/ping", is_ready, methods=["GET"], tags=["invocations"])

    async def predict(request: Request) -> Response:
        """Posteriors of images as nested lists of numbers in [0, 1]."""
        return await service.infer(
            request, "v1", lambda body: wire.parse_v1(body, model), lambda y, _: wire.render_v1(y)
        )

    async def invocations(request: Request) -> Response:
        """Posteriors of images as nested lists of numbers in [0, 1]."""
        return await service.infer(
            request, "invocations", lambda body: wire.parse_invocations(body, model), lambda y, _: wire.render_v1(y)
        )

    instances: dict[str, Any] = {"openapi_extra": status.v1_body(model), "responses": status.RESPONSES}
    app.add_api_route(f"/v1/models/{model.name}:predict", predict, methods=["POST"], tags=["v1"], **instances)
    app.add_api_route("/invocations", invocations, methods=["POST"], tags=["invocations"], **instances)

    @app.get(f"/v1/models/{model.name}", tags=["v1"])
    async def v1_status() -> Any:
        """Whether the model is ready, in v1's words."""
        state = "AVAILABLE" if service.ready else "LOADING"
        return {"model_version_status": [{"version": model.version, "state": state}]}

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        service.owner(request)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(status.docs(app.openapi(), model))

    @app.get("/status", include_in_schema=False)
    async def overview(request: Request) -> Response:
        service.owner(request)
        try:
            return HTMLResponse(await asyncio.to_thread(status.page, service))
        except StoreError as error:
            raise Rejected(503, "ledger", "budgets cannot be read: try again later") from error

    status.describe(app)
    del server, live, metrics, overview, v1_status, rejected, unknown, broken, docs
    return app
