"""Helpers of this repository's own pipeline; nothing to do with anybody else's package of that name."""
