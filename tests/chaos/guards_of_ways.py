"""The guards along a video's way: how attempts are bounded, whose fault a failure is, what is given up and cleaned up.

Those whose tests need a Ray are at the end.
"""

from tests.chaos.guards_trial import Guard

STAGES = "cluster/contracts/stages.py"
ATTEMPT = "actors/attempt/attempt.py"
WAY = "actors/attempt/pipeline.py"
WRITER = "actors/attempt/batch_writer.py"
WORKER = "actors/workers/worker.py"
POOLS = "actors/workers/pool.py"
TURNS = "actors/workers/turns.py"

_RULES = "tests/unit/test_stages.py::"
_FIRST = "tests/unit/test_first_failure.py::"
_ANSWERS = "tests/unit/test_stage_answers.py::"
_ATTEMPTS = "tests/integration/test_attempt.py::"
_LEDGER = "tests/integration/test_stage_ledger.py::"
_POOLS = "tests/cluster/test_pools.py::"
_TURNS = "tests/unit/test_pool_turns.py::"
_COUNTED_APART = f"{_RULES}test_errors_crashes_and_interruptions_are_counted_apart"
_BLAMED = f"{_ANSWERS}test_every_error_counts_as_what_it_is"

_BOUNDS = [
    Guard("an unreadable video is never retried", STAGES, "Blame.VIDEO: True", "Blame.VIDEO: False", (_COUNTED_APART,)),
    Guard("errors have a bound", STAGES, "setbacks.errors >= self.max_errors", "False", (_COUNTED_APART,)),
    Guard("crashes have a bound", STAGES, "setbacks.crashes >= self.max_crashes,", "False,", (_COUNTED_APART,)),
    Guard(
        "interruptions within an attempt have a bound",
        STAGES,
        "setbacks.interruptions >= self.max_interruptions",
        "False",
        (_COUNTED_APART,),
    ),
    Guard(
        "after all crashes but the last a video runs alone",
        STAGES,
        "return 0 < setbacks.crashes >= self.max_crashes - 1",
        "return setbacks.crashes < 0",
        (f"{_RULES}test_a_video_runs_alone_once_it_has_one_crash_left",),
    ),
    Guard(
        "the pause before another attempt has a bound",
        STAGES,
        "min(self.max_delay_s, self.first_delay_s * 2.0 ** (ended - 1))",
        "self.first_delay_s * 2.0 ** (ended - 1)",
        (f"{_RULES}test_back_off_doubles_to_its_bound_and_keeps_half",),
    ),
    Guard(
        "the pause before another attempt grows",
        STAGES,
        "self.first_delay_s * 2.0 ** (ended - 1)",
        "self.first_delay_s",
        (f"{_RULES}test_back_off_doubles_to_its_bound_and_keeps_half",),
    ),
    Guard(
        "a deadline grows with the video",
        STAGES,
        "return self.per_video_s * (duration_s or 0.0)",
        "return 0.0",
        (f"{_RULES}test_a_deadline_has_a_fixed_part_and_grows_with_the_video",),
    ),
    Guard(
        "the last attempt is the last",
        ATTEMPT,
        "if rule.is_final(setbacks, failure.blame):",
        "if rule.is_final(setbacks, failure.blame) and rule.max_errors < 0:",
        (f"{_ATTEMPTS}test_the_last_allowed_failure_is_final_and_names_its_stage",),
    ),
    Guard(
        "an attempt that runs alone says so to the workers",
        ATTEMPT,
        "            alone=self._alone,\n",
        "",
        (f"{_ATTEMPTS}test_video_runs_alone_after_two_crashes_and_fails_at_three",),
    ),
]

