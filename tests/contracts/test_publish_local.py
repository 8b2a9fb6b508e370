"""Publishing on a local disk: racing processes, kills at every line, leftovers, full disks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gsvnet.errors import AlreadyPublished, NoSpace, StoreError
from gsvnet.store.publish import publish_bytes
from gsvnet.store.temporary import sweep_temporary

ROOT = Path(__file__).parents[2]  # from where a child finds tests/


def test_of_eight_racing_processes_one_wins(tmp_path):
    uri = str(tmp_path / "labels" / "v" / "000000.parquet")
    go = tmp_path / "go"
    code = f"""
        import os, sys, time
        from gsvnet.errors import AlreadyPublished
        from gsvnet.store.publish import publish_bytes
        while not os.path.exists({str(go)!r}): time.sleep(0.001)
        try: publish_bytes(sys.argv[1].encode() * 100_000, {uri!r})
        except AlreadyPublished: sys.exit(7)
    """
    racers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), c]) for c in "ABCDEFGH"]
    time.sleep(1.0)
    go.touch()
    codes = [racer.wait() for racer in racers]
    assert sorted(codes) == [0] + [7] * 7
    assert Path(uri).read_bytes() == b"ABCDEFGH"[codes.index(0)].to_bytes() * 100_000


_KILLER = """
    import os, sys
    import gsvnet.store.publish as publish, gsvnet.store.temporary as temporary
    from tests.dying import die_at_every_line

    def act(step):
        root = f"{sys.argv[1]}/{step:04d}"
        os.mkdir(root)
        publish.publish_bytes(b"content", root + "/labels/v/000000.parquet")

    print(die_at_every_line([publish, temporary], act))
"""


def test_killed_at_every_line_leaves_nothing_or_all_and_leftovers_are_swept(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_KILLER), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    steps = int(run.stdout)
    assert steps > 40  # it was killed many times before it came to the end
    seen = {"nothing": 0, "all": 0, "leftover": 0}
    for step in range(1, steps + 1):
        root = tmp_path / f"{step:04d}"
        visible = list(root.glob("labels/**/*.parquet"))
        assert [path.read_bytes() for path in visible] in ([], [b"content"])
        others = [path for path in root.rglob("*") if path.is_file() and path not in visible]
        assert all(path.name.startswith(".") for path in others)
        assert sweep_temporary(root, recursive=True) == others
        assert [path for path in root.rglob("*") if path.is_file()] == visible
        seen["all" if visible else "nothing"] += 1
        seen["leftover"] += len(others)
    assert min(seen.values()) > 3, seen


def test_a_living_writer_is_not_swept(tmp_path):
    code = f"""
        from pathlib import Path
        from gsvnet.store.temporary import create_temporary
        held = create_temporary(Path({str(tmp_path)!r}))
        print("ready", flush=True)
        import time; time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    child.stdout.readline()
    assert sweep_temporary(tmp_path) == []
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(sweep_temporary(tmp_path)) == 1


def test_a_locked_file_of_another_container_is_not_swept(tmp_path):
    from gsvnet.store.temporary import create_temporary

    path, file = create_temporary(tmp_path)
    foreign = path.rename(tmp_path / path.name.replace(f"-{os.getpid()}-", "-4194305-"))  # no such process id here
    assert sweep_temporary(tmp_path) == []
    file.close()
    assert sweep_temporary(tmp_path) == [foreign]


def test_another_host_s_file_is_not_swept(tmp_path):
    (tmp_path / ".gsvnet-elsewhere-4194305-abc.tmp").touch()
    assert sweep_temporary(tmp_path) == []


def test_a_full_disk_is_no_space_and_leaves_nothing(tmp_path):
    code = f"""
        import resource, signal, sys
        from gsvnet.errors import NoSpace
        from gsvnet.store.publish import publish_bytes
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try: publish_bytes(bytes(200_000), {str(tmp_path / "labels" / "x.parquet")!r})
        except NoSpace: sys.exit(7)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 7
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_where_a_folder_belongs_is_a_store_error_and_no_lost_race(tmp_path):
    (tmp_path / "labels").touch()
    with pytest.raises(StoreError, match="not a folder") as caught:
        publish_bytes(b"x", str(tmp_path / "labels" / "v" / "x.parquet"))
    assert not isinstance(caught.value, AlreadyPublished | NoSpace)
