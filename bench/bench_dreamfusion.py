"""Steps a second of `dreamfusion` with networks of Stable Diffusion 1.5's size, on a GPU.

`python bench/bench_dreamfusion.py [--steps 200]`. The weights are random: speed does not depend on
them. The pipeline's own loop is timed, with everything that a step does, as the networks are and
compiled, beside what the arithmetic allows: the operations of one step (counted by torch) at the
rate of a large matrix product, measured in the same run. Exit status 1 if the compiled loop is
slower than 10 000 steps in ten minutes. Without a GPU it says so and does nothing.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
LEAST_STEPS_PER_SECOND = 10_000 / 600
PUBLISHED_TFLOP = 3.9
TOKENS = 77
ROW = "| {:<26} | {:>8} | {:>9} | {:>9} | {:>10} |"


def random_parts(torch: Any) -> dict[str, Any]:
    """Stable Diffusion 1.5's networks by their published configurations, untrained."""
    from diffusers import (  # noqa: PLC0415
        AutoencoderKL,
        DDPMScheduler,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel  # noqa: PLC0415

    with torch.device("cuda"):
        parts = {
            "unet": UNet2DConditionModel(
                sample_size=64, cross_attention_dim=768, attention_head_dim=8
            ),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                sample_size=512,
            ),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    hidden_size=768,
                    intermediate_size=3072,
                    num_hidden_layers=12,
                    num_attention_heads=12,
                )
            ),
        }
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    networks = {name: part.to(torch.bfloat16) for name, part in parts.items()}
    return {**networks, "tokenizer": None, "scheduler": scheduler}


def matrix_rate(torch: Any) -> float:
    """TFLOP a second of a large bf16 matrix product."""
    side, times = 8192, 20
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        a @ b
    torch.cuda.synchronize()
    return 2.0 * side**3 * times / (time.perf_counter() - start) / 1e12


def make_loop(torch: Any, model: Any, steps: int, resolution: int) -> Any:
    """The pipeline's loop with a model, ready for its first step."""
    from worker_vm.pipelines.dreamfusion.distil import Distillation  # noqa: PLC0415
    from worker_vm.pipelines.dreamfusion.guidance_sd import (  # noqa: PLC0415
        StableDiffusionGuidance,
    )
    from worker_vm.pipelines.dreamfusion.parameters import Parameters  # noqa: PLC0415
    from worker_vm.pipelines.dreamfusion.prompts import PromptTokens  # noqa: PLC0415

    parameters = Parameters(steps=steps, resolution=resolution)
    prompt = PromptTokens(
        sides=torch.randint(0, 49000, (4, TOKENS)),
        negative=torch.randint(0, 49000, (1, TOKENS)),
        cut=0,
    )
    guidance = StableDiffusionGuidance(
        model, prompt, parameters.guidance_scale, parameters.timesteps
    )
    return Distillation(parameters, guidance, torch.device("cuda"))


def steps_per_second(torch: Any, loop: Any, warm: int, steps: int) -> float:
    """Time the loop after its first steps."""
    for _ in range(warm):
        loop.advance()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        loop.advance()
    torch.cuda.synchronize()
    return steps / (time.perf_counter() - start)


def seconds_without_guidance(torch: Any, resolution: int) -> float:
    """Seconds a step takes when the guidance costs nothing."""
    from worker_vm.pipelines.dreamfusion.distil import Distillation  # noqa: PLC0415
    from worker_vm.pipelines.dreamfusion.parameters import Parameters  # noqa: PLC0415

    class Nothing:
        """Wants it darker."""

        def loss(self, images: Any, *_: Any, **__: Any) -> Any:
            """Not more than a sum."""
            return images.sum()

    loop = Distillation(Parameters(resolution=resolution), Nothing(), torch.device("cuda"))
    return 1.0 / steps_per_second(torch, loop, 20, 100)


def tera_operations(loop: Any) -> float:
    """TFLOP of one step, counted."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    with FlopCounterMode(display=False) as counter:
        loop.advance()
    return counter.get_total_flops() / 1e12


def measure(torch: Any, steps: int) -> bool:
    """Print the table; whether the limit was met."""
    from worker_vm.pipelines.dreamfusion.diffusion_model import assemble  # noqa: PLC0415

    device = torch.device("cuda")
    rate = matrix_rate(torch)
    parts = random_parts(torch)
    plain = assemble(parts, "random", device, torch.bfloat16, compiled=False)
    needed = tera_operations(make_loop(torch, plain, 100, 64))
    limit = rate / needed
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16")
    print(f"matrix product: {rate:.0f} TFLOP/s")
    print(f"one step: {needed:.2f} TFLOP counted ({PUBLISHED_TFLOP} expected)")
    print(f"arithmetic limit: {limit:.1f} steps/s\n")
    print(ROW.format("networks, rendering", "steps/s", "of limit", "10k steps", "peak GiB"))
    print(ROW.format("-" * 26, "-" * 7 + ":", "-" * 8 + ":", "-" * 8 + ":", "-" * 9 + ":"))
    reached = 0.0
    for compiled in (False, True):
        started = time.perf_counter()
        model = (
            assemble(parts, "random", device, torch.bfloat16, compiled=True) if compiled else plain
        )
        if compiled:
            print(f"(compiled in {time.perf_counter() - started:.0f} s)", file=sys.stderr)
        for resolution in (64, 256):
            torch.cuda.reset_peak_memory_stats()
            # Past the first stage, which renders small.
            loop = make_loop(torch, model, 2 * steps, resolution)
            loop.step = steps
            speed = steps_per_second(torch, loop, 15, steps - 20)
            if compiled and resolution == 64:
                reached = speed
            name = f"{'compiled' if compiled else 'as they are'}, {resolution} px"
            peak = torch.cuda.max_memory_allocated() / 2**30
            minutes = f"{10_000 / speed / 60:.1f} min"
            print(ROW.format(name, f"{speed:.1f}", f"{speed / limit:.0%}", minutes, f"{peak:.1f}"))
    for resolution in (64, 256):
        seconds = seconds_without_guidance(torch, resolution)
        print(f"\nA step without guidance, {resolution} px: {seconds * 1000:.1f} ms", end="")
    print()
    return reached >= LEAST_STEPS_PER_SECOND


def main() -> int:
    """Measure where there is a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="timed for each row, at least 60")
    arguments = parser.parse_args()
    try:
        import diffusers  # noqa: F401, PLC0415
        import torch  # noqa: PLC0415
    except ImportError as error:
        print(f"Nothing measured: {error.name} is not installed (docs/worker.md says how).")
        return 0
    if not torch.cuda.is_available():
        print("Nothing measured: there is no GPU here that torch can use.")
        return 0
    return 0 if measure(torch, max(60, arguments.steps)) else 1


if __name__ == "__main__":
    sys.exit(main())
