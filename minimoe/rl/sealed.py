"""The process that an answer runs in: limits, imports, seal, program. `sandbox` starts this file as a script.

Nothing of the course is imported here, and little of the standard library: the process lives for some hundredths of a
second. Its orders come through its standard input, in front of what the program will read there. Everything that needs
a file is done before the seal: the program is compiled and the modules whose names occur in it are imported. After the
seal the program has the interpreter to itself, this file's leftovers included. None of them is trusted again: the
parent believes the kernel (how the process ended, what it used) and what stands in the program's output, as text.

Where no seal exists, a hook of the interpreter refuses what goes beyond computing. It stops what is written plainly,
and a program that looks for a way round it finds one (PEP 578 says so itself).

How the production version differs: the program is a file in a container of its own image, so that it may have any
language and any library; starting one costs tens to hundreds of milliseconds.
"""

import builtins
import marshal
import os
import sys

__all__ = ["main"]

# Importing runs a module's code before the seal. These say or show something; no other one of Python 3.11 opens a file
# to write, starts a process or connects while it is imported. Modules called __main__ would run, and are left out too.
SILENT = {"this", "antigravity", "turtle", "turtledemo", "idlelib", "tkinter", "site"}
# Modules that others import only when they are first needed, which after the seal is too late.
LATE = {"datetime": "_strptime", "time": "_strptime", "concurrent": "concurrent.futures.thread"}
NOBODY = 65534
SET_SECCOMP, FILTER, SET_NO_NEW_PRIVILEGES, SET_DEATH_SIGNAL, KILL_SIGNAL, SET_DUMPABLE = 22, 2, 38, 1, 9, 4
# Where there is no seal, events of the interpreter that begin like these are refused.
BEYOND = (
    "open", "import", "os.", "shutil.", "glob.", "tempfile.", "pathlib.", "mmap.", "fcntl.", "resource.", "syslog.",
    "socket.", "subprocess.", "pty.", "signal.", "ctypes.", "gc.get_", "sys._", "sys.set", "code.__new__",
    "webbrowser.", "urllib.", "http.", "ftplib.", "smtplib.", "sqlite3.", "winreg.", "_winapi.", "msvcrt.",
)  # fmt: skip


def read_orders() -> dict:
    """The orders: eight bytes of length, then a marshalled dict. What follows is left for the program to read."""
    data, missing = b"", int.from_bytes(os.read(0, 8), "big")
    while missing > len(data):
        data += os.read(0, missing - len(data))
    return marshal.loads(data)


def set_limits(orders: dict) -> None:
    """The kernel's limits for one process, each where this system has it."""
    try:
        import _signal
        import resource
    except ImportError:  # Windows
        return
    limits = {
        "RLIMIT_AS": orders["memory_bytes"],
        "RLIMIT_CPU": orders["cpu_s"],
        "RLIMIT_FSIZE": orders["output_bytes"] + 1,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_NPROC": 0,
    }
    for name, value in limits.items():
        try:
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        except (AttributeError, ValueError, OSError):
            continue
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)  # Python ignores it, and would print on


def names_in(code) -> set[str]:
    """Every name that a compiled program uses, its functions' included: modules to import are among them."""
    names, waiting = set(), [code]
    while waiting:
        part = waiting.pop()
        names.update(part.co_names, (value for value in part.co_consts if isinstance(value, str)))
        waiting.extend(value for value in part.co_consts if hasattr(value, "co_names"))
    return names


def import_modules(names: set[str]) -> None:
    """Import those names that are modules of the standard library. What fails fails again where the program says it."""
    allowed = sys.stdlib_module_names - SILENT
    wanted = [name for name in names if name.split(".")[0] in allowed and "__main__" not in name]
    wanted += [LATE[name] for name in wanted if name in LATE]
    if sys.version_info >= (3, 12):
        wanted.append("_pylong")  # division of long integers
    for name in wanted:
        try:
            __import__(name)
        except Exception:
            continue


def drop_root() -> None:
    """Root becomes nobody: a second wall, for limits that do not bind root. Where that may not be, the seal is left."""
    if getattr(os, "geteuid", lambda: 1)() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError:
            return


def seal(program: bytes, parent: int) -> None:
    """No longer root, to die with the parent, and the filter, for good. Raises OSError if the kernel takes none."""
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]

    drop_root()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    prctl(SET_DUMPABLE, 0, 0, 0, 0)  # a crash is an everyday matter here: no core file, and no crash reporter
    prctl(SET_DEATH_SIGNAL, KILL_SIGNAL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    filtered = Program(len(program) // 8, program)
    no_more = prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if no_more or prctl(SET_SECCOMP, FILTER, ctypes.addressof(filtered), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")


def guard() -> None:
    """Refuse, inside the interpreter, events that go beyond computing."""

    def refuse(event, arguments):
        opens_a_stream = event == "open" and isinstance(arguments[0], int)
        if event.startswith(BEYOND) and not opens_a_stream:
            raise PermissionError(f"{event} is refused here")

    sys.addaudithook(refuse)


def main() -> None:
    """Read the orders, carry them out, and run the program as `__main__`."""
    orders = read_orders()
    set_limits(orders)
    sys.argv = ["answer.py"]
    builtins.exit = builtins.quit = sys.exit  # otherwise the work of `site`, which is not loaded
    try:
        code = compile(orders["source"], "<answer>", "exec")
        import_modules(names_in(code))
        if orders["filter"]:
            seal(orders["filter"], orders["parent"])
        else:
            guard()
        sys.modules["__main__"] = module = type(sys)("__main__")
        exec(code, module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        sys.excepthook(type(error), error.with_traceback(error.__traceback__.tb_next), error.__traceback__)
        sys.exit(1)


if __name__ == "__main__":
    main()
