"""Files of a RoboRefer checkpoint: configuration, weights, reading and writing."""
