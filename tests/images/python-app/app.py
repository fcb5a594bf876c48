"""Says what it runs on, in words that the `humanize` package makes."""

import os
import platform

import humanize

GREETING = "Hello from Strata"

if __name__ == "__main__":
    status = os.statvfs("/")
    print(f"{GREETING}: Python {platform.python_version()} as pid {os.getpid()} on {platform.node()}")
    print(f"the {humanize.ordinal(os.getpid())} process sees a disk of {humanize.naturalsize(status.f_blocks * status.f_frsize)}")