_FAULTS = [
    Guard(
        "a bad file is the video's fault",
        WORKER,
        "    (InvalidVideo, Blame.VIDEO),\n",
        "",
        (f"{_BLAMED}[error0-video]",),
    ),
    Guard(
        "a crash counts as a crash",
        WORKER,
        "    (WorkerCrash, Blame.CRASH),\n",
        "",
        (f"{_BLAMED}[error4-crash]", f"{_BLAMED}[error5-crash]", f"{_BLAMED}[error6-crash]"),
    ),
    Guard(
        "a fault of the cluster is an infrastructure failure",
        WORKER,
        "    (Interrupted, Blame.INTERRUPTION),\n",
        "",
        (f"{_BLAMED}[error7-interruption]", f"{_ATTEMPTS}test_a_node_that_died_costs_none_of_the_attempts"),
    ),
    Guard(
        "lost data is an infrastructure failure",
        WORKER,
        "if isinstance(error, ObjectLostError):",
        "if isinstance(error, ObjectLostError) and not str(error):",
        (f"{_ANSWERS}test_lost_or_full_cluster_is_no_failure_of_the_video",),
    ),
    Guard(
        "a full object store is an infrastructure failure",
        WORKER,
        "ObjectStoreFullError | OutOfDiskError):",
        "MemoryError):",
        (f"{_ANSWERS}test_lost_or_full_cluster_is_no_failure_of_the_video",),
    ),
    Guard(
        "a malformed result is found where it is made",
        WORKER,
        "if not isinstance(value, promised):",
        "if value is promised:",
        (f"{_ANSWERS}test_an_answer_of_another_type_than_promised_is_malformed",),
    ),
    Guard(
        "each part of a result is checked",
        WORKER,
        "Parts(_checked(part, promised) for part in value)",
        "Parts(value)",
        (f"{_ANSWERS}test_a_part_of_another_type_than_promised_is_malformed",),
    ),
    Guard(
        "control characters in messages",
        WORKER,
        'return text.replace("\\0", " ").encode(errors="replace").decode()',
        "return text",
        (f"{_ANSWERS}test_a_message_is_one_line_that_the_database_takes",),
    ),
    Guard(
        "of two failures the first is named",
        WAY,
        "raise min(failed, key=lambda failure: (_is_interruption(failure), failure.finished_at))",
        "raise failed[-1]",
        (f"{_FIRST}test_of_two_that_failed_the_first_is_named",),
    ),
    Guard(
        "a crash is told, not what it interrupted",
        WAY,
        "key=lambda failure: (_is_interruption(failure), failure.finished_at)",
        "key=lambda failure: failure.finished_at",
        (f"{_FIRST}test_crash_that_interrupts_its_neighbour_is_reported_first",),
    ),
    Guard(
        "the stage beside a failed one is given up",
        WAY,
        "        for task in tasks:\n            task.cancel()\n",
        "",
        (f"{_FIRST}test_the_one_beside_is_given_up_at_once",),
    ),
]

