"""Worker processes that do not outlive the process that started them."""

import multiprocessing
import os
import threading

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """From now on this process ends when its parent does, however that ends.

    Call it in a process that `multiprocessing` started; in any other it does nothing.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
