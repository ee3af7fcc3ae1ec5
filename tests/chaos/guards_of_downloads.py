"""Guards of downloads: what keeps one owner's sources from the others' videos, and leaves nothing behind."""

from tests.chaos.guards_trial import Guard

DEADLINE = "cluster/files/deadline.py"
SPACE = "cluster/files/disk_space.py"
COPY = "cluster/files/copied_file.py"
STORAGE = "cluster/files/storage.py"
FETCHER = "actors/stages/fetcher.py"
FETCHERS = "actors/workers/fetchers.py"
SLOTS = "actors/workers/fetch_slots.py"
QUEUE = "cluster/store/queue/video_queue.py"

_CLOCK = "tests/unit/test_fetch_clock.py::"
_DISK = "tests/unit/test_disk_space.py::"
_NODE = "tests/unit/test_fetcher.py::"
_PLAYED = "tests/unit/test_fetchers.py::"
_PLACES = "tests/unit/test_fetch_slots.py::"
_FAIR = "tests/integration/test_queue_fairness.py::"

DOWNLOADS = [
    Guard(
        "a source must keep its pace",
        DEADLINE,
        "if self._received < wanted:",
        "if wanted < 0:",
        (
            f"{_CLOCK}test_a_source_must_keep_its_pace_in_every_window",
            f"{_NODE}test_a_source_that_drips_is_given_up_after_a_window[chunks]",
        ),
    ),
    Guard(
        "a source is not charged with a slow disk",
        DEADLINE,
        "self._window_end_s += time.monotonic() - since_s",
        "self._window_end_s += 0.0",
        (f"{_CLOCK}test_a_pace_does_not_count_the_time_of_this_machine",),
    ),
    Guard(
        "a download that is stopped ends",
        DEADLINE,
        '        if self._stopped.is_set():\n            raise Interrupted("the download was stopped")\n',
        "",
        (f"{_NODE}test_a_discarded_download_ends_soon_and_leaves_nothing[fast]",),
    ),
    Guard(
        "an owner's downloads leave room for the others'",
        SPACE,
        "return min(free, self._owner_share * (free + held) - held)",
        "return free",
        (
            f"{_DISK}test_an_owner_holds_no_more_than_its_share",
            f"{_NODE}test_bodies_without_end_leave_room_for_others",
        ),
    ),
    Guard(
        "reserved bytes are not given twice",
        SPACE,
        "free = disk.free - kept - sum(each.reserved - each.written for each in self._held)",
        "free = disk.free - kept",
        (f"{_DISK}test_an_owner_holds_no_more_than_its_share",),
    ),
    Guard(
        "downloads leave some of the disk free",
        SPACE,
        "if self._keeps_free else 0",
        "if not self._keeps_free else 0",
        (f"{_DISK}test_downloads_leave_some_of_the_disk_free",),
    ),
    Guard(
        "a body without length reserves as it comes",
        COPY,
        "if self.size + len(chunk) > self._reservation.reserved:",
        "if self.size < 0:",
        (f"{_NODE}test_bodies_without_end_leave_room_for_others",),
    ),
    Guard(
        "bytes are returned with the file",
        FETCHER,
        "            self._space.release(kept.reservation)\n",
        "            pass\n",
        (f"{_NODE}test_bodies_without_end_leave_room_for_others",),
    ),
    Guard(
        "a file that is discarded when it comes is removed",
        FETCHER,
        "            if not kept.ended.is_set():\n                return\n",
        "            return\n",
        (f"{_NODE}test_a_download_that_was_discarded_when_complete_is_removed",),
    ),
    Guard(
        "an owner has its number of places",
        SLOTS,
        "return of_owner < self.limit.per_owner and ",
        "return ",
        (f"{_PLACES}test_slots_of_one_owner_have_a_limit_per_node",),
    ),
    Guard(
        "an owner leaves places to the others",
        SLOTS,
        "if of_owner else 0",
        "* 0",
        (f"{_PLACES}test_slots_never_all_go_to_one_owner[100-4]",),
    ),
    Guard(
        "owners with fewest downloads are next",
        FETCHERS,
        "self._slots.taken_by(download.turn.owner_id), ",
        "0, ",
        (f"{_PLAYED}test_owners_with_fewest_downloads_are_next",),
    ),
    Guard(
        "a cancelled download is stopped",
        FETCHERS,
        "            if download in self._running and not self._closed:\n",
        "            if self._closed:\n",
        (f"{_PLAYED}test_cancelled_download_stops_and_keeps_its_slot_until_then",),
    ),
    Guard(
        "what a lost download left is removed",
        FETCHERS,
        "            self._background(self._remove(key, node_id))\n",
        "            pass\n",
        (f"{_PLAYED}test_a_fetcher_that_dies_loses_its_downloads_and_their_files",),
    ),
    Guard(
        "a suspected download has a process of its own",
        FETCHERS,
        "download.fetcher = self._processes.start(fetcher.node_id)",
        "pass",
        (f"{_PLAYED}test_a_suspected_download_runs_in_a_process_of_its_own",),
    ),
    Guard(
        "a fetcher that hangs lets its other downloads end",
        FETCHERS,
        "            self._processes.retire(fetcher)\n",
        "            self._processes.bury(fetcher)\n",
        (f"{_PLAYED}test_a_download_that_hangs_harms_no_other",),
    ),
    Guard(
        "an owner whose file has no room is paused",
        FETCHERS,
        "            self._pauses.note_no_room(owner_id)\n",
        "            pass\n",
        (f"{_PLAYED}test_claims_are_capped_by_owner_downloads_and_disk",),
    ),
    Guard(
        "what an owner downloads caps what is claimed",
        QUEUE,
        "LIMIT least(%(limit)s, m.cap, ",
        "LIMIT least(%(limit)s, ",
        (f"{_FAIR}test_an_owner_with_a_cap_is_claimed_up_to_it",),
    ),
    Guard(
        "what an owner downloads caps its urgent videos",
        QUEUE,
        "greatest(least(m.cap, %(owner_cap)s - coalesce(h.videos, 0))",
        "greatest(least(%(owner_cap)s - coalesce(h.videos, 0))",
        (f"{_FAIR}test_urgent_videos_of_an_owner_with_a_cap_are_capped",),
    ),
    Guard(
        "a slow download saves no turns up",
        "actors/scheduler/scheduler.py",
        "            self._shares.leave(video.lease_token)\n            self._wake.set()\n",
        "            self._wake.set()\n",
        ("tests/integration/test_waiting.py::test_a_slow_download_saves_its_owner_no_turns_up",),
    ),
    Guard(
        "a video whose file is slow to come takes no room",
        "actors/scheduler/admission.py",
        "        self.note_ended(token)\n        self._slow[token] = video\n",
        "        self._slow[token] = video\n",
        ("tests/unit/test_admission.py::test_a_video_whose_file_is_slow_to_come_takes_no_room",),
    ),
    Guard(
        "media workers copy nothing",
        STORAGE,
        '        if scheme_of(found) != "file":\n            raise InvalidVideo(f"not a file',
        '        if not found:\n            raise InvalidVideo(f"not a file',
        ("tests/unit/test_storage.py::test_a_file_is_located_without_copying_and_nothing_else_is",),
    ),
    Guard(
        "media workers get no key",
        STORAGE,
        "storage_root=None if root is None else StorageRoot(root.url)",
        "storage_root=root",
        ("tests/unit/test_plan.py::test_only_fetchers_are_given_the_storage_key",),
    ),
]
