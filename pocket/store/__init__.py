"""Layers, blobs, action records, locks and volumes on disk: crash-safe, shared by many processes."""

from pocket.store.builder import LayerBuilder
from pocket.store.index import Entry, Index
from pocket.store.layer import SCRATCH, Layer, Snapshot
from pocket.store.store import Store, default_root

__all__ = ["SCRATCH", "Entry", "Index", "Layer", "LayerBuilder", "Snapshot", "Store", "default_root"]
