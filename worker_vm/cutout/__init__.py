"""Cut the subject out of a picture, or say why the cut-out can't be trusted.

A meaningful alpha channel is taken as it is. Otherwise several guesses are made at about 320
pixels, with what the caller said of the subject made certain, and each is marked; the best one's
outline is then brought to full resolution.
"""

from worker_vm.cutout.cut import Quality, Subject, cut_out
from worker_vm.cutout.hints import Box, Hints, Point

__all__ = ["Box", "Hints", "Point", "Quality", "Subject", "cut_out"]
