"""Everything here runs real peers, in environments of their own; `make test-peers`."""

import pytest


def pytest_collection_modifyitems(items):
    """Mark the tests of this folder."""
    for item in items:
        if "peers" in item.path.parts:
            item.add_marker(pytest.mark.peers)
