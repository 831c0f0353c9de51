"""The catalogue: one network function a file, written in the language and nothing else.

A module's docstring is its manual, with the same sections in the same order (what it does, ports, configuration,
tables, counters, drop reasons, actions, limits); `docs/functions/` shows it word for word.  Nothing is registered
here: whoever wants a switch imports `iovisor.functions.switch`, so that a new function changes no other file.
"""
