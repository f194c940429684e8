"""A simulated agent that moves between the views of a recording by what the node answers."""
