"""Volumes of any size, in blocks that many workers share and that a stopped job need not repeat."""
