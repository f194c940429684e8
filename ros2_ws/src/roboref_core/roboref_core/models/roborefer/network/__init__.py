"""The network: towers, projectors, language model, tiling of pictures."""
