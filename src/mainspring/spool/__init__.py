"""Spool: what a training process logs, kept on its own disk until the server has it.

A plug-in of the `mlflow` client. Where the environment names a spool (`MAINSPRING_SPOOL`), calls
that write return as soon as a local file has them, and a thread sends them in order. A server that
is slow or away, or a killed process, costs training neither time nor points.
"""
