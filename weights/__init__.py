"""Foreign weights: read without executing anything, fetched with checksums."""
