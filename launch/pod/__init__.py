"""Launchers: python -m launch.pod.NAME ... -- launch.NAME ... runs a script on many machines."""

import signal

if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # these import little
