"""Building blocks of every model here: attention, blocks, positions, logits."""
