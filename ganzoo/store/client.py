"""The client of the Hugging Face Hub, with timeouts, retries and errors of one kind.

The client itself has no timeout on most requests and retries only some calls. Here, every request has a timeout and the
other calls are retried too.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ganzoo.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WAITS = (0.5, 1, 2, 4)
"""Seconds before each retry of a call that failed for a passing reason."""
LONGEST_WAIT = 30
"""The longest Retry-After that is honoured, in seconds."""
TIMEOUT = 30
"""Seconds to wait for an answer to a request."""
PASSING = (408, 429, 500, 502, 503, 504)
"""Status codes of passing failures."""

T = TypeVar("T")


class HubUnreachable(HubError):
    """The Hub does not answer, so that a cached copy may be used."""


def hub_client() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(library_name="ganzoo")


@contextlib.contextmanager
def calling(repo_id: str, verb: str) -> Iterator[None]:
    """In the block, requests to the Hub have a timeout, and errors of the client become a HubError.

    Args:
        repo_id: the repository, for the message.
        verb: the action, for the message, such as "fetch".
    """
    with _timeouts(), _errors(repo_id, verb):
        yield


@contextlib.contextmanager
def _timeouts() -> Iterator[None]:
    """A timeout for the requests that have none: the client asks for "none" explicitly, so a default would not do."""
    from huggingface_hub import get_session

    def limit(request: Any) -> None:
        own = request.extensions.get("timeout") or {}
        phases = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {p: TIMEOUT if own.get(p) is None else own[p] for p in phases}

    session = get_session()
    before = session.event_hooks
    session.event_hooks = {**before, "request": [*before["request"], limit]}
    try:
        yield
    finally:
        session.event_hooks = before


def patiently(call: Callable[[], T]) -> T:
    """Retry a call that fails for a passing reason, with growing waits."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for wait in WAITS:
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code not in PASSING:
                raise
            seconds = error.response.headers.get("Retry-After", "")
            time.sleep(min(float(seconds), LONGEST_WAIT) if seconds.isdigit() else wait)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            time.sleep(wait)
    return call()


@contextlib.contextmanager
def _errors(repo_id: str, verb: str) -> Iterator[None]:
    """Turn every error of the client into a HubError that names the cause."""
    import httpx2
    from huggingface_hub import errors as hf

    try:
        yield
    except hf.GatedRepoError as error:
        raise HubError(f"{repo_id} is gated: ask for access on its page, then log in with `hf auth login`") from error
    except hf.RepositoryNotFoundError as error:
        hint = "check the name; if it is private, log in with `hf auth login` or set HF_TOKEN"
        raise HubError(f"cannot {verb} {repo_id}: no such repository, or no access to it: {hint}") from error
    except hf.RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no such revision: name a branch, a tag or a commit") from error
    except hf.OfflineModeIsEnabled as error:
        raise HubUnreachable(f"cannot {verb} {repo_id}: HF_HUB_OFFLINE is set") from error
    except hf.HfHubHTTPError as error:
        raise _status_error(error, repo_id, verb) from error
    except hf.LocalEntryNotFoundError as error:  # the client raises it for many things; its cause says which
        cause = error.__cause__
        if isinstance(cause, hf.HfHubHTTPError):
            raise _status_error(cause, repo_id, verb) from error
        raise HubUnreachable(f"cannot {verb} {repo_id}: the Hub does not answer") from error
    except (httpx2.HTTPError, ConnectionError) as error:
        raise HubUnreachable(f"cannot {verb} {repo_id}: the Hub does not answer ({type(error).__name__})") from error
    except hf.EntryNotFoundError as error:
        raise HubError(f"{repo_id} lacks a file that its listing names: try again later") from error
    except OSError as error:
        raise HubError(f"cannot {verb} {repo_id}: {error.strerror or str(error).splitlines()[0]}") from error
    except (ValueError, RuntimeError) as error:
        raise HubError(f"cannot {verb} {repo_id}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error


def _status_error(error: Any, repo_id: str, verb: str) -> HubError:
    status = error.response.status_code if error.response is not None else 0
    if status == 401:
        from huggingface_hub import get_token

        why = "the Hub does not accept the token" if get_token() else "that needs a token, and there is none"
        return HubError(f"cannot {verb} {repo_id}: {why}: `hf auth login`, or set HF_TOKEN")
    if status == 403:
        return HubError(f"cannot {verb} {repo_id}: the token may not do that: it needs write access there")
    if status in (409, 412):
        return HubError(f"cannot {verb} {repo_id}: it changed meanwhile: look at it and try again")
    if status in PASSING:
        return HubUnreachable(f"cannot {verb} {repo_id}: the Hub answered {status} each time: try again later")
    return HubError(f"cannot {verb} {repo_id}: the Hub answered {status}")
