"""Finding files by name, and fingerprints of their content."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from attnlstm.errors import UserError
from attnlstm.files import check_outputs, file_fingerprint, find_files, replacing
from tests.data.formats.written import ROWS, problem_of, write, write_saved


class TestFindFiles:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("b.csv", "a.csv", "c.txt", "deep/d.csv", "odd[1].csv"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write(tmp_path / name, "text\n")

    def names(self, patterns):
        return [str(path) for path in find_files(patterns, "data.train")]

    def test_paths_globs_and_lists(self, tmp_path):
        assert self.names("a.csv") == ["a.csv"]
        assert self.names("?.csv") == ["a.csv", "b.csv"]
        assert self.names("**/*.csv") == ["a.csv", "b.csv", "deep/d.csv", "odd[1].csv"]
        assert self.names(["c.txt", "?.csv"]) == ["c.txt", "a.csv", "b.csv"]
        assert self.names("odd[1].csv") == ["odd[1].csv"]
        assert self.names(str(tmp_path / "d*/*")) == [str(tmp_path / "deep/d.csv")]
        assert self.names("deep") == ["deep"]

    def test_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert self.names("~/a.csv") == [str(tmp_path / "a.csv")]

    def test_a_glob_finds_saved_folders_but_no_other_folders(self, tmp_path):
        write_saved(tmp_path / "saved", ROWS)
        assert self.names("*[!vt]") == ["saved"]

    @pytest.mark.parametrize(
        ("patterns", "words"),
        [
            ("e.csv", "data.train=e.csv does not exist"),
            ("*.tsv", "data.train=*.tsv matches no file"),
            (["a.csv", "e.csv"], "data.train=e.csv does not exist"),
            ([], "data.train names no file"),
            ("", "data.train= does not exist"),
            (["a.csv", "./a.csv"], "a.csv 2 times: name it once"),
            (["a.csv", "*.csv"], "a.csv 2 times: name it once"),
        ],
    )
    def test_missing_and_repeated_files(self, patterns, words):
        assert words in problem_of(find_files, patterns, "data.train")


class TestFingerprint:
    def test_fingerprint_of_a_file_is_its_sha256(self, tmp_path):
        content = b"text\n" * 100_000
        assert (
            file_fingerprint(write(tmp_path / "a", content)) == hashlib.sha256(content).hexdigest()
        )

    def test_fingerprint_of_a_folder_changes_with_names_and_contents(self, tmp_path):
        write(tmp_path / "a", "1")
        first = file_fingerprint(tmp_path)
        assert file_fingerprint(tmp_path) == first
        write(tmp_path / "a", "2")
        second = file_fingerprint(tmp_path)
        (tmp_path / "a").rename(tmp_path / "b")
        assert len({first, second, file_fingerprint(tmp_path)}) == 3

    def test_fingerprint_of_a_missing_file(self, tmp_path):
        assert "cannot be read" in problem_of(file_fingerprint, tmp_path / "a")


def test_pipes_and_overlong_names_are_rejected(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")  # reading it would block forever
    with pytest.raises(UserError, match="is neither a file nor a folder"):
        find_files(str(tmp_path / "pipe.csv"), "data.train")
    with pytest.raises(UserError, match="does not exist"):
        find_files("long" * 100, "data.train")


class TestCheckOutputs:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("in.csv", "old.csv", "deep/in.csv"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write(tmp_path / name, "text\n")
        os.link("in.csv", "hard.csv")
        os.symlink("in.csv", "soft.csv")
        os.symlink("loop.csv", "loop.csv")
        os.mkfifo("pipe.csv")

    @pytest.mark.parametrize("output", ["new.csv", "old.csv", "deep/new.csv"])
    def test_other_files_may_be_written(self, output):
        check_outputs({"output": Path(output)}, ["*in.csv", "missing.csv", "deep/*"])

    @pytest.mark.parametrize(
        ("outputs", "inputs", "words"),
        [
            (["in.csv"], ["in.csv"], "output 0 is an input"),
            (["./deep/../in.csv"], ["*n.csv"], "output 0 is an input"),
            (["hard.csv"], ["in.csv"], "output 0 is an input"),
            (["soft.csv"], ["in.csv"], "output 0 is an input"),
            (["new.csv", "deep/in.csv"], ["deep"], "output 1 is an input, or lies in one"),
            (["new.csv", "./new.csv"], [], "output 0 and output 1 are the same file"),
            (["pipe.csv"], [], "output 0 cannot be written: it is there already and is not a"),
            (["/dev/null"], [], "output 0 cannot be written: it is there already and is not a"),
            (["loop.csv"], [], "output 0 cannot be written: it is there already and is not a"),
            (["deep"], [], "output 0 cannot be written: it is there already and is not a"),
        ],
    )
    def test_inputs_devices_and_each_other_are_refused(self, outputs, inputs, words):
        named = {f"output {number}": Path(path) for number, path in enumerate(outputs)}
        assert words in problem_of(check_outputs, named, inputs)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_only_regular_files_are_replaced(tmp_path, make):
    make(tmp_path / "file")
    with (
        pytest.raises(FileExistsError, match="is not a regular file"),
        replacing(tmp_path / "file"),
    ):
        pass
    assert not (tmp_path / "file").is_file()


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [f".a[1].csv.{pid}.partial" for pid in (ended.pid, os.getpid(), "x")]
    names.append(f".b.csv.{ended.pid}.partial")
    for name in names:
        write(tmp_path / name, "text\n")
    with replacing(tmp_path / "a[1].csv") as partial:
        partial.touch()
    assert (tmp_path / names[0]).exists()  # it may be of another machine
    for name in names:
        write(tmp_path / name, "text\n")
        os.utime(tmp_path / name, (0, 0))
    with replacing(tmp_path / "a[1].csv") as partial:
        partial.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"a[1].csv", *names[2:]}


def test_a_pipe_has_no_fingerprint(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would block forever
    assert "is not a regular file" in problem_of(file_fingerprint, tmp_path / "pipe")
