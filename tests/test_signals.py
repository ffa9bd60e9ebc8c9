"""A signal only asks to stop; a second one ends the program, and afterwards all is as it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

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


AMID_AN_IMPORT = """
import os, signal, time
for _ in range({signals}):
    signal.raise_signal(signal.SIGINT)
whole = True
"""


@pytest.mark.parametrize(("signals", "ends"), [(1, (7, "whole\n", "")), (2, (130, "", "jcl: error: interrupted\n"))])
def test_a_signal_amid_an_import_comes_when_it_is_done_and_a_second_at_once(tmp_path: Path, signals: int, ends):
    """Compiled modules call Python from where an error has C++ abort (seen: exit code -6, torch.distributed)."""
    tmp_path.joinpath("slow.py").write_text(AMID_AN_IMPORT.format(signals=signals))
    program = (
        "import sys, time\nfrom jcl.signals import handled, raise_once\n"
        "with handled(raise_once):\n"
        "    try:\n        import slow; time.sleep(60)\n"
        "    except KeyboardInterrupt: print('whole' if slow.whole else 'torn'); sys.exit(7)"
    )
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, env=where)
    assert (done.returncode, done.stdout, done.stderr) == ends


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
