"""The kernels that execute notebooks in bulk: of this Python, their sockets and settings in folders of their own."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from traitlets import default
from traitlets.config import Config

from ddpm_utils.networks.cpu import TUNABLES, VARIABLE
from ddpm_utils.system.surroundings import kernel_settings

SOCKET = "kernel.json-ipc-5"  # as long as the names of sockets get
HANGS = 600  # seconds after which a kernel that has not started, or a cell's last output, is given up
LONGEST = 100  # bytes of a socket's path; Linux allows 107, macOS 103


class OwnKernelManager(AsyncKernelManager):
    """jupyter_client's, which starts the Python that runs, whatever kernels the user has installed."""

    @default("kernel_spec_manager")
    def _find_no_others(self) -> KernelSpecManager:
        specs = KernelSpecManager(parent=self)
        specs.kernel_dirs = []
        return specs


class ObservedEngine(Engine):
    """papermill's engine, with an environment and a log for the kernel, and a word before each cell."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man,
        kernel_name: str,
        *,
        on_cell: Callable[[int], None],
        environment: dict[str, str],
        log: IO[bytes],
        **options: Any,
    ):
        """See `papermill.engines.Engine`."""
        start = nb_man.cell_start

        def announce(cell, cell_index=None, **more):
            on_cell(cell_index + 1)
            return start(cell, cell_index, **more)

        nb_man.cell_start = announce
        with own_folder() as (folder, transport):
            config = Config(KernelManager=transport | {"connection_file": f"{folder}/kernel.json"})
            client = PapermillNotebookClient(
                nb_man,
                timeout=None,
                startup_timeout=HANGS,
                iopub_timeout=HANGS,  # by default outputs that come four seconds after a cell's end are lost
                kernel_name=kernel_name,
                kernel_manager_class=OwnKernelManager,
                config=config,
            )
            return client.execute(env=environment | {"IPYTHONDIR": f"{folder}/ipython"}, stderr=log)


papermill_engines.register("observed", ObservedEngine)


@contextlib.contextmanager
def own_folder() -> Iterator[tuple[str, dict[str, str]]]:
    """Make a temporary folder for one kernel: kernels that share one mix up their sockets, and share a user's settings.

    Yields:
        the folder, and a kernel manager's settings. Its sockets are files in the folder, which nobody else can connect
        to; if every path is too long for a socket, and on Windows, they are ports of this machine, behind a key.
    """
    places = dict.fromkeys([tempfile.gettempdir(), "/tmp"])
    fitting = [place for place in places if _fits(place) and os.access(place, os.W_OK | os.X_OK)]
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=next(iter(fitting), None)) as folder:
        yield folder, {"transport": "ipc"} if fitting else {}


def _fits(place: str) -> bool:
    """Whether a kernel's sockets in a temporary folder there can have their names."""
    return os.name == "posix" and len(os.fsencode(os.path.join(place, "kernel-12345678", SOCKET))) <= LONGEST


def environment(threads: int, output: str, convolution: str = "") -> dict[str, str]:
    """Return the environment of a kernel.

    Args:
        threads: how many cores it may use.
        output: the folder that its runs and figures are written below.
        convolution: the form of the networks' 7×7 layers, see `networks.cpu`; "" leaves it to the kernel.
    """
    settings = {"GLIBC_TUNABLES": TUNABLES} | kernel_settings()  # see `keep_freed_memory`
    settings |= {VARIABLE: convolution} if convolution else {}
    return settings | {"OMP_NUM_THREADS": str(threads), "DDPM_OUTPUT": output}
