"""The driver of a run whose storage root is in an object store: beside the lock of the copy it
holds a lease among all machines, and publishes what the run writes every few seconds."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from orchestrator.runs import lease, objects
from orchestrator.runs.driver import Driver, DriverFile
from orchestrator.runs.lease import Lease
from orchestrator.runs.mirror import Mirror
from systems.errors import UserError

INTERVAL = 5.0  # seconds between two publications: at most 10 s of reports are lost with a machine


class PublishingDriver:
    """The driver of a run in a copy of a root (see :class:`orchestrator.runs.driver.Driver`).

    Raises:
        UserError: another process drives the run, here or elsewhere, or the store cannot be
            reached or refuses.
    """

    def __init__(self, mirror: Mirror, run: Path) -> None:
        """Args:
        mirror: the root and its copy.
        run: the run directory, in the copy.
        """
        self.mirror, self.run = mirror, run
        self.address = f"{mirror.address}/{run.name}"
        slate = mirror.lease(run.name)
        here = DriverFile(run).read().get("generation", 0)
        self.lease = Lease(slate, self.address, above=here)
        theirs = self.lease.generation > here + 1  # another machine has driven it since
        try:
            self.local = Driver(run, above=self.lease.generation - 1)
        except BaseException:
            self.lease.close()
            raise
        self.generation, self.note = self.local.generation, self.local.note
        self.lease.on_loss = self._pass_on
        self._published, self._problem = time.monotonic(), ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="publisher", daemon=True)
        try:
            mirror.fetch(f"{run.name}/", theirs=theirs)
        except BaseException:
            self._give_up()
            raise
        self._thread.start()

    def check(self) -> None:
        """Raise UserError where the store has stayed away for too long."""
        if self._problem and time.monotonic() - self._published > objects.PATIENCE:
            raise UserError(self._unpublished())

    def close(self) -> None:
        """Publish what is left and give the run up.

        Raises:
            UserError: it cannot be published; it is kept in the copy.
        """
        self._closing.set()
        self._thread.join()
        self._publish(None)
        self._give_up()
        if self._problem:
            raise UserError(self._unpublished())

    def _give_up(self) -> None:
        self.lease.close()
        self.local.close()

    def _follow(self) -> None:
        while not self._closing.wait(INTERVAL):
            self._publish(f"{self.run.name}/trials/")  # trainings publish their own files

    def _publish(self, but: str | None) -> None:
        began = time.monotonic()
        try:
            if began - self.lease.renewed > lease.LAPSE / 2:
                self.lease.renew()  # another may have it by now
            if not self.lease.lost:
                self.mirror.publish(f"{self.run.name}/", but)
        except (UserError, OSError) as error:
            self._problem = str(error)
        else:
            self._problem, self._published = "", began

    def _pass_on(self) -> None:
        """Let all that runs for this driver see in the copy that another has the run."""
        file, new = DriverFile(self.run), self.lease.slate.read()
        while not file.replace(file.read(), new):
            pass  # renewed in between

    def _unpublished(self) -> str:
        return (
            f"{self._problem} What is done is kept in {self.run}: when the store answers, "
            f"`soundsweep run --resume {self.address}` on this machine publishes it and goes on."
        )
