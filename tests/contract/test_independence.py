"""The contract stands alone, so that either side can be upgraded without the other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "contract").glob("*.py"))

_IMPORT_ALL = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not on this machine")

BLOCKED = {"sqlalchemy", "asyncpg", "fastapi", "starlette", "rq", "redis", "httpx", "minio",
           "structlog", "app", "worker_vm", "devstack"}
sys.meta_path.insert(0, Absent())
import contract
for module in pkgutil.iter_modules(contract.__path__):
    importlib.import_module(f"contract.{module.name}")
from contract.attempts import ClaimRequest
ClaimRequest(worker_name="w", claim_id="5c1c9a2e-6f0b-4d5e-9b43-0a6d2f1f7b11")
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
print("works")
"""


def test_works_where_only_pydantic_is() -> None:
    """Every module imports and works with the frameworks of both sides absent."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "works\n", done.stderr


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_imports(path: Path) -> None:
    """Each file imports from the standard library, pydantic and the contract, nothing else."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
    packages = {name.partition(".")[0] for name in imported}
    assert packages <= set(sys.stdlib_module_names) | {"pydantic", "contract"}
