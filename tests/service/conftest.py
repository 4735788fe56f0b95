"""One service for all tests of the room; each uses users of its own."""

import pytest
from running_service import running, small_models


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("service"))
        return small_models("HSTU", "SASRecSS")


@pytest.fixture(scope="session")
def service(models):
    with running(models) as client:
        yield client
