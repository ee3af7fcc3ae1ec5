"""``heimdex demo``: the bundled clips through the whole way with the bundled models, then one question of each kind.

Runs in a data directory of its own, on free ports, beside whatever else is up; at the end nothing is left running.
"""

import hashlib

from cluster.cli.report import print_failures, print_summary, print_warnings
from cluster.cli.search_command import open_search, show_hits
from cluster.cli.terminal import error_console, out, out_lines, say
from cluster.cli.watch import watch
from cluster.contracts.search import Scope
from cluster.contracts.videos import Submission
from cluster.demo import Query, clips, queries
from cluster.models.bundled import bundled_vision_directory
from cluster.runtime import launch
from cluster.search.service import SearchRequest, SearchService
from cluster.security.visible import visible
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.queue.submissions import submit
from cluster.store.videos.progress import read_results

NEXT_STEPS = """
What to try next
  heimdex up                      bring a cluster up that stays (where no model hub can be reached, first:
                                  export HEIMDEX_MODELS=bundled)
  heimdex process VIDEO...        your own videos: files, folders, http(s)://, s3://
  heimdex search "what was said or seen"
  make notebook                   where the time goes, in plots
The demo's database and pictures stay in {directory} (run it again, or delete the folder).
The bundled vision model knows shapes, colours and places of these clips only; real videos want a real one.
"""


def run_demo() -> int:
    """Run the demo; returns the exit status: 0 when every clip is READY and both questions found their scene."""
    settings = demo_settings()
    say(f"The demo works in {settings.data_dir}.")
    state = launch.up(settings, say)
    try:
        with open_pool(state.database_url, max_size=2, name="heimdex-demo") as pool:
            ids = submit(pool, settings.resolved_owner_id, [Submission(uri=str(clip)) for clip in clips()])
            watch(pool, ids, error_console())
            results = read_results(pool, ids)
            print_summary(results)
            print_warnings(results)
            print_failures(results)
            found = _ask(settings, pool)
    finally:
        launch.down(settings, say)
    out_lines(NEXT_STEPS.format(directory=visible(settings.data_dir)))
    return 0 if found and all(result["status"] == "READY" for result in results) else 1


def demo_settings() -> Settings:
    """The settings of the demo: bundled models, free ports, a folder below the data directory for each such model.

    A newer version's vision model does not search the scenes that an earlier one embedded.
    """
    weights = (bundled_vision_directory() / "open_clip_model.safetensors").read_bytes()
    return load_settings(
        data_dir=load_settings().data_dir / f"demo-{hashlib.sha256(weights).hexdigest()[:6]}",
        whisper_model="bundled",
        clip_model="bundled",
        text_model="bundled",
        http_port=0,
        dashboard_port=0,
        object_store_mb=256,
    )


def _ask(settings: Settings, pool: Pool) -> bool:
    """One spoken and one visual question; whether each found its scene first."""
    service = open_search(settings, pool)
    spoken = next(query for query in queries() if query.kind == "spoken")
    visual = next(query for query in queries() if query.kind == "visual")
    return all([_found(service, settings, spoken, "What was said"), _found(service, settings, visual, "What is seen")])


def _found(service: SearchService, settings: Settings, query: Query, title: str) -> bool:
    results = service.search(SearchRequest(Scope(settings.resolved_owner_id), query.text, limit=3))
    out()
    out(f'{title}: "{query.text}"')
    show_hits(results)
    first = results.hits[0].scene if results.hits else None
    right = first is not None and (first.filename, first.index) == (query.clip.name, query.scene)
    if not right:
        say(f"expected scene {query.scene} of {query.clip.name} first")
    return right
