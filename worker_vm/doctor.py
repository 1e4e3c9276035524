"""`python -m worker_vm doctor`: what this machine is and what it can run, for a person."""

import argparse
from collections.abc import Sequence

from contract.workers import PipelineStatus
from worker_vm import __version__, capabilities
from worker_vm.config import WorkerSettings
from worker_vm.host_pool import HostPool


def run(settings: WorkerSettings, pool: HostPool, required: Sequence[str]) -> int:
    """Print the table; 1 if a required pipeline cannot run, else 0."""
    pool.await_started()
    try:
        statuses = pool.statuses()
    finally:
        pool.stop()
    print(machine_report(settings))  # noqa: T201
    print(pipeline_table(statuses))  # noqa: T201
    runnable = {status.name for status in statuses if status.runnable}
    missing = [name for name in required if name not in runnable]
    if missing:
        print(f"Cannot run: {', '.join(missing)}.")  # noqa: T201
    return 1 if missing else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="PIPELINE",
        help="exit with 1 if this pipeline cannot run here; may be given several times",
    )


def machine_report(settings: WorkerSettings) -> str:
    """The machine and its software."""
    lines = [
        f"worker    {__version__}, queue {settings.worker_queue}",
        (
            f"cpu       {capabilities.cpu_count()} cores, "
            f"{capabilities.memory_total_mib()} MiB of memory"
        ),
    ]
    gpus = capabilities.find_gpus()
    lines += [
        f"gpu       {gpu.name}, {gpu.memory_free_mib} of {gpu.memory_total_mib} MiB free, "
        f"driver {gpu.driver}"
        for gpu in gpus
    ] or ["gpu       none that nvidia-smi knows"]
    versions = capabilities.library_versions()
    lines.append("software  " + ", ".join(f"{name} {versions[name]}" for name in versions))
    lines.append(f"validator {settings.gltf_validator or 'none (GLTF_VALIDATOR)'}")
    lines.append(f"detector  {settings.yolo_model_path or 'motion only (YOLO_MODEL_PATH)'}")
    return "\n".join(lines)


def pipeline_table(statuses: Sequence[PipelineStatus]) -> str:
    """A line for each pipeline, and one for each reason why not."""
    width = max([len(status.name) for status in statuses], default=0)
    lines = [""]
    for status in statuses:
        verdict = "can run" if status.runnable else "cannot run"
        lines.append(f"{status.name:<{width}}  {status.version:<8}  {verdict}")
        lines += [f"{'':<{width}}  - {reason}" for reason in status.reasons]
    return "\n".join(lines)
