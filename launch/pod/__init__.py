"""Launchers: python -m launch.pod.NAME ... -- launch.NAME ... runs a script on many machines."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # these import little: `command` takes it
