"""A run's numbers are there after it, once each, whatever stopped it in between."""

import json
import math
import struct
import sys
import types
from pathlib import Path

import pytest

from sublim_jax.errors import UserError
from sublim_jax.metrics import Metrics


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def written(folder, steps, begin=0, **values):
    metrics = Metrics(folder, begin)
    for step in steps:
        metrics.write(step, {"loss": float(step), **values})
    metrics.close()


def events(folder):
    """The events of the TensorBoard files: records of length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted((folder / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event()
            event.ParseFromString(data[12 : 12 + length])
            yield event
            data = data[16 + length :]


def scalars(folder):
    return [
        (value.tag, event.step, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
    ]


class TestLines:
    def test_a_line_is_a_step_and_its_values(self, tmp_path):
        metrics = Metrics(tmp_path / "deep" / "run")
        metrics.write(3, {"loss": [0.5, 0.25], "rate": 1e-3})
        # At once, not when the file is closed.
        assert lines(tmp_path / "deep" / "run") == [{"step": 3, "loss": [0.5, 0.25], "rate": 1e-3}]
        metrics.close()

    def test_lines_need_no_tensorboard(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as if it were not installed
        written(tmp_path, range(2))
        assert [line["step"] for line in lines(tmp_path)] == [0, 1]
        assert not (tmp_path / "tensorboard").exists()

    @pytest.mark.parametrize(
        ("begin", "kept"), [(0, []), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
    )
    def test_a_run_that_goes_on_keeps_the_lines_before_its_step(self, tmp_path, begin, kept):
        written(tmp_path, range(4))
        before = (tmp_path / "metrics.jsonl").read_text().splitlines()[: len(kept)]
        written(tmp_path, [begin], begin)
        assert (tmp_path / "metrics.jsonl").read_text().splitlines()[: len(kept)] == before
        assert [line["step"] for line in lines(tmp_path)] == [*kept, begin]

    def test_several_lines_of_a_step_share_its_fate(self, tmp_path):
        metrics = Metrics(tmp_path)
        for step in (0, 1, 2):
            metrics.write(step, {"loss": 1.0})
            metrics.write(step, {"held_out_loss": [2.0]})
        metrics.close()
        written(tmp_path, [], 2)
        assert [line["step"] for line in lines(tmp_path)] == [0, 0, 1, 1]

    @pytest.mark.parametrize("half", ['{"step": 2, "lo', "{", "7\n", '{"loss": 1}\n', "\x00\x00"])
    def test_half_a_line_of_a_run_that_was_killed_is_dropped(self, tmp_path, half):
        written(tmp_path, range(2))
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(half)
        written(tmp_path, [2], 2)
        assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2]

    def test_a_whole_last_line_without_its_end_stays_a_line(self, tmp_path):
        written(tmp_path, range(2))
        file = tmp_path / "metrics.jsonl"
        file.write_bytes(file.read_bytes().removesuffix(b"\n"))
        written(tmp_path, [2], 2)
        assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2]

    @pytest.mark.parametrize("odd", [b"\xff\xfe{", b'{"step": 1, "a": "\xed\xa0\x80"}'])
    def test_a_line_that_is_not_utf_8_is_dropped(self, tmp_path, odd):
        written(tmp_path, [0])
        with (tmp_path / "metrics.jsonl").open("ab") as file:
            file.write(odd + b'\n{"step": 1}\n')
        written(tmp_path, [2], 2)
        assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2]

    def test_nothing_else_is_left_in_the_folder(self, tmp_path):
        written(tmp_path, range(2))
        written(tmp_path, [2], 2)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]

    def test_a_run_killed_while_it_begins_anew_loses_nothing(self, tmp_path, monkeypatch):
        written(tmp_path, range(3))
        before = (tmp_path / "metrics.jsonl").read_bytes()

        def killed(self, target):
            raise KeyboardInterrupt

        monkeypatch.setattr("pathlib.Path.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Metrics(tmp_path, 2)
        assert (tmp_path / "metrics.jsonl").read_bytes() == before


class TestTensorBoard:
    def test_each_number_is_a_point_of_a_curve_each_student_s_its_own(self, tmp_path):
        metrics = Metrics(tmp_path)
        metrics.write(0, {"loss": [0.5, 0.25], "tokens": 8.0})
        metrics.write(5, {"loss": [0.125, 1.0]})
        metrics.close()
        assert scalars(tmp_path) == [
            ("loss/0", 0, 0.5),
            ("loss/1", 0, 0.25),
            ("tokens", 0, 8.0),
            ("loss/0", 5, 0.125),
            ("loss/1", 5, 1.0),
        ]

    def test_a_run_that_goes_on_purges_what_it_will_write_again(self, tmp_path):
        written(tmp_path, range(3))
        written(tmp_path, [2], 2)
        starts = [e.step for e in events(tmp_path) if e.session_log.status == e.session_log.START]
        assert starts[-1] == 2

    def test_students_without_a_number_have_no_point_and_null_in_the_line(self, tmp_path):
        metrics = Metrics(tmp_path)
        metrics.write(1, {"loss": [None, 2.0], "rate": None})
        metrics.close()
        assert lines(tmp_path) == [{"step": 1, "loss": [None, 2.0], "rate": None}]
        assert scalars(tmp_path) == [("loss/1", 1, 2.0)]

    def test_nan_is_written_and_stops_nothing(self, tmp_path):
        metrics = Metrics(tmp_path)
        metrics.write(0, {"loss": math.nan})
        metrics.write(1, {"loss": 1.0})
        metrics.close()
        assert math.isnan(lines(tmp_path)[0]["loss"])
        assert lines(tmp_path)[1]["loss"] == 1.0
        assert [step for _, step, _ in scalars(tmp_path)] == [0, 1]


class TestErrors:
    def test_a_folder_that_cannot_be_written_is_named_in_one_line(self, tmp_path):
        (tmp_path / "file").write_text("")
        message = r"file/run/metrics.jsonl: cannot be written: Not a directory$"
        with pytest.raises(UserError, match=message) as error:
            Metrics(tmp_path / "file" / "run")
        assert "\n" not in str(error.value)

    def test_a_full_disk_is_told_in_one_line(self, tmp_path):
        class Full:
            def write(self, text):
                raise OSError(28, "No space left on device")

        metrics = Metrics(tmp_path)
        file, metrics._file = metrics._file, Full()
        with pytest.raises(UserError, match=r"metrics.jsonl: cannot be written: No space left"):
            metrics.write(0, {"loss": 1.0})
        metrics._file = file
        metrics.close()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has it")
    def test_a_full_disk_at_tensorboard_s_file_is_told_in_one_line(self, tmp_path):
        metrics = Metrics(tmp_path)
        metrics._board._file.close()
        metrics._board._file = open("/dev/full", "wb")  # noqa: SIM115
        with pytest.raises(
            UserError, match=r"cannot be written: No space left .*: free some space"
        ):
            metrics.write(0, {"loss": 1.0})
        metrics.close()  # nothing more is said

    def test_wandb_that_is_not_installed_is_told_in_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(UserError, match=r"^wandb is not installed: pip install wandb") as error:
            Metrics(tmp_path / "run", wandb="project")
        assert "\n" not in str(error.value)
        written(tmp_path / "run", [0])  # nobody asked for it
        assert len(lines(tmp_path / "run")) == 1


def test_wandb_is_told_the_same_numbers(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)),
        finish=lambda: calls.append("finished"),
    )
    begun = {}

    def init(**more):
        assert more["dir"].is_dir()
        begun.update(more)
        return run

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    folder = tmp_path / "run"
    metrics = Metrics(folder, wandb="owls", config={"epochs": 3})
    metrics.write(4, {"loss": [None, 2.0], "rate": 0.5})
    metrics.close()
    assert (begun["project"], begun["config"], begun["dir"]) == ("owls", {"epochs": 3}, folder)
    assert calls == [(4, {"loss/1": 2.0, "rate": 0.5}), "finished"]
