"""Forbidden sources are refused, and no connection is made on the way: URIs, and files that name URIs."""

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import av
import pytest

from actors.stages.media_reader import MediaReader
from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.contracts.media import LocalVideo, MediaLimits
from cluster.files.storage import fetch
from tests.chaos.refused_uris import LIMITS, REFUSED, run
from tests.chaos.watched_network import watched_network


@pytest.mark.parametrize("seed", [1, 2])
def test_what_must_be_refused_is_refused_and_connects_to_nothing(seed: int) -> None:
    counts = run(seed)
    assert counts.violations == []
    assert counts.cases > len(REFUSED) >= 60


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "127.0.0.2"])
def test_a_connection_would_be_seen(tmp_path: Path, host: str) -> None:
    opened = tuple(ip_network(network) for network in ("127.0.0.0/8", "::1/128"))
    with watched_network({}) as watch:
        with pytest.raises(TransientFailure):
            fetch(f"http://{host}:{watch.port}/a", tmp_path, replace(LIMITS, timeout_s=0.2, private_networks=opened))
        assert watch.seen() == [f"tried to connect to {host.strip('[]')}", f"connected to {host.strip('[]')}"]
        assert watch.seen() == []


PLAYLISTS = {
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n",
    "variants.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    "key.m3u8": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:9,\na.ts\n',
    "map.m3u8": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MAP:URI="{url}"\n#EXTINF:9,\na.mp4\n',
    "script.ffconcat": "ffconcat version 1.0\nfile '{url}'\n",
    "session.sdp": "v=0\nu={url}\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 0 RTP/AVP 96\n",
    "manifest.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet contentType="video"><Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "entry.asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "reference.mov": "RTSPtextRTSP://{url}",
}


@pytest.mark.parametrize("suffix", ["", ".mp4"])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_file_naming_a_url_is_refused_without_opening_it(tmp_path: Path, name: str, suffix: str) -> None:
    limits = MediaLimits(max_duration_s=60, max_pixels=10**6, max_fps=60, max_streams=4, max_bytes=10**6)
    reader = MediaReader(limits)
    with watched_network({}) as watch:
        path = tmp_path / f"{name}{suffix}"
        path.write_text(PLAYLISTS[name].replace("{url}", f"http://127.0.0.1:{watch.port}/a.ts"))
        with pytest.raises(InvalidVideo, match=r"^not a media file"):
            reader.probe(LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False))
        assert watch.seen() == []


def test_the_listener_would_see_ffmpeg(tmp_path: Path) -> None:
    with watched_network({}) as watch:
        path = tmp_path / "playlist.m3u8"
        path.write_text(PLAYLISTS[path.name].replace("{url}", f"http://127.0.0.1:{watch.port}/a.ts"))
        with pytest.raises(av.error.FFmpegError):
            av.open(str(path), container_options={"protocol_whitelist": "file,http,tcp"}, timeout=0.5)
        assert "connected to 127.0.0.1" in watch.seen()
