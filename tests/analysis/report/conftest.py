"""One run of the example for all tests of its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dovetail.experiment import RunResult, run

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits.yaml"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report") / "digits"


@pytest.fixture(scope="session")
def result(folder: Path) -> RunResult:
    return run(EXAMPLE, out=folder)


@pytest.fixture(scope="session")
def numbers(result: RunResult, folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))
