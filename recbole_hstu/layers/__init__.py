"""Plain torch: HSTU's block, losses, packing, item vectors; nothing here knows RecBole."""
