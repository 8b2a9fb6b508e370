"""The folder of an export: whole files, nobody else's files, going on after a kill at every line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gsvnet.errors import ConfigError, NoSpace, StoreError
from gsvnet.export.journal import read_journal
from gsvnet.export.target import open_target
from gsvnet.store.layout import EXPORT_JOURNAL
from tests.disks import fill, small_disk
from tests.export.writing import SETTINGS, write_all


def test_files_records_and_settings_are_kept(tmp_path, files_of):
    assert write_all(tmp_path / "to") == 3
    files = files_of(tmp_path / "to")
    assert sorted(files) == sorted(
        [EXPORT_JOURNAL, "all.json", *(f"masks/v-{i}.png" for i in range(3)), *(f"images/v-{i}.jpg" for i in range(3))]
    )
    assert json.loads(files["all.json"]) == [{"index": i, "text": "ä\n"} for i in range(3)]
    lines = [json.loads(line) for line in files[EXPORT_JOURNAL].splitlines()]
    assert lines[0] == {"export": SETTINGS}
    assert lines[3] == {
        "frame": {"video": "v", "frame_index": 0, "num_frames": 1},
        "record": {"index": 0, "text": "ä\n"},
    }
    assert lines[-1] == {"complete": True}


def test_a_finished_one_is_not_touched_again(tmp_path, files_of):
    write_all(tmp_path)
    before = files_of(tmp_path)
    with open_target(tmp_path, SETTINGS, overwrite=False) as target:
        assert target.is_complete
        assert (target.num_frames, target.last_frame("v"), target.last_frame("other")) == (3, 2, -1)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)], ids=["sample", "all"])
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacement"])
def test_after_a_kill_at_any_line_it_goes_on_to_the_same_bytes(tmp_path, files_of, replaces, every):
    write_all(tmp_path / "undisturbed", num_frames=2)
    expected = files_of(tmp_path / "undisturbed")
    if replaces:
        write_all(tmp_path / "old", settings={"format": "png", "every": 5}, num_frames=1)
    command = [sys.executable, "-m", "tests.export.writing", tmp_path, every, tmp_path / "old" if replaces else ""]
    root = Path(__file__).parents[2]
    done = subprocess.run(list(map(str, command)), cwd=root, capture_output=True, text=True, check=True)
    steps = int(done.stdout)
    assert steps > 100
    for step in range(1, steps + 1, every):
        folder = tmp_path / f"to-{step}"
        write_all(folder, overwrite=replaces, num_frames=2)
        assert files_of(folder) == expected, f"killed at line {step}"


def test_a_replacement_that_was_killed_is_not_taken_for_the_old_export(tmp_path):
    write_all(tmp_path)
    with (tmp_path / EXPORT_JOURNAL).open("ab") as file:
        file.write(b'{"removing": true}\n')
    (tmp_path / "all.json").unlink()
    assert write_all(tmp_path) == 3
    assert (tmp_path / "all.json").exists()


def test_a_torn_last_line_counts_for_nothing(tmp_path, files_of):
    write_all(tmp_path / "undisturbed")
    write_all(tmp_path / "to")
    journal = tmp_path / "to" / EXPORT_JOURNAL
    journal.write_bytes(journal.read_bytes()[:-5])
    write_all(tmp_path / "to")
    assert files_of(tmp_path / "to") == files_of(tmp_path / "undisturbed")


def test_a_file_that_fails_half_way_does_not_appear(tmp_path, files_of):
    with open_target(tmp_path, SETTINGS, overwrite=False) as target:

        def write_half():
            with target.create("masks/a.png") as file:
                file.write(b"half")
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            write_half()
    assert sorted(files_of(tmp_path)) == [EXPORT_JOURNAL]


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_are_never_joined_or_replaced(tmp_path, files_of, overwrite):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=rf"{tmp_path} holds what no export wrote \(notes.txt\).*--overwrite"):
        write_all(tmp_path, overwrite=overwrite)
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_put_beside_an_export_stops_it(tmp_path, files_of, overwrite):
    write_all(tmp_path)
    (tmp_path / "masks" / "notes.txt").write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match=r"masks/notes\.txt.*--overwrite"):
        write_all(tmp_path, overwrite=overwrite)
    assert files_of(tmp_path) == before


def test_other_settings_are_named_with_both_values(tmp_path):
    write_all(tmp_path)
    with pytest.raises(ConfigError, match=rf"{tmp_path} .*every: 2 there, 3 now.*--overwrite"):
        write_all(tmp_path, settings=SETTINGS | {"every": 3})


def test_overwriting_leaves_nothing_of_the_earlier_export(tmp_path, files_of):
    write_all(tmp_path)
    assert write_all(tmp_path, settings={"format": "coco"}, overwrite=True, num_frames=1) == 1
    assert sorted(files_of(tmp_path)) == [EXPORT_JOURNAL, "all.json", "images/v-0.jpg", "masks/v-0.png"]


def test_overwriting_removes_a_link_and_not_what_it_points_to(tmp_path):
    precious = tmp_path / "precious.png"
    precious.write_text("mine")
    write_all(tmp_path / "to")
    mask = tmp_path / "to" / "masks" / "v-0.png"
    mask.unlink()
    mask.symlink_to(precious)
    write_all(tmp_path / "to", overwrite=True)
    assert precious.read_text() == "mine"
    assert not mask.is_symlink()


def test_a_folder_that_became_a_link_is_not_followed(tmp_path):
    write_all(tmp_path / "to")
    (tmp_path / "to" / "masks").rename(tmp_path / "elsewhere")
    (tmp_path / "to" / "masks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"\(masks\)"):
        write_all(tmp_path / "to", overwrite=True)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 3


@pytest.mark.parametrize("name", ["../precious", "/etc/precious", "a/../../precious", "", "a//b"])
def test_a_journal_that_names_files_outside_is_refused(tmp_path, name):
    (tmp_path / "precious").write_text("mine")
    write_all(tmp_path / "to")
    with (tmp_path / "to" / EXPORT_JOURNAL).open("a") as file:
        file.write(json.dumps({"file": name}) + "\n")
    with pytest.raises(StoreError, match="is damaged"):
        write_all(tmp_path / "to", overwrite=True)
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("line", ["{", "[]", '{"what": 1}', '{"frame": {"video": 1}}', "\x00\x00", '{"a": 1, "b": 2}'])
def test_a_damaged_journal_is_named(tmp_path, line):
    write_all(tmp_path)
    with (tmp_path / EXPORT_JOURNAL).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(StoreError, match=rf"{EXPORT_JOURNAL} is damaged.*remove the folder"):
        write_all(tmp_path)


def test_files_that_are_gone_are_noticed(tmp_path):
    write_all(tmp_path)
    (tmp_path / "masks" / "v-1.png").unlink()
    with pytest.raises(ConfigError, match=r"lacks 1 files.*masks/v-1\.png.*--overwrite"):
        write_all(tmp_path)
    assert write_all(tmp_path, overwrite=True) == 3


def test_two_exports_do_not_share_a_folder(tmp_path):
    with (
        open_target(tmp_path, SETTINGS, overwrite=False),
        pytest.raises(ConfigError, match="another export is writing"),
        open_target(tmp_path, SETTINGS, overwrite=True),
    ):
        pass


def test_a_target_that_cannot_be_made_is_a_bad_argument(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the folder .*file/to: Not a directory; choose another --to"):
        write_all(tmp_path / "file" / "to")


def test_a_read_only_disk_is_a_bad_argument(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        if disk is None:
            pytest.skip("no right to mount a small disk")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(ConfigError, match="Read-only file system; choose another --to"):
            write_all(disk / "to")
        with pytest.raises(ConfigError, match="Read-only file system; choose another --to"):
            write_all(disk)


def test_a_full_disk_is_one_clear_error_and_the_export_goes_on_later(tmp_path, files_of):
    write_all(tmp_path / "undisturbed")
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        if disk is None:
            pytest.skip("no right to mount a small disk")
        folder = disk / "to"
        with open_target(folder, SETTINGS, overwrite=False) as target:
            target.write("masks/v-0.png", "mask 0")
            target.write("images/v-0.jpg", "image 0")
            target.record("v", 0, 1, {"index": 0, "text": "ä\n"})
            with fill(disk), pytest.raises(NoSpace, match=r"No space left on device.*the same command goes on"):
                target.write("masks/v-1.png", b"x" * 10_000)
        write_all(folder)
        assert files_of(folder) == files_of(tmp_path / "undisturbed")


def test_the_state_of_a_long_journal_needs_no_record_in_memory(tmp_path):
    with open_target(tmp_path, SETTINGS, overwrite=False) as target:
        target.record("v", 0, 1, {"broken": "on purpose"})
    journal = tmp_path / EXPORT_JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b'"on purpose"', b"???"))
    assert read_journal(journal).num_frames == 1
