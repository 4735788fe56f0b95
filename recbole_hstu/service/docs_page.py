"""The schema of the service as a page that loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def docs_page(schema: Mapping[str, Any]) -> str:
    """Operations and messages of an OpenAPI schema as HTML, everything escaped."""
    environment = Environment(
        loader=PackageLoader("recbole_hstu.service", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    operations = [
        (method.upper(), path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    shown = {
        name: json.dumps(message, indent=2)
        for name, message in schema["components"]["schemas"].items()
    }
    return environment.get_template("docs.html").render(operations=operations, messages=shown)
