"""How every 3D result ends, whichever pipeline has made it: checked, described, in other formats.

A pipeline writes a GLB and calls `handover.hand_over`; everything here reads that file, as the
people do who download it, and nothing of the pipeline's own arrays.
"""
