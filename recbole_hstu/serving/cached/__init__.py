"""Users who come back: their events, and what HSTU has computed from them."""
