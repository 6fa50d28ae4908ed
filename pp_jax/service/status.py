"""The pages, one for the defender and one for clients, and what the OpenAPI description says of bodies and errors."""

import html
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI

from pp_jax.service.ledger import EVERYBODY
from pp_jax.serving.wire import Model

if TYPE_CHECKING:
    from pp_jax.service.answering import Service

_ERROR = {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": _ERROR}
    for code, text in {
        400: "the request is malformed",
        401: "no valid key",
        403: "the account is blocked",
        408: "the body came too slowly",
        413: "too many images or bytes",
        415: "a compressed body",
        428: "work is asked for first",
        429: "a budget or rate is spent",
        500: "the batch failed",
        502: "the model behind failed",
        503: "not ready, or too much is waiting",
    }.items()
}
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{padding:.3rem .7rem;border-bottom:1px solid #8884;text-align:right}"
    "th:first-child,td:first-child,.text{text-align:left}.wide{overflow-x:auto}"
)


def v2_body(model: Model) -> dict[str, Any]:
    """The request body of the Open Inference Protocol, for the OpenAPI description."""
    pixels = int(np.prod(model.image_shape))
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": model.input},
            "shape": {"const": [1, *model.image_shape]},
            "datatype": {"const": "FP32"},
            "data": {
                "type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1},
                "minItems": pixels, "maxItems": pixels,
            },
        },
    }  # fmt: skip
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
        },
    }
    return _body(schema)


def v1_body(model: Model) -> dict[str, Any]:
    """The request body of v1 and `/invocations`."""
    schema: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
    for size in reversed(model.image_shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    instances = {"type": "array", "items": schema, "minItems": 1, "maxItems": model.most}
    return _body({"type": "object", "required": ["instances"], "properties": {"instances": instances}})


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "security": [{"key": []}],
    }


def page(service: "Service") -> str:
    """Accounts by score, with their budgets and bands; budgets and distances in all."""
    engine, ledger, parts = service.parts.engine, service.parts.ledger, service.parts
    states = {name: engine.state(name) for name in engine.accounts}
    order = sorted(states, key=lambda name: (int(states[name].band), float(states[name].score)), reverse=True)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{_number(states[name].score)}</td>"
        f"<td>{_action(engine.policy.actions[int(states[name].band)])}</td>"
        f"<td>{int(np.sum(states[name].answered))}</td><td>{ledger.spent(name)}</td></tr>"
        for name in order[:200]
    )
    images, spent = service.metrics.total("pp_images"), service.metrics.total("pp_l1")
    limits = parts.limits
    facts = {
        "model": f"{parts.model.name}, {parts.model.classes} classes, images {parts.model.image_shape}",
        "detector": parts.detector + (" (audit only: answers are true)" if engine.policy.audit_only else ""),
        "thresholds": ", ".join(f"{float(t):.4g}" for t in np.asarray(engine.policy.thresholds)) or "none",
        "images answered since the start": f"{images:.0f}",
        "of all accounts, in all": f"{ledger.spent(EVERYBODY)}, limit {limits.everybody or 'none'}",
        "mean L1 distance": f"{spent / images:.4f}" if images else "–",
        "accounts remembered": str(len(states)),
    }
    lines = "".join(f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return _page(
        "Defended prediction service",
        f"<div class='wide'><table>{lines}</table></div>"
        f"<h2>Accounts, the most suspicious first</h2><div class='wide'><table><tr><th>account</th><th>score</th>"
        f"<th>band</th><th>images watched</th><th>budget spent</th></tr>{rows}</table></div>",
        "<meta http-equiv='refresh' content='10'>",
    )


def docs(description: dict[str, Any], model: Model) -> str:
    """The addresses, from the OpenAPI description; needs nothing from elsewhere."""
    rows = "".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td>"
        f"<td class='text'>{html.escape(told.get('description', ''))}</td></tr>"
        for path, methods in description["paths"].items()
        for method, told in methods.items()
    )
    codes = "".join(
        f"<tr><td>{code}</td><td class='text'>{html.escape(told['description'])}</td></tr>"
        for code, told in RESPONSES.items()
    )
    return _page(
        "Addresses of this service",
        f"<p>Images of shape {model.image_shape} go in as <code>{html.escape(model.input)}</code>, posteriors over "
        f"{model.classes} classes come out as <code>{html.escape(model.output)}</code>; they may be perturbed. Every "
        "query needs the header <code>Authorization: Bearer KEY</code>. The whole description is "
        "<a href='openapi.json'>openapi.json</a>.</p>"
        f"<div class='wide'><table>{rows}</table></div><h2>What else a query may get</h2>"
        f"<div class='wide'><table>{codes}</table></div>",
    )


def describe(app: FastAPI) -> None:
    """Say in the OpenAPI description how keys are sent."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        description = plain()
        description.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return description

    app.openapi = described  # type: ignore[method-assign]


def _page(title: str, content: str, head: str = "") -> str:
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<link rel='icon' href='data:,'>{head}<title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1>{content}</html>"
    )


def _number(score: Any) -> str:
    return f"{float(score):.4g}" if np.isfinite(float(score)) else "too early"


def _action(action: Any) -> str:
    card = getattr(type(action), "card", None)
    label = getattr(card, "label", None)
    name = label if isinstance(label, str) else type(action).__name__
    return html.escape("pass" if name == "chain" else name)
