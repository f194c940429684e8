"""Evaluation: records -> asking -> scoring -> reporting, public benchmarks, replay through the node."""
