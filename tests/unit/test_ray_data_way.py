"""The pipeline of Ray Data that `make bench` compares with: when it begins."""

from pathlib import Path

from tests.benchmarks.ray_data_way import Media, Rendezvous, Speech, Vision, Writer


def test_pipeline_begins_once_its_own_actors_have_loaded(tmp_path: Path) -> None:
    rendezvous = Rendezvous(tmp_path)
    for actor in (Media, Speech, Vision, Writer):
        assert not rendezvous.are_all_loaded()
        rendezvous.note_loaded(actor.kind)
    assert rendezvous.are_all_loaded()
