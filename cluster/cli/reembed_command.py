"""``heimdex reembed``: other models for what is stored, what is missing filled in, back again, and old vectors dropped.

Which Ray embeds is decided here; how is ``cluster.reembed.run``'s.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.terminal import out, out_json, run, say, silent_output
from cluster.contracts.counts import counted
from cluster.contracts.database_url import DatabaseRole
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.search import Retriever
from cluster.runtime import launch
from cluster.runtime.ray_driver import RAY_NAMESPACE, RayPlace, connected, ray_of_this_process
from cluster.security.private_files import open_log, set_private_umask
from cluster.security.visible import guard_output
from cluster.settings import Settings, load_settings, pretrained_of
from cluster.store.postgres.connections import open_pool
from cluster.store.postgres.migrations import refuse_unmigrated

if TYPE_CHECKING:  # vectors bring numpy along: no other command should wait for its import
    from cluster.reembed.run import Outcome
    from cluster.store.index.model_registry import Models

SHOWN_FAILURES = 5

OpenDatabase = Callable[[Settings, DatabaseRole], AbstractContextManager[str]]


def command_in(
    open_database: OpenDatabase, open_ray: Callable[[Settings], AbstractContextManager[None]]
) -> Callable[..., None]:
    """The command, in these surroundings."""

    def reembed_scenes(
        vision: Annotated[
            str | None, typer.Option(metavar="MODEL", help="open_clip architecture, directory or `bundled`.")
        ] = None,
        pretrained: Annotated[
            str | None, typer.Option(metavar="TAG", help="open_clip weights of the architecture.")
        ] = None,
        text: Annotated[
            str | None, typer.Option(metavar="MODEL", help="sentence-transformers name, directory or `bundled`.")
        ] = None,
        allow_missing: Annotated[
            bool, typer.Option("--allow-missing", help="Switch although scenes failed, which are not found any more.")
        ] = False,
        rollback: Annotated[
            bool, typer.Option("--rollback", help="Go back to the models from before the last switch, at once.")
        ] = False,
        drop_old: Annotated[
            bool, typer.Option("--drop-old", help="Delete the vectors of all models but the active ones.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
    ) -> None:
        """Embed all scenes by other models and search by those then; no video is read again.

        Searches go on by the old models until every scene has a new vector,
        then all switch at once. What was interrupted goes on when
        the same command is started again. Without a model, what lacks vectors
        of the active ones is embedded. Tags stay as they are.

        Exit status 1: scenes could not be embedded, and nothing was switched.
        """
        from cluster.reembed.run import ReembedRequest, reembed  # here for a quick start of the other commands
        from cluster.search.active_models import ModelName

        _refuse_mixture(vision, pretrained, text, rollback, drop_old)
        settings = load_settings()
        with open_database(settings, DatabaseRole.MIGRATE if drop_old else DatabaseRole.WORKER) as url:
            if drop_old:
                drop_old_vectors(settings, url)
                return
            if rollback:
                _roll_back(url)
            named = {
                Retriever.PICTURE: vision and ModelName(vision, pretrained_of(vision, pretrained)),
                Retriever.MEANING: text and ModelName(text),
            }
            request = ReembedRequest({by: model for by, model in named.items() if model}, allow_missing)
            try:
                with silent_output():
                    outcome = reembed(settings, url, request, partial(open_ray, settings), say)
            except KeyboardInterrupt:
                say("Interrupted. What was embedded stays, searches are as before; the same command goes on from here.")
                raise typer.Exit(130) from None
        if as_json:
            counts = {
                "embedded": outcome.embedded,
                "failed": len(outcome.failures),
                "lacking": outcome.lacking,
                "switched": {by.value: model.key for by, model in outcome.switched.items()},
            }
            out_json(counts, indent=None)
        if not _report(outcome, say if as_json else out):
            raise typer.Exit(1)

    return reembed_scenes


def _refuse_mixture(
    vision: str | None, pretrained: str | None, text: str | None, rollback: bool, drop_old: bool
) -> None:
    if pretrained and not vision:
        raise typer.BadParameter("--pretrained is for --vision")
    if (rollback or drop_old) and (vision or text or (rollback and drop_old)):
        raise typer.BadParameter("--rollback and --drop-old take no other option")


def _roll_back(url: str) -> None:
    from cluster.store.index.model_registry import SearchModels, changing_alone

    with changing_alone(url), open_pool(url, max_size=1, name="heimdex-rollback") as pool:
        out(f"searches are by {_listed(SearchModels(pool).rollback())} again")


def drop_old_vectors(settings: Settings, url: str) -> None:
    """Drop the vectors of all models but the active ones, and their indexes in the engine beside Postgres.

    Raises:
        ConfigurationError: the settings name one of them.
    """
    from cluster.reembed.run import STATEMENT_TIMEOUT_S, configured_models
    from cluster.search.active_models import ModelName
    from cluster.store.index.model_registry import SETTINGS, SearchModels, State, changing_alone
    from cluster.store.opensearch.client import open_client
    from cluster.store.opensearch.rebuild import SearchIndexes

    with (
        changing_alone(url),
        open_pool(url, max_size=1, name="heimdex-drop", statement_timeout_s=STATEMENT_TIMEOUT_S) as pool,
    ):
        models = SearchModels(pool)
        for by, old in models.by_state()[State.PREVIOUS].items():
            configured = configured_models(settings)[by]
            if configured.chosen and configured == ModelName(old.name, old.pretrained):
                raise ConfigurationError(
                    f"{SETTINGS[by]}: still {old.name}, by which nothing could start without its vectors; set "
                    f"{models.active()[by].name} and start the cluster again, then drop them"
                )
        if settings.search_engine is not None:
            indexes = SearchIndexes(pool, url, open_client(settings.search_engine), settings.search_engine)
            indexes.drop_others(models.keys())
        out(f"{models.drop_old()} old vectors were dropped")


def _report(outcome: "Outcome", tell: Callable[[str], None]) -> bool:
    """Say what became of it; whether all is well."""
    from cluster.store.index.model_registry import SETTINGS

    tell(f"{counted(outcome.embedded, 'scene was', 'scenes were')} embedded")
    for scene_id, reason in list(outcome.failures.items())[:SHOWN_FAILURES]:
        say(f"scene {scene_id}: {reason}")
    if len(outcome.failures) > SHOWN_FAILURES:
        say(f"and {len(outcome.failures) - SHOWN_FAILURES} more")
    if outcome.lacking:
        say(f"{counted(outcome.lacking, 'scene has', 'scenes have')} no vector of these models")
    if outcome.switched:
        tell(f"searches are by {_listed(outcome.switched)} from now on")
        for by, model in outcome.switched.items():
            say(f"set {SETTINGS[by]} to {' and '.join(filter(None, (model.name, model.pretrained)))} from now on")
        say("`heimdex reembed --rollback` goes back, `heimdex reembed --drop-old` frees the disk space of the old ones")
    return not outcome.lacking or bool(outcome.switched)


def _listed(models: "Models") -> str:
    return " and ".join(f"{by} {model.key}" for by, model in models.items())


@contextmanager
def ray_at_hand(settings: Settings) -> Iterator[None]:
    """The cluster's that is up, else the one of the settings, else one of this process."""
    state = launch.find(settings)
    if state is not None:
        opened = connected(launch.ray_of(state))
    elif settings.ray_address is not None:
        opened = connected(RayPlace(settings.ray_address, ours=False))
    else:
        opened = ray_of_this_process(settings.cpus or os.cpu_count() or 1)
    with _ray_writes_into(settings.data_dir / "logs" / "reembed.log"), opened:
        yield


