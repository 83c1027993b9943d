import shutil
from pathlib import Path

import pytest

from onestep.provenance.signing import SigningKey, find_key, make_key
from tests.audited import audited_project
from tests.toy_project import use_tools_of_this_environment


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside every repository with the project's key, `own`, and a stranger's, `other`."""
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder / "own")
    make_key(folder / "other")
    return folder


@pytest.fixture(scope="session")
def key(keys: Path) -> SigningKey:
    found = find_key(keys, keys / "own")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def audited_template(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Path:
    root = tmp_path_factory.mktemp("audited") / "project"
    with pytest.MonkeyPatch.context() as patched:
        use_tools_of_this_environment(patched)
        audited_project(root, key)
    return root


@pytest.fixture
def audited(audited_template: Path, tmp_path: Path) -> Path:
    """Two promoted versions and a refused run, all signed."""
    root = tmp_path / "project"
    shutil.copytree(audited_template, root, symlinks=True)
    return root
