"""HSTU-OpenAI (Liu, KDD 2025 workshop): HSTUText with OpenAI's text vectors."""

from recbole_hstu.model.hstutext import HSTUText


class HSTUOpenAI(HSTUText):
    """HSTUText as `properties/model/HSTUOpenAI.yaml` configures it: text-embedding-3-large in 768
    dimensions, as returned (unit norm)."""
