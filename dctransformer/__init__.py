"""DCTransformer: images as sparse lists of DCT coefficients."""
