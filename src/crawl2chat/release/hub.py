"""Models by their names on a hub: only the files that an import needs, kept in huggingface_hub's cache."""

import re
from pathlib import Path

from crawl2chat.stages.files import StageError

NOT_NEEDED = ["*/*", "consolidated*"]  # copies in folders (onnx/, original/), and Mistral's weights under other names
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(what: str) -> bool:
    """Whether this has the form ORGANISATION/NAME, which a path may have, too."""
    return bool(NAME.fullmatch(what)) and ".." not in what and "--" not in what and not what.endswith(".gguf")


def download(name: str, patterns: list[str], *, revision: str | None = None) -> Path:
    """Return the folder in huggingface_hub's cache that has a repository's files of these patterns.

    revision: a branch, a tag or a commit; None: the main branch. Its last part is the commit in any case.
    What is in the cache is not downloaded again; after a download that was cut, that is all but the files that were not
    complete. The library's own variables count: HF_HOME (where the cache is), HF_ENDPOINT (another hub), HF_TOKEN,
    HF_HUB_OFFLINE.
    Raises StageError if there is no such repository or revision, if it may not be read, and without a network.
    """
    from httpx2 import HTTPError  # what huggingface_hub speaks HTTP with
    from huggingface_hub import constants, errors, snapshot_download

    hub = constants.ENDPOINT
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=NOT_NEEDED))
    except errors.GatedRepoError as error:
        reason = f"is gated: accept its terms at {hub}/{name}, then log in with `hf auth login` or set HF_TOKEN"
        raise StageError(f"import: {name} {reason}") from error
    except errors.RevisionNotFoundError as error:
        raise StageError(
            f"import: {name} has no revision {revision!r} at {hub}; give --revision a branch, a tag or a whole commit"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise StageError(
            f"import: {name} is neither a folder here nor a model at {hub}; check the name. "
            "If it is private, log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        if _status(error.__cause__) in (401, 403):
            raise _refused(name, hub) from error
        raise StageError(
            f"import: {name} is not a folder here, not in huggingface_hub's cache ({constants.HF_HUB_CACHE}), and "
            f"{hub} can't be reached. Check the network, or download it elsewhere with "
            f"`hf download {name} --local-dir FOLDER` and import that folder"
        ) from error
    except errors.HFValidationError as error:
        raise StageError(f"import: {name} is neither a folder here nor a possible name of a model: {error}") from error
    except (HTTPError, OSError) as error:
        if _status(error) in (401, 403):
            raise _refused(name, hub) from error
        raise StageError(
            f"import: downloading {name} from {hub} failed: {str(error).splitlines()[0] if str(error) else error!r}; "
            "run the command again, it keeps the files that are complete"
        ) from error


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _refused(name: str, hub: str) -> StageError:
    return StageError(
        f"import: {hub} does not let you read {name}; log in with `hf auth login`, or set HF_TOKEN to a token that may"
    )
