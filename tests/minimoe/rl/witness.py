"""What a hostile program would like to reach, and whether it was reached.

A file that anybody may read and change, a folder that anybody may write to, a secret in the environment, a listening
port, a Unix socket without a name in the file system, a parent that counts signals. All of it really is within reach:
the same programs run without a sandbox do reach it (the tests do that, for those that leave a machine in order).
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from string import Template

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGIO", "SIGHUP", "SIGCONT")


class Witness:
    """Sets the scene on entering, and `harm()` says what has changed. Linux, main thread."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name).resolve()
        self.folder.chmod(0o777)
        self.token, self.secret = f"token{secrets.token_hex(8)}", f"secret{secrets.token_hex(8)}"
        self.canary = self.folder / "canary.py"
        self.canary.write_text(self.secret)
        self.canary.chmod(0o666)
        self.tempdir, tempfile.tempdir = tempfile.tempdir, str(self.folder)  # where a sandbox has its files and stands
        os.environ["MINIMOE_SECRET"] = self.secret
        self.listening = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
        self.listening[1].bind("\0" + self.token)
        self.listening[1].listen()
        self.port = self.listening[0].getsockname()[1]
        self.signals = []
        self.handlers = {name: signal.signal(getattr(signal, name), self._count) for name in SIGNALS}
        self.children = self._children()
        return self

    def __exit__(self, *_):
        for pid in self.survivors():
            os.kill(pid, signal.SIGKILL)
        for name, handler in self.handlers.items():
            signal.signal(getattr(signal, name), handler)
        for listening in self.listening:
            listening.close()
        del os.environ["MINIMOE_SECRET"]
        tempfile.tempdir = self.tempdir
        Path("/dev/shm", self.token).unlink(missing_ok=True)
        self.folder.mkdir(exist_ok=True)
        self._folder.cleanup()

    def _count(self, number, _frame):
        self.signals.append(signal.Signals(number).name)

    def _children(self):
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    def aim(self, source: str) -> str:
        """The source with its targets filled in: $CANARY, $FOLDER, $PORT, $TOKEN."""
        targets = {"CANARY": self.canary, "FOLDER": self.folder, "PORT": self.port, "TOKEN": self.token}
        return Template(source).safe_substitute(targets)

    def survivors(self) -> list[int]:
        """Processes that stand in the folder, as every one does that a program in it started."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if Path(entry, "cwd").readlink() == self.folder and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
            except OSError:  # not ours, or gone
                continue
        return found

    def harm(self, printed: str = "") -> list[str]:
        """Everything that is not as it was on entering, in words."""
        harm = [f"signal {name} arrived" for name in self.signals]
        harm += [f"process {pid} is left" for pid in self.survivors()]
        harm += [f"child {pid} is left" for pid in self._children() - self.children]
        content = self.canary.read_text() if self.canary.exists() else None
        if content != self.secret:
            harm.append("the file is gone" if content is None else "the file was changed")
        elif self.canary.stat().st_mode & 0o777 != 0o666:
            harm.append("the file's mode was changed")
        left = self.folder.iterdir() if self.folder.exists() else []
        harm += [f"{path.name} is left" for path in left if path != self.canary]
        if Path("/dev/shm", self.token).exists():
            harm.append("shared memory is left")
        for listening in self.listening:
            listening.setblocking(False)
            try:
                listening.accept()[0].close()
                harm.append("a connection was made")
            except BlockingIOError:
                pass
        if self.secret in printed:
            harm.append("the secret was read")
        return harm

    def run_bare(self, source: str) -> list[str]:
        """The harm that a program does without a sandbox."""
        command = [sys.executable, "-S", "-c", self.aim(source)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return self.harm(done.stdout + done.stderr)
