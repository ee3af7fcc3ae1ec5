"""The record of which cluster is up: whole at every moment for every reader; of one that died it is no cluster."""

import json
from dataclasses import replace
from pathlib import Path

import psutil

from cluster.runtime.launch import ClusterState, _record, find
from cluster.runtime.ray_node import RayNode
from cluster.settings import Settings, load_settings

STATE = ClusterState("0.1.0", "postgresql://host/db", "127.0.0.1:6379", None, "http://127.0.0.1:8000", node=None)


def settings_in(folder: Path) -> Settings:
    return load_settings(data_dir=folder)


def test_what_was_recorded_is_found(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert find(settings) is None
    _record(settings, STATE)
    assert find(settings) == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]


def test_record_being_read_is_replaced_not_written_into(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    _record(settings, STATE)
    with (tmp_path / "cluster.json").open() as reading:
        _record(settings, replace(STATE, http_url="http://127.0.0.1:9000"))
        assert json.load(reading)["http_url"] == STATE.http_url
    assert find(settings) == replace(STATE, http_url="http://127.0.0.1:9000")


def test_the_record_of_a_node_that_died_is_no_cluster(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    _record(settings, replace(STATE, node=RayNode(2**22 + 1, 0.0, "127.0.0.1:6379", "http://127.0.0.1:8265")))
    assert find(settings) is None


def test_reused_process_id_is_not_taken_for_a_cluster(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    ours = psutil.Process()
    _record(settings, replace(STATE, node=RayNode(ours.pid, ours.create_time(), "127.0.0.1:6379", "http://host")))
    assert find(settings) is not None
    _record(settings, replace(STATE, node=RayNode(ours.pid, ours.create_time() - 60, "127.0.0.1:6379", "http://host")))
    assert find(settings) is None
