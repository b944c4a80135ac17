"""Every test in this folder needs a GPU, and says which thing is missing where it cannot run."""

from __future__ import annotations

import pytest

from irc.lowering import find_engine, find_target


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = find_engine("onnxruntime").runs(find_target("cuda")).reason
    for item in items:
        if item.get_closest_marker("gpu") is not None and reason and item.path.parent.name == "gpu":
            item.add_marker(pytest.mark.skip(reason=reason))
