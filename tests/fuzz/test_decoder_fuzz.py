"""The worker's decoder under pictures with bytes changed: pixels or a sentence, nothing else."""

import tempfile
from pathlib import Path

from hypothesis import given
from mutations import budget, mutated

from worker_vm.image_limits import MAX_PIXELS
from worker_vm.images import Picture, decode
from worker_vm.pipelines.base import PipelineError


@budget(50)  # each starts a confined process
@given(data=mutated(("PNG", "JPEG", "WEBP")))
def test_any_picture_is_decoded_or_refused(data: bytes) -> None:
    """Whatever was changed in a picture, it is decoded within the limits or refused for good."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upload = folder / "upload.bin"
        upload.write_bytes(data)
        made = _decoded(upload, folder)
        if isinstance(made, PipelineError):
            assert (made.code, made.permanent) == ("INVALID_INPUT", True)
            assert made.message.endswith(".")
        else:
            height, width, channels = made.rgba.shape
            assert channels == 4
            assert 0 < height * width <= MAX_PIXELS
        assert list(folder.iterdir()) == [upload]


def _decoded(upload: Path, folder: Path) -> Picture | PipelineError:
    try:
        return decode(upload, folder)
    except PipelineError as error:
        return error
