"""Layouts of other projects, read and written: RefSpatial, RoboInter, RoboRefer."""
