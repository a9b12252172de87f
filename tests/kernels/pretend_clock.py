"""A clock for the bench where there is no GPU. The explorers' tests run this file too, also inside a notebook."""


class PretendClock:
    """A clock that measures nothing, so that the bench can be tested without a GPU: it calls, and says `us`.

    Its method is no GPU's, and its environment lacks a driver and versions: twice a reason why no record of it is ever
    written. A test that needs a record which reads as valid says so by giving both, and writes below tmp_path.
    """

    l2, device = "cold", "cpu"

    def __init__(self, us=200.0, env=None, method="pretended"):
        self.us, self.method, self.called = us, method, []
        self._env = {"gpu": "NVIDIA H100 80GB HBM3", "arch": 90} | (env or {})

    def sample(self, call):
        call()
        self.called.append(call)
        return [self.us * factor for factor in (0.9, 1.0, 1.2)]

    def peak_bytes(self, call):
        return 1000

    def roofs(self, dtype):
        return 700.0, 3000.0

    def env(self):
        return dict(self._env)


VERSIONS = {"driver": "580.1", "cuda": "13.0", "torch": "2.13.0", "triton": "3.7.1", "python": "3.11.9"}


def believable(us=200.0):
    """A pretending clock whose records are accepted: pretend it is a GPU's."""
    return PretendClock(us, VERSIONS, "events")