_REMAINS = [
    Guard(
        "a failed attempt removes its download",
        ATTEMPT,
        "            clear_traceback_frames(failed)\n            await self._discard()\n",
        "            clear_traceback_frames(failed)\n",
        (f"{_ATTEMPTS}test_a_failed_stage_is_settled_and_its_neighbour_given_up",),
    ),
    Guard(
        "an attempt that is broken off removes its download",
        ATTEMPT,
        "            await self._discard()\n            raise\n",
        "            raise\n",
        (
            f"{_ATTEMPTS}test_lost_lease_removes_the_download_and_writes_nothing",
            f"{_ATTEMPTS}test_a_cancelled_attempt_removes_its_download",
        ),
    ),
    Guard(
        "a stage's run is in the ledger before it begins",
        ATTEMPT,
        "        await self._open(run)\n        previous",
        "        previous",
        (f"{_ATTEMPTS}test_attempt_own_defect_leaves_the_video_to_the_reaper",),
    ),
    Guard(
        "what was closed is written before the attempt is settled",
        ATTEMPT,
        "        await self._written()\n        if rule",
        "        if rule",
        (f"{_ATTEMPTS}test_a_failure_is_in_the_ledger_before_its_video_is_settled",),
    ),
    Guard(
        "a transcript that is kept is not made twice",
        WAY,
        "if stage in video.stored:",
        "if stage not in Stage:",
        (f"{_ATTEMPTS}test_a_transcript_that_is_kept_is_not_made_again",),
    ),
    Guard(
        "scenes that are written are not made twice",
        WAY,
        "if Stage.INDEXING in video.stored:",
        "if Stage.INDEXING not in Stage:",
        (f"{_ATTEMPTS}test_scenes_that_are_written_are_not_made_again",),
    ),
    Guard(
        "the ledger waits for a database that is away",
        WRITER,
        "                await asyncio.sleep(RETRY_DELAY_S)",
        "                raise",
        (f"{_LEDGER}test_while_the_database_is_away_the_batch_waits",),
    ),
    Guard(
        "an attempt waits for a database that is away",
        ATTEMPT,
        "                await asyncio.sleep(delay_s)",
        "                raise",
        (
            "tests/integration/test_infrastructure_failures.py::test_a_failure_is_written_down_once_the_database_answers",
        ),
    ),
    Guard(
        "a disk that is full is told",
        ATTEMPT,
        "if failure.error_type == NoSpace.__name__:",
        "if not failure.error_type:",
        ("tests/integration/test_infrastructure_failures.py::test_a_full_disk_is_told_and_costs_no_attempt",),
    ),
    Guard(
        "one bad row of the ledger stops nobody else",
        WRITER,
        "                await self._write_each(batch)",
        '                _fail_all = [waiting.written.set_exception(LeaseLost("refused")) for waiting in batch]',
        (f"{_LEDGER}test_an_entry_that_the_database_refuses_fails_alone",),
    ),
    Guard(
        "the clock never goes back",
        "cluster/store/queue/stage_runs.py",
        "max(self._latest, self._zero + timedelta(seconds=time.monotonic()))",
        "self._zero + timedelta(seconds=time.monotonic())",
        (f"{_LEDGER}test_the_clock_never_goes_back_while_it_is_set_anew",),
    ),
    Guard(
        "a run is no longer than the time since it was ready",
        "cluster/store/queue/stage_runs.py",
        "min(closed.report.run_s, (closed.finished_at - closed.run.ready_at).total_seconds())",
        "closed.report.run_s",
        (f"{_LEDGER}test_a_run_longer_than_the_time_since_ready_is_cut",),
    ),
]

_RECOGNIZER = "tests/unit/test_recognizer.py::"
_SPEECH = [
    Guard(
        "doubtful words are recognised again",
        "actors/stages/recognizer.py",
        "if first.is_doubtful(utterance.spoken_s) and",
        "if not first.words and first.is_doubtful(utterance.spoken_s) and",
        (f"{_RECOGNIZER}test_recognizer_doubtful_words_are_asked_for_again",),
    ),
    Guard(
        "a loop is cut",
        "actors/stages/recognizer.py",
        "return list(utterance.in_video(without(best.words, best.loops)))",
        "return list(utterance.in_video(best.words))",
        (f"{_RECOGNIZER}test_recognizer_loop_that_remains_loses_its_copies",),
    ),
    Guard(
        "guesses in silence are no words",
        "actors/stages/recognizer.py",
        "        if _is_silence(candidates):\n",
        "        if not candidates:\n",
        (f"{_RECOGNIZER}test_recognizer_guesses_in_silence_are_left_out",),
    ),
    Guard(
        "a chant that is like a loop in silence is recognised in pieces",
        "actors/stages/recognizer.py",
        "            if not any(one.is_sure for one in candidates):\n                return []\n",
        "            return []\n",
        (f"{_RECOGNIZER}test_recognizer_chant_like_a_loop_is_heard_in_pieces[-0.2-0.03-2]",),
    ),
    Guard(
        "words are aligned for each utterance alone",
        "cluster/models/whisper.py",
        "self._aligned(encoded[number : number + 1], result",
        "self._aligned(encoded[:1], result",
        ("tests/unit/test_real_voices.py::test_words_beside_any_neighbours_are_the_same",),
    ),
]

