"""`python -m dataset_converters {amazon2023,steam,csv}`: atomic files for RecBole."""

import sys

from dataset_converters.cli import main

if __name__ == "__main__":
    sys.exit(main())
