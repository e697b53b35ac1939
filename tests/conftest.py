"""What tests share: where the GB smart-metering test data is."""

import os
from pathlib import Path

import pytest

from tests.postgres import mortal_postgres, postgres_server  # noqa: F401  # fixtures

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def gbcs_data() -> Path:
    """The folder of GBCS test data; skipped where it is absent, a failure where CI is set."""
    folder = Path(os.environ.get("CRYPTOSVC_GBCS_DATA", REPOSITORY.parent / "shared" / "gbcs"))
    if folder.is_dir():
        return folder
    message = f"GBCS test data not found at {folder}; set CRYPTOSVC_GBCS_DATA"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `--dist loadgroup` work: pytest 9.2 no longer reads `_nodeid`, where pytest-xdist 3.8 puts a test's group.

    Without it the tests of a group are spread over all processes, and each makes the group's deployment again.
    """
    for item in items:
        grouped = getattr(item, "_nodeid", "")
        if grouped.startswith(item.nodeid + "@"):
            item._id = type(item._id).parse(grouped)  # type: ignore[attr-defined]
