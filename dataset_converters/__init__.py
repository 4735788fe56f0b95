"""From the publishers' files to RecBole's atomic files: Amazon Reviews 2023, Steam, one's own data.

The package stands alone: it needs neither RecBole nor recbole_hstu, and writes files both read.
"""

from dataset_converters.by_name import convert_by_name, source_of
from dataset_converters.errors import ConversionError

__all__ = ["ConversionError", "convert_by_name", "source_of"]
