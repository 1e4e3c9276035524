"""Pipeline `sf3d`: Stability AI's Stable Fast 3D, installed by the operator in a Python of its own.

`pipeline`, `requirements` and `upstream` run in that Python and import the standard library, numpy
and what upstream itself needs. `stages` and all below it run in the worker's own
(docs/decisions/0013).
"""