@contextmanager
def _ray_writes_into(log_file: Path) -> Iterator[None]:
    """What Ray says meanwhile, such as how it finds Ray Data's actors, goes into a file.

    That is what it writes to standard error past Python, and to standard output, where nothing else writes yet.
    """
    with open_log(log_file) as log, redirect_stdout(log), os.fdopen(os.dup(2), "w", buffering=1) as people:
        os.dup2(log.fileno(), 2)
        python, sys.stderr = sys.stderr, people
        try:
            yield
        finally:
            sys.stderr = python
            os.dup2(people.fileno(), 2)


@contextmanager
def _ray_of_the_job(_: Settings) -> Iterator[None]:
    import ray

    ray.init(namespace=RAY_NAMESPACE, log_to_driver=False)
    yield
    ray.shutdown()


@contextmanager
def _database_of_the_job(settings: Settings, role: DatabaseRole) -> Iterator[str]:
    url = launch.existing_database_url(settings, role)
    if url is None:
        raise ConfigurationError("no database: set HEIMDEX_DATABASE_URL, or start the cluster with `heimdex up`")
    refuse_unmigrated(url)
    yield url


reembed_scenes = command_in(launch.open_database, ray_at_hand)


def run_job() -> int:
    """The command within a job of Ray; its exit status."""
    set_private_umask()
    app = typer.Typer(add_completion=False)
    app.command()(command_in(_database_of_the_job, _ray_of_the_job))
    guard_output()
    return run(app)


if __name__ == "__main__":
    sys.exit(run_job())
