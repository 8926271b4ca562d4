"""Whole files or none: what reaches the disk in which order, failures, and two writers at once."""

import os
import stat
import threading

import pytest

from vdm.runtime.files import write_whole


def test_the_content_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def record_fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("fsync folder" if is_folder else "fsync file")
        fsync(descriptor)

    def record_replace(source, target):
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    path = tmp_path / "a.json"
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"
    assert calls == ["fsync file", "replace", "fsync folder"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_text("")
    with pytest.raises(OSError):
        write_whole(tmp_path / "taken", b"content")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_two_writers_of_one_file(tmp_path):
    """Each finds its own temporary file, and the file is always one of both, whole."""
    path, contents, failures = tmp_path / "file", [b"a" * 50_000, b"b" * 50_000], []

    def write_often(content):
        try:
            for _ in range(100):
                write_whole(path, content)
                assert path.read_bytes() in contents
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write_often, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_whole(tmp_path / "ours", b"")
    (tmp_path / "usual").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
