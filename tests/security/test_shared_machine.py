"""A machine that others use too: the spool folder, whose usual name anybody can guess."""

from __future__ import annotations

import os
import stat

import pytest

from gsvnet.errors import ConfigError
from gsvnet.store.write import default_spool_dir, make_spool_dir


@pytest.fixture
def usual(tmp_path, monkeypatch):
    """Where spools are built by default, not there yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return default_spool_dir()


def test_a_new_spool_folder_is_open_to_its_user_alone(usual):
    make_spool_dir(usual)
    make_spool_dir(usual)
    assert stat.S_IMODE(usual.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_is_refused(usual):
    usual.mkdir()
    usual.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write it"):
        make_spool_dir(usual)


def test_a_link_is_refused(usual, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    usual.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="a link"):
        make_spool_dir(usual)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_a_folder_that_another_user_made_first_is_refused(usual):
    usual.mkdir(mode=0o700)
    os.chown(usual, 65534, 65534)
    with pytest.raises(ConfigError, match="another user's"):
        make_spool_dir(usual)


def test_a_folder_that_was_named_is_the_user_s_own_choice(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)
    make_spool_dir(tmp_path / "spool")
