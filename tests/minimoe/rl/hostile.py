"""Programs that try to harm or to hang the one who runs them, or to be paid for nothing.

`expected` is how the sandbox must say that the program ended ("or" where versions of Python differ). `bare` marks
those that the tests also run without a sandbox, to see that they do harm there. Targets ($CANARY, $PORT and so on) are
filled in by `witness.Witness`.

Do not run these by hand: some take a machine down.
"""

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Hostile:
    name: str
    attempt: str
    source: str
    expected: str
    bare: bool = False
    wall_s: float = 120.0  # where the processor's limit is what binds, however busy the machine


def _(name, attempt, expected, source, **options):
    return Hostile(name, attempt, dedent(source).strip() + "\n", expected, **options)


SYSCALL = "import ctypes\nlibc = ctypes.CDLL(None)\n"  # machine code at will, past all of Python

HOSTILE = [
    # --- time
    _("endless loop", "never end", "timeout", "while True: pass"),
    _("sleep", "never end, at no cost", "timeout", "import time\ntime.sleep(10**6)", wall_s=1.0),
    _("infinite generator", "sum what has no end", "timeout", "import itertools\nsum(itertools.count())"),
    _("regex blow-up", "match in exponential time, inside C", "timeout",
      "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')"),
    _("integer tower", "compute 9**9**9", "timeout", "n = 9\nprint(n ** n ** n)"),
    _("digits of an integer", "lift the limit on digits and print millions of them", "timeout",
      "import sys\nsys.set_int_max_str_digits(0)\nprint(str(1 << 30_000_000))"),
    _("catches everything", "go on after every exception and signal", "timeout", """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True:
            try:
                while True: pass
            except BaseException: pass
      """),
    _("loop in atexit", "never end after the end", "timeout",
      "import atexit\n@atexit.register\ndef stay():\n    while True: pass"),
    _("loop in __del__", "never end while being deleted", "timeout", """
        class Stay:
            def __del__(self):
                while True: pass
        stay = Stay()
      """),
    _("closes its streams", "hang a reader that waits for the end of the output", "timeout",
      "import os, time\nfor fd in range(3): os.close(fd)\ntime.sleep(10**6)", wall_s=1.0),
    _("reads without end", "wait for input that never comes", "timeout", "import os\nwhile True: os.read(0, 1)"),
    _("deadlock", "wait for its own lock", "timeout",
      "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", wall_s=1.0),
    _("slow compilation", "be expensive before the first line runs", "memory or error or crash",
      "x = " + "-" * 200_000 + "1"),
    # --- memory
    _("one huge list", "80 GB at once", "memory", "x = [0] * 10**10"),
    _("growing buffer", "fill the memory bit by bit", "memory",
      "x = []\nwhile True: x.append(bytearray(10**7))"),
    _("anonymous map", "memory from the kernel directly", "memory", "import mmap\nx = mmap.mmap(-1, 2**36)"),
    _("decompression bomb", "1 GB out of 1 MB", "memory",
      "import zlib\nx = zlib.compress(bytes(10**8), 1) \nx = b''.join(zlib.decompress(x) for _ in range(10))"),
    _("shared memory", "leave memory behind that outlives the process", "forbidden", """
        import _posixshmem, os
        os.ftruncate(_posixshmem.shm_open('/$TOKEN', os.O_CREAT | os.O_RDWR, mode=0o600), 10**6)
      """, bare=True),
    _("deep recursion", "recurse without a limit in Python", "timeout or memory", """
        import sys
        sys.setrecursionlimit(2**31 - 1)
        def f(): return f() + 1
        f()
      """),
    _("deep recursion in C", "break the stack of the interpreter", "crash or error", """
        import sys
        sys.setrecursionlimit(2**31 - 1)
        x = y = 0
        for _ in range(200_000): x, y = [x], [y]
        x == y
      """),
    # --- output
    _("endless print", "fill the disk", "output", "while True: print('a' * 1000)"),
    _("one huge line", "fill the parent's memory", "output", "print('a' * 10**8)"),
    _("flood of stderr", "fill the other stream", "output", "import sys\nwhile True: sys.stderr.write('a' * 1000)"),
    _("ignores the output limit", "go on printing when told to stop", "output", """
        import os, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        while True:
            try: os.write(1, b'a' * 10**6)
            except OSError: pass
      """),
    # --- processes
    _("fork bomb", "as many processes as the machine can hold", "forbidden", "import os\nwhile True: os.fork()"),
    _("shell fork bomb", "the same, by a shell", "forbidden", "import os\nos.system(':(){ :|:& };:')"),
    _("thread bomb", "as many threads as the machine can hold", "forbidden", """
        import threading, time
        while True: threading.Thread(target=time.sleep, args=(10**6,)).start()
      """),
    _("daemon", "fork twice, leave the session and live on", "forbidden", """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in range(3): os.close(fd)
                time.sleep(60)
            os._exit(0)
      """, bare=True),
    _("leaves its process group", "be where the parent's kill does not reach", "forbidden",
      "import os\nos.setpgid(0, os.getpgid(os.getppid()))\nwhile True: pass"),
    _("starts a program", "touch a file by another program", "forbidden",
      "import subprocess\nsubprocess.run(['touch', '$FOLDER/made'])", bare=True),
    _("becomes a program", "replace itself by a shell", "forbidden",
      "import os\nos.execv('/bin/sh', ['sh', '-c', 'echo x > $FOLDER/made'])", bare=True),
    _("posix_spawn", "start a program without fork", "forbidden",
      "import os\nos.posix_spawn('/bin/sh', ['sh', '-c', 'echo x > $FOLDER/made'], {})\nos.wait()", bare=True),
    _("multiprocessing", "start a pool of workers", "forbidden", """
        import multiprocessing, multiprocessing.popen_fork
        multiprocessing.get_context('fork').Process(target=print).start()
      """),
    # --- signals
    _("kills its parent", "a signal to the one who judges", "forbidden",
      "import os, signal\nos.kill(os.getppid(), signal.SIGTERM)", bare=True),
    _("signals everybody", "a signal to every process there is", "forbidden",
      "import os, signal\nos.kill(-1, signal.SIGCONT)"),
    _("signal by file owner", "make a descriptor send signals to the parent", "forbidden", """
        import fcntl, os
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())
        fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC)
      """),
    _("pidfd", "signal the parent through a descriptor", "forbidden",
      "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGUSR1)", bare=True),
    _("alarm", "set a timer to escape a handler", "forbidden",
      "import signal\nsignal.setitimer(signal.ITIMER_REAL, 1)"),
    _("stops itself", "be stopped for ever instead of ending", "forbidden",
      "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    _("traces its parent", "ptrace the judge", "forbidden",
      SYSCALL + "import os\nlibc.ptrace(16, os.getppid(), 0, 0)"),
    _("parent's memory", "write into the judge through /proc", "forbidden",
      "import os\nopen(f'/proc/{os.getppid()}/mem', 'r+b', buffering=0).write(b'x')"),
    # --- files
    _("writes a file", "leave a file", "forbidden", "open('$FOLDER/made', 'w').write('x')", bare=True),
    _("changes a file", "overwrite the judge's own code", "forbidden", "open('$CANARY', 'w').write('x')", bare=True),
    _("deletes a file", "remove the judge's own code", "forbidden", "import os\nos.remove('$CANARY')", bare=True),
    _("removes a tree", "remove everything", "forbidden",
      "import shutil\nshutil.rmtree('$FOLDER')", bare=True),
    _("reads a file", "read what is not given, the tests for example", "forbidden",
      "print(open('$CANARY').read())", bare=True),
    _("reads the accounts", "read /etc/passwd", "forbidden", "print(open('/etc/passwd').read())"),
    _("lists a folder", "see what there is", "forbidden", "import os\nprint(os.listdir('/'))"),
    _("reads the environment", "find keys and passwords", "ok",
      "import os\nprint(dict(os.environ))", bare=True),
    _("parent's environment", "find them in /proc", "forbidden",
      "import os\nprint(open(f'/proc/{os.getppid()}/environ', 'rb').read())"),
    _("temporary file", "leave a file where everybody may", "forbidden",
      "import tempfile\nprint(tempfile.NamedTemporaryFile(dir='$FOLDER', delete=False).name)", bare=True),
    _("symbolic link", "lead others to another file", "forbidden",
      "import os\nos.symlink('/etc/passwd', '$FOLDER/link')", bare=True),
    _("changes a mode", "make the judge's file unreadable", "forbidden",
      "import os\nos.chmod('$CANARY', 0)", bare=True),
    _("named pipe", "leave a pipe that hangs its reader", "forbidden",
      "import os\nos.mkfifo('$FOLDER/pipe')", bare=True),
    _("file in memory", "a file without a name, to be run", "forbidden",
      "import os\nos.execv(os.memfd_create('x'), ['x'])"),
    _("uses up descriptors", "open until nothing can be opened", "error",
      "import os\nfor fd in range(3, 10**6): os.dup2(1, fd)"),
    _("rewinds its input", "read again what came before its input", "error",
      "import os\nos.lseek(0, 0, 0)\nprint(os.read(0, 10**6))"),
    # --- network
    _("connects", "send something to a port of this machine", "forbidden",
      "import encodings.idna, socket\nsocket.create_connection(('127.0.0.1', $PORT))", bare=True),
    _("listens", "open a port", "forbidden", "import socket\nsocket.create_server(('127.0.0.1', 0))"),
    _("fetches a page", "fetch by urllib", "forbidden", """
        import encodings.idna, urllib.request
        try: urllib.request.urlopen('http://127.0.0.1:$PORT', timeout=0.2)
        except TimeoutError: pass
      """, bare=True),
    _("datagram", "send a packet", "forbidden",
      "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', $PORT))"),
    _("unix socket", "talk to a daemon of this machine", "forbidden",
      "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0$TOKEN')", bare=True),
    # --- the interpreter
    _("null pointer", "crash by ctypes", "crash", "import ctypes\nctypes.string_at(0)"),
    _("system call by number", "fork past Python", "forbidden", SYSCALL + "libc.syscall(57 + 0x40000000)\nlibc.fork()"),
    _("io_uring", "have the kernel open files on its behalf", "forbidden", SYSCALL + "libc.syscall(425, 8, 0)"),
    _("new namespaces", "become root of a world of its own", "forbidden", SYSCALL + "libc.unshare(0x10000000)"),
    _("lifts its limits", "set a limit higher", "forbidden",
      "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))"),
    _("executable memory", "write machine code and jump into it", "forbidden",
      "import mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).write(b'\\xc3')"),
    _("broken bytecode", "read and write memory by bytecode that no compiler made", "crash",
      "def f(): pass\nf.__code__ = f.__code__.replace(co_code=bytes([100, 255] * 1000))\nf()"),
    _("subclass walk", "find a way to open files without an import", "forbidden", """
        kinds = {object}
        for _ in range(5): kinds |= {kind for above in kinds for kind in type.__subclasses__(above)}
        [raw] = [kind for kind in kinds if kind.__name__ == 'FileIO']
        print(raw('$CANARY').read())
      """, bare=True),
    _("sys.modules", "find a module that was not imported", "forbidden",
      "import sys\nsys.modules['posix'].system('echo x > $FOLDER/made')", bare=True),
    _("importlib", "import a file as a module", "forbidden", """
        import importlib.util
        spec = importlib.util.spec_from_file_location('canary', '$CANARY')
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
      """),
    _("pickle", "a command hidden in a pickle", "forbidden",
      "import pickle\npickle.loads(b\"cos\\nsystem\\n(S'echo x > $FOLDER/made'\\ntR.\")", bare=True),
    _("opens a browser", "import a module for what it does", "error", "import antigravity"),
    _("real-time priority", "take the processor from everybody", "forbidden", """
        import os
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
      """),
    # --- the verdict
    _("ends early", "end with exit code 0 before anything was tested", "ok", "import os\nos._exit(0)"),
    _("claims success", "print the verdict itself", "ok", "print('PASSED 1.0')\nprint('[\"ok\"]')"),
    _("looks for the answer", "find the expected output in memory", "ok", """
        import gc, sys
        frame = sys._getframe()
        while frame: print(frame.f_locals); frame = frame.f_back
        for thing in gc.get_objects():
            if type(thing) in (dict, list, tuple) and 'expected' in str(thing)[:10**5]: print(str(thing)[:1000])
      """),
    _("exits as success", "raise SystemExit(0) from deep inside", "ok", "raise SystemExit(0)"),
    _("rewrites the runner", "replace what runs after it", "ok", """
        import sys
        runner = sys._getframe(1)
        runner.f_globals.update(main=print, sys=None)
        sys.excepthook = lambda *_: sys.exit(0)
        1 / 0
      """),
]  # fmt: skip
