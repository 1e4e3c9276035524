"""A process of the worker's own Python, beside a pipeline that runs in another one.

A pipeline with a Python of its own has only its model's packages there. What is the same for every
model (decoding, cutting out, previews, files) is written for the worker's Python, and a pipeline
has it done there: `Companion.call` runs a function of a module of ours and passes on its progress,
its files and its failures as if the pipeline itself had made them.

Standard library only, at both ends. A request and an answer are a line of JSON each.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import PipelineError, Reporter

PYTHON_SETTING = "WORKER_PYTHON"
"""How a pipeline host learns which Python is the worker's own."""

_END_SECONDS = 5.0


class CompanionError(Exception):
    """The companion could not do what it was asked to."""


class Companion:
    """Starts the process at the first call and keeps it, so that libraries stay loaded.

    Args:
        module: whose functions may be called, each taking arguments and a reporter.
        python: the interpreter; the worker's own by default.
    """

    def __init__(self, module: str, python: str | None = None) -> None:
        self._module = module
        self._python = python or os.environ.get(PYTHON_SETTING) or sys.executable
        self._process: subprocess.Popen[str] | None = None
        self._answers: IO[str] | None = None

    def call(self, function: str, arguments: Mapping[str, Any], report: Reporter) -> dict[str, Any]:
        """Run a function there.

        Args:
            function: its name in the module.
            arguments: what it gets; JSON.
            report: hears what it tells.

        Raises:
            PipelineError: raised by the function.
            MemoryError: memory did not suffice there.
            RunCancelledError: raised by `report`; the companion is ended, whatever it is doing.
            CompanionError: it failed otherwise, or ended.
        """
        try:
            return self._call(function, arguments, report)
        except (PipelineError, MemoryError):
            raise
        except BaseException:
            # In the middle of something that nobody waits for any more.
            self.close()
            raise

    def _call(
        self, function: str, arguments: Mapping[str, Any], report: Reporter
    ) -> dict[str, Any]:
        process, answers = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"call": function, "arguments": dict(arguments)}) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise CompanionError(self._epitaph(process)) from None
        for line in answers:
            answer: dict[str, Any] = json.loads(line)
            match answer["is"]:
                case "progress":
                    report.progress(answer["percent"], answer["stage"], answer["message"])
                case "artifact":
                    report.artifact(
                        ArtifactKind(answer["kind"]), Path(answer["path"]), answer["media_type"]
                    )
                case "event":
                    report.event(answer["type"], answer["data"])
                case "failed":
                    raise PipelineError(
                        answer["code"], answer["message"], permanent=answer["permanent"]
                    )
                case "out of memory":
                    raise MemoryError(answer["message"])
                case "crashed":
                    raise CompanionError(answer["message"])
                case _:
                    return dict(answer["result"])
        raise CompanionError(self._epitaph(process))

    def close(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert self._answers is not None
        process.kill()
        process.wait()
        process.stdin.close()
        self._answers.close()

    def _started(self) -> tuple[subprocess.Popen[str], IO[str]]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            reading, writing = os.pipe()
            # Its output is the run's log; answers have a pipe of their own.
            self._process = subprocess.Popen(  # noqa: S603  (our own module)
                [self._python, "-m", "worker_vm.companion", self._module, str(writing)],
                stdin=subprocess.PIPE,
                pass_fds=[writing],
                text=True,
            )
            os.close(writing)
            self._answers = os.fdopen(reading, encoding="utf-8")
        assert self._answers is not None
        return self._process, self._answers

    @staticmethod
    def _epitaph(process: subprocess.Popen[str]) -> str:
        try:
            status = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "The worker's own Python has hung up."
        return f"The worker's own Python ended with status {status}; its output is in the log."


class _Told:
    """The `Reporter` of a function that is called: what it says goes to the caller."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers

    def send(self, **answer: Any) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        self.send(**{"is": "progress", "percent": percent, "stage": stage, "message": message})

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        self.send(
            **{"is": "artifact", "kind": str(kind), "path": str(path), "media_type": media_type}
        )

    def event(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002
        self.send(**{"is": "event", "type": type, "data": dict(data)})


def main() -> None:
    """Answer calls of the functions of a module, the first argument, until nobody asks."""
    told = _Told(os.fdopen(int(sys.argv[2]), "w", encoding="utf-8"))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            function = getattr(import_module(sys.argv[1]), request["call"])
            answer = {"is": "result", "result": function(request["arguments"], told)}
        except PipelineError as error:
            answer = {
                "is": "failed",
                "code": error.code,
                "message": error.message,
                "permanent": error.permanent,
            }
        except MemoryError as error:
            answer = {"is": "out of memory", "message": str(error)}
        except Exception as error:  # noqa: BLE001  (whatever a function raises)
            traceback.print_exc()
            answer = {"is": "crashed", "message": f"{type(error).__name__}: {error}"}
        told.send(**answer)


if __name__ == "__main__":
    main()
