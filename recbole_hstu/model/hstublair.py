"""HSTU-BLaIR (Liu, KDD 2025 workshop): HSTUText with BLaIR's text vectors."""

from recbole_hstu.model.hstutext import HSTUText


class HSTUBLaIR(HSTUText):
    """HSTUText as `properties/model/HSTUBLaIR.yaml` configures it: hyp1231/blair-roberta-base,
    first token, at most 512 tokens, not normalised."""
