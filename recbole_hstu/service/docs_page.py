"""The schema of the service as a page that loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recbole_hstu.support.templates import templates


def docs_page(schema: Mapping[str, Any]) -> str:
    """Operations and messages of an OpenAPI schema as HTML, everything escaped."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    shown = {
        name: json.dumps(message, indent=2)
        for name, message in schema["components"]["schemas"].items()
    }
    page = templates("recbole_hstu.service", "page").get_template("docs.html")
    return page.render(operations=operations, messages=shown)
