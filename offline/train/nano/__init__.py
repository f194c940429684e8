"""The recipe of roboref-nano, the model that ships with the project."""
