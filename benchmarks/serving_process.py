"""A server as a process of its own, for benchmarks: started, found to be well, and ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from command import HEADWATER

TRANSFORMERS = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve"]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def headwater_command(model: Path, port: int, precision: str, *more: str) -> list[str]:
    """`headwater serve` of a model's folder."""
    return [*HEADWATER, "serve", str(model), "--port", str(port), "--precision", precision, *more]


def transformers_command(model: Path, port: int, precision: str) -> list[str]:
    """`transformers serve` of the same folder, which it loads before it listens."""
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    return [*TRANSFORMERS, str(model), "--port", str(port), "--device", "cpu", "--dtype", dtype]


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, threads: int, seconds: float = 600.0, says: Path = Path(os.devnull)
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once `/health` answers; it is ended afterwards. What it says goes into the file `says`."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    with says.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        end = time.monotonic() + seconds
        while not is_well(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"this server does not start: {' '.join(command)}")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_well(port: int) -> bool:
    """Whether `/health` answers 200."""
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
