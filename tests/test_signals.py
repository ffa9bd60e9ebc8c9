"""A signal only asks to stop; a second one ends the program, and afterwards all is as it was."""

import os
import signal
import subprocess
import sys

import pytest

from jcl.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_asks_and_a_second_ends(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_from_the_first_import_on_a_signal_ends_the_program_with_130(number: int):
    program = (
        "import gc, os, sys, time; from jcl.signals import answer_from_now_on; answer_from_now_on(); gc.collect();"
        f"os.kill(os.getpid(), {int(number)}); time.sleep(5)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "jcl: error: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_a_signal_ends_a_program_that_is_held_up_outside_of_python():
    program = (
        "import ctypes, threading, time, os, signal; from jcl import signals;"
        "signals.answer_from_now_on(); signals.end_soon(0.2); library = ctypes.CDLL(None);"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start();"
        "mutex = ctypes.create_string_buffer(256)\n"
        "with signals.handled(signals.raise_once): [library.pthread_mutex_lock(mutex) for _ in range(2)]"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "jcl: error: interrupted\n")


AT_THE_END = """
import atexit, os, signal, threading, time
from jcl.signals import answer_from_now_on, end_soon
def ask():
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    time.sleep(0.2)
atexit.register(ask)  # called last, when the command has said that it is done
answer_from_now_on()
end_soon(60)
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_what_is_done_is_not_undone_by_a_signal_at_the_very_end():
    """The program's other threads take signals as well, and Python gives Ctrl-C its first effect back as it ends."""
    ended = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
