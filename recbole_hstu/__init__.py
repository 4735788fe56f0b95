"""HSTU, HSTU-BLaIR and HSTU-OpenAI as RecBole models, judged by one protocol."""

import warnings
from typing import Any

__version__ = "0.1.0"
__all__ = ["Recommender"]

# RecBole calls what newer releases of torch and pandas announce the end of.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")


def __getattr__(name: str) -> Any:
    """`Recommender`, imported when it is asked for: it brings torch and RecBole."""
    if name == "Recommender":
        from recbole_hstu.serving.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
