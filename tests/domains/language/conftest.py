"""Small models of several families, for the tests of this folder."""

from pathlib import Path

import pytest

from tests.domains.language.models import write_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small random models, in the format of real ones."""
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder
