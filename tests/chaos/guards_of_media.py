"""The guards around FFmpeg: what it may open, how large and long a file may be, how much memory it may take."""

from tests.chaos.guards_trial import Guard

FILE = "actors/stages/media_file.py"
READER = "actors/stages/media_reader.py"
SURVEY = "actors/stages/survey.py"
SOURCE = "actors/stages/media_source.py"
MEMORY = "actors/stages/memory_watch.py"
INDEX = "actors/stages/mp4_index.py"

_READER = "tests/unit/test_media_reader.py::"
_BOUNDS = "tests/unit/test_media_bounds.py::"
_WATCH = "tests/unit/test_memory_watch.py::"
_LIMIT = f"{_READER}test_limits_are_checked_and_named"
_WHITELISTS = (
    'container_options={"protocol_whitelist": "file", "format_whitelist": f"{VIDEO_FORMATS},{AUDIO_FORMATS}"},'
)

MEDIA = [
    Guard(
        "FFmpeg's formats",
        FILE,
        _WHITELISTS,
        'container_options={"protocol_whitelist": "file"},',
        (f"{_READER}test_a_concat_script_is_refused",),
    ),
    Guard(
        "FFmpeg's protocols",
        FILE,
        _WHITELISTS,
        'container_options={"format_whitelist": f"{VIDEO_FORMATS},{AUDIO_FORMATS}"},',
        (f"{_BOUNDS}test_a_playlist_that_got_through_leads_to_no_other_host",),
    ),
    Guard(
        "pixels, before anything is decoded",
        SURVEY,
        "if stream.width * stream.height > limit:",
        "if stream.width < 0:",
        (f"{_LIMIT}[limit0-the pictures have 160 x 120 pixels, the limit is 10,000 pixels]",),
    ),
    Guard(
        "pictures per second",
        SURVEY,
        "if fps > limits.max_fps * FPS_TOLERANCE:",
        "if fps < 0:",
        (f"{_LIMIT}[limit1-the video has 25 pictures per second, the limit is 10]",),
    ),
    Guard(
        "duration",
        SURVEY,
        "if duration_s is not None and duration_s > limits.max_duration_s:",
        "if duration_s is not None and duration_s < 0:",
        (f"{_LIMIT}[limit2-the video lasts 1.0 s, the limit is 0.5 s]",),
    ),
    Guard(
        "duration, as it comes",
        FILE,
        "if end_s > max_duration_s + EXTENT_SLACK_S:",
        "if end_s < 0:",
        (f"{_BOUNDS}test_sound_that_runs_on_past_the_limit_is_refused",),
    ),
    Guard(
        "streams",
        SURVEY,
        "if len(container.streams) > self._limits.max_streams:",
        "if len(container.streams) < 0:",
        (f"{_BOUNDS}test_streams_of_a_file_without_an_index_are_counted",),
    ),
    Guard(
        "bytes",
        READER,
        "if video.size_bytes > self._limits.max_bytes:",
        "if video.size_bytes < 0:",
        (f"{_READER}test_the_size_limit_is_checked_and_named",),
    ),
    Guard(
        "data to the first picture",
        SURVEY,
        "elif self._bytes > MOST_TO_FIRST_PICTURE_BYTES or self._passed_s(packet) > LONGEST_TO_FIRST_PICTURE_S:",
        "elif self._passed_s(packet) > LONGEST_TO_FIRST_PICTURE_S:",
        (f"{_BOUNDS}test_what_shows_nothing_for_long_is_given_up[MOST_TO_FIRST_PICTURE_BYTES-100]",),
    ),
    Guard(
        "time to the first picture",
        SURVEY,
        "elif self._bytes > MOST_TO_FIRST_PICTURE_BYTES or self._passed_s(packet) > LONGEST_TO_FIRST_PICTURE_S:",
        "elif self._bytes > MOST_TO_FIRST_PICTURE_BYTES:",
        (f"{_BOUNDS}test_what_shows_nothing_for_long_is_given_up[LONGEST_TO_FIRST_PICTURE_S-0.2]",),
    ),
    Guard(
        "an index is judged before it is built",
        READER,
        "            check_index(video.path, self._limits)\n",
        "            pass\n",
        (f"{_BOUNDS}test_probing_judges_the_index_first",),
    ),
    Guard(
        "an index of too many samples",
        INDEX,
        "if samples > most:",
        "if samples < 0:",
        (f"{_BOUNDS}test_index_of_billions_of_pictures_is_refused_unbuilt",),
    ),
    Guard(
        "an index of too many streams",
        INDEX,
        "if streams > limits.max_streams:",
        "if streams < 0:",
        (f"{_BOUNDS}test_index_of_too_many_streams_is_refused_unbuilt",),
    ),
    Guard(
        "an index without end",
        INDEX,
        "if count == MOST_ATOMS:",
        "if count < 0:",
        (f"{_BOUNDS}test_an_index_without_end_is_refused",),
    ),
    Guard(
        "memory: what a file grows by",
        MEMORY,
        "if self._resident.so_far() > LARGEST_GROWTH_BYTES:",
        "if self._resident.so_far() < 0:",
        (f"{_WATCH}test_a_file_that_grows_beyond_the_bound_is_refused",),
    ),
    Guard(
        "memory: what the kernel lets it reserve",
        MEMORY,
        "        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))\n",
        "        pass\n",
        (f"{_WATCH}test_kernel_refuses_a_large_step_and_grants_it_afterwards",),
    ),
    Guard(
        "memory: a stricter bound of the machine's",
        MEMORY,
        "soft = bound_bytes if soft == resource.RLIM_INFINITY else min(soft, bound_bytes)",
        "soft = bound_bytes",
        (f"{_WATCH}test_a_stricter_bound_of_the_machines_is_kept",),
    ),
    Guard(
        "memory: one block of FFmpeg's",
        SOURCE,
        "        bound_memory()\n",
        "",
        (f"{_BOUNDS}test_ffmpeg_gets_no_block_larger_than_the_bound",),
    ),
    Guard(
        "memory: looked at while a file is read",
        SOURCE,
        "        self.memory.check()\n        wanted =",
        "        wanted =",
        (f"{_BOUNDS}test_memory_is_looked_at_whenever_ffmpeg_reads",),
    ),
    Guard(
        "memory: looked at packet by packet",
        FILE,
        "            yield packet\n            media.memory.check()\n",
        "            yield packet\n",
        (f"{_BOUNDS}test_memory_is_looked_at_packet_by_packet",),
    ),
    Guard(
        "what is discarded lies in the scratch folder",
        "actors/stages/fetcher.py",
        "self._scratch_dir / Path(key).name",
        "self._scratch_dir / key",
        ("tests/unit/test_fetcher.py::test_nothing_beyond_the_scratch_folder_is_discarded",),
    ),
    Guard(
        "what FFmpeg says becomes a sentence about the file",
        FILE,
        "    except (av.error.FFmpegError, MemoryError) as error:\n",
        "    except KeyboardInterrupt as error:\n",
        (f"{_BOUNDS}test_read_error_is_the_files_or_the_machines",),
    ),
]
