"""Trees: the merged view of a snapshot, digests, patterns, operations, host directories in and out."""
