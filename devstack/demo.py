"""`make demo`: a picture becomes a 3D model on a stack of its own, through the public API."""

from functools import partial
from pathlib import Path

from devstack.trial import DemoError, Trial, checked_file, run_trial, sizes

MODEL = "inflate-v1"
SAMPLES = Path(__file__).with_name("samples")


def sample_image() -> Path:
    """The picture that comes with the project."""
    pictures = sorted(SAMPLES.glob("*.png"))
    if not pictures:
        raise DemoError(f"There is no PNG in {SAMPLES}; name a picture: make demo IMAGE=path.png")
    return pictures[0]


def checked_image(path: Path | None) -> Path:
    """The picture to use.

    Raises:
        DemoError: it is no readable file.
    """
    return sample_image() if path is None else checked_file(path, "picture", "a PNG, JPEG or WebP")


def demo(image: Path | None, output: Path) -> int:
    """Run the demo; 0 when the files lie in `output`."""
    return run_trial(lambda _: partial(_make_model, checked_image(image), output))


def _make_model(picture: Path, output: Path, trial: Trial) -> None:
    """What any client would do."""
    with trial.step("Uploading the picture"):
        object_name = trial.client.upload(picture)
    with trial.step("Running the job"):
        job = trial.run(MODEL, {"image_path": object_name})
    with trial.step("Downloading"):
        files = trial.download(job["id"], output)
    trial.show(sizes(files, output))
    trial.show(
        f"Made from {picture.name}. Look at the pictures and turntable.webp in {output}/; "
        f"{output / 'model.glb'} opens in Blender or any other viewer of glTF files."
    )


def default_output() -> Path:
    """Where demos leave their files."""
    return Path("demo-output")