_DOWNLOADS = [
    Guard(
        "nobody waits long for a removal",
        "actors/maintenance/downloads.py",
        "await asyncio.wait({removal}, timeout=SOON_S)",
        "await asyncio.wait({removal})",
        ("tests/integration/test_downloads.py::test_video_is_ready_although_its_node_is_busy",),
    ),
    Guard(
        "a death over a removal is nobody's",
        "actors/maintenance/downloads.py",
        "        except (WorkerCrash, Interrupted) as error:\n            logger.warning(Event.DOWNLOAD_NOT",
        "        except Interrupted as error:\n            logger.warning(Event.DOWNLOAD_NOT",
        ("tests/integration/test_downloads.py::test_worker_that_dies_removing_a_file_costs_no_attempt",),
    ),
    Guard(
        "downloads of attempts under way are not swept away",
        "actors/maintenance/downloads.py",
        "[key for key in keys if key not in live]",
        "keys",
        ("tests/integration/test_downloads.py::test_what_no_lease_is_for_is_swept_away",),
    ),
    Guard(
        "what cannot be swept away is left alone",
        "actors/maintenance/downloads.py",
        "if self._failed[key] < MAX_TRIES:",
        "if self._failed[key] >= 0:",
        ("tests/integration/test_downloads.py::test_what_kills_whoever_removes_it_is_left_alone_in_the_end",),
    ),
]

_ON_RAY = [
    Guard(
        "a call past its deadline is given up",
        POOLS,
        "async with asyncio.timeout(deadline_s):",
        "async with asyncio.timeout(None):",
        (f"{_POOLS}test_a_call_past_its_deadline_is_ended_with_its_worker",),
        on_ray=True,
    ),
    Guard(
        "a worker past its deadline is killed",
        POOLS,
        "            self._replace(worker, ended, batch)\n            _fail(batch, StageTimeout(sentence))",
        "            _fail(batch, StageTimeout(sentence))",
        (f"{_POOLS}test_a_call_past_its_deadline_is_ended_with_its_worker",),
        on_ray=True,
    ),
    Guard(
        "what runs alone is taken alone",
        TURNS,
        "if item.alone or len(batch) == most:",
        "if len(batch) == most:",
        (f"{_POOLS}test_what_runs_alone_shares_its_worker_with_nobody",),
        on_ray=True,
    ),
    Guard(
        "what runs alone joins no batch",
        TURNS,
        "if item.alone or item.call != first.call or",
        "if item.call != first.call or",
        (f"{_POOLS}test_what_runs_alone_shares_its_worker_with_nobody",),
        on_ray=True,
    ),
    Guard(
        "who shares a call is charged by weight",
        WORKER,
        "share.weight / whole if whole > 0 else 1 / batch_size",
        "1 / batch_size",
        (f"{_POOLS}test_shared_call_is_charged_by_weight_and_isolates_faults",),
        on_ray=True,
    ),
    Guard(
        "a call is shared up to its expected run",
        TURNS,
        "return sum(map(self._expected_s, (item, *batch))) <= SHARED_CALL_S",
        "return True",
        (f"{_TURNS}test_pool_bounds_a_shared_call_by_its_expected_run",),
    ),
    Guard(
        "urgent calls go first",
        TURNS,
        "return not item.turn.urgent, group[1],",
        "return False, group[1],",
        (f"{_TURNS}test_pool_takes_urgent_items_first",),
    ),
    Guard(
        "a call is shared up to a size",
        TURNS,
        "if item.size + sum(other.size for other in batch) > self.limits.get(item.call, ALONE).size:",
        "if False:",
        (f"{_POOLS}test_items_share_a_call_up_to_a_size_large_ones_run_alone",),
        on_ray=True,
    ),
    Guard(
        "of a batch only the item at fault fails",
        WORKER,
        "if len(items) > 1 and all(reply.report.failure for reply in replies)",
        "if len(items) < 0 and all(reply.report.failure for reply in replies)",
        (f"{_POOLS}test_the_item_at_fault_in_a_batch_is_found_alone",),
        on_ray=True,
    ),
    Guard(
        "a worker whose device is broken is given nothing more",
        POOLS,
        "worker.is_spent |= any(map(is_device_failure, replies))",
        "worker.is_spent |= False",
        (f"{_POOLS}test_a_device_error_ends_the_process_and_costs_nobody_else",),
        on_ray=True,
    ),
    Guard(
        "an item goes to the node that holds its file",
        TURNS,
        "if item.node_id not in (None, node_id) or (",
        "if item.call is None or (",
        (f"{_TURNS}test_item_for_a_node_is_taken_by_its_workers_only",),
    ),
]

WAYS = [*_BOUNDS, *_FAULTS, *_REMAINS, *_SPEECH, *_DOWNLOADS, *_ON_RAY]
