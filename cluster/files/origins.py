"""Which URIs are fetched for a submission, by where it came from; the last word before anything is opened.

What was submitted by HTTP was checked then by the same rules; the worker checks it again, since rows outlive settings.
In a row of ``videos`` that this cluster did not write, its writer chose the path: a file of its owner's
folder below the storage root is fetched, or what its owner could submit by HTTP as well.
"""

from dataclasses import replace
from uuid import UUID

from cluster.contracts.errors import InvalidVideo
from cluster.contracts.uris import scheme_of, shown
from cluster.contracts.videos import MAX_URI, Origin
from cluster.files.storage import FetchLimits
from cluster.files.storage_root import check_folder, check_own_folder, is_relative


def limits_for(uri: str, origin: Origin, owner_id: UUID, limits: FetchLimits) -> FetchLimits:
    """The limits that ``uri`` is fetched within: what is allowed to commands, narrowed to what its origin may have.

    Raises:
        InvalidVideo: nothing of this origin may have it; the sentence says what is allowed.
    """
    if len(uri) > MAX_URI:
        raise InvalidVideo(f"where it is, is said in more than {MAX_URI} characters: {shown(uri)[:100]}...")
    if origin.by_operator:
        check_folder(uri, owner_id)
        return limits
    if is_relative(uri):
        if origin is Origin.HTTP:
            _refuse(uri, owner_id, limits)
        check_own_folder(uri, owner_id)
        return limits
    if origin is Origin.ADOPTED and scheme_of(uri) == "file":
        raise InvalidVideo(f"a file of this machine is not read for a row that another system wrote: {shown(uri)}")
    _refuse(uri, owner_id, limits)
    return replace(limits, allowed_schemes=limits.http.schemes | {scheme_of(uri)})


def _refuse(uri: str, owner_id: UUID, limits: FetchLimits) -> None:
    refusal = limits.http.refusal(uri, owner_id)
    if refusal is not None:
        raise InvalidVideo(f"{refusal}: {shown(uri)}")
