"""A robot in simulated rooms: it asks where a thing is, drives there, and says that it arrived, or that it is gone."""
