"""Masks: the classes that they show, how a set of them is stored, and the masks that segadapt writes itself."""
