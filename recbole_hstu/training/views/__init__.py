"""How a model reads sequences: what RecBole computes again or in vain is left out where proved."""
