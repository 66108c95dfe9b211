"""Sources of images, the order of examples, and batches for every model."""
