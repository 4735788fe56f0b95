"""HSTU, HSTU-BLaIR and HSTU-OpenAI as RecBole models, judged by one protocol."""

__version__ = "0.1.0"
