"""Semantic ids in plain torch: their trie, decoding along it, a decoder of codes."""
