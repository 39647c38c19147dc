"""Layers, blobs, action records, locks and volumes on disk: crash-safe, shared by many processes."""

from pocket.store.index import Entry, Index
from pocket.store.layer import SCRATCH, Layer, Snapshot

__all__ = ["SCRATCH", "Entry", "Index", "Layer", "Snapshot"]
